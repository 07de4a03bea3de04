"""Values: annotations and their checks, codecs, inline data or blobs, files.

Rule of this room: it knows neither nodes nor graphs, and loads no optional library by itself.
"""

from onready.engine.values.codec import Codec as Codec
from onready.engine.values.files import Dir as Dir
from onready.engine.values.files import File as File
from onready.engine.values.moving import Blobs as Blobs
from onready.engine.values.moving import bring as bring
from onready.engine.values.moving import needs_bringing as needs_bringing
from onready.engine.values.moving import needs_settling as needs_settling
from onready.engine.values.moving import settle as settle
from onready.engine.values.scalars import TEXT_LIMIT as TEXT_LIMIT
from onready.engine.values.scalars import is_scalar as is_scalar
from onready.engine.values.steps import apply_step as apply_step
from onready.engine.values.steps import combine as combine
from onready.engine.values.steps import project as project
from onready.engine.values.summary import summarise as summarise
from onready.engine.values.types import ValueType as ValueType
