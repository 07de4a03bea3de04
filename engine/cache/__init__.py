"""The cache: values of earlier runs, found again by what they were made of.

`key.py` says what counts, `store.py` keeps the values in the catalog, `why.py` explains to people.

Rule of this room: it knows tasks, stored values and catalogs; not rows, runs that go on, or time.
"""

from onready.engine.cache.key import Ingredients as Ingredients
from onready.engine.cache.key import ingredients_of as ingredients_of
from onready.engine.cache.store import Cache as Cache
from onready.engine.cache.store import CacheEntry as CacheEntry
from onready.engine.cache.store import Listed as Listed
from onready.engine.cache.why import Answer as Answer
from onready.engine.cache.why import explain as explain
