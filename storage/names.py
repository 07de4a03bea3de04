"""Grammar of what stores are asked for: record names, prefixes, digests.

Rule of this room: no I/O; anything outside the grammar is refused with StoreError, never mended.
"""

from __future__ import annotations

import re
from typing import Final

from onready.engine.errors import StoreError

_PART: Final = r"(?!\.\.?(?:/|\Z))[A-Za-z0-9_.@=+-]{1,200}"
_NAME: Final = re.compile(rf"{_PART}(?:/{_PART})*\Z")
_PREFIX: Final = re.compile(rf"(?:{_PART}/)*(?:[A-Za-z0-9_.@=+-]{{1,200}})?\Z")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}\Z")
LONGEST: Final = 1024
"""Characters that a record's name may have; one part may have 200."""


def check_name(name: str) -> None:
    """StoreError unless `name` may name a record."""
    if len(name) > LONGEST or _NAME.match(name) is None:
        message = f"not a record's name: {name[:LONGEST]!r}"
        raise StoreError(message)


def check_prefix(prefix: str) -> None:
    """StoreError unless some record's name may begin with `prefix`."""
    last = prefix.rpartition("/")[2]
    if len(prefix) > LONGEST or _PREFIX.match(prefix) is None or last == "..":
        message = f"not the beginning of a record's name: {prefix[:LONGEST]!r}"
        raise StoreError(message)


def check_digest(digest: str) -> None:
    """StoreError unless `digest` is 64 lower-case hex digits."""
    if _DIGEST.match(digest) is None:
        message = f"not a digest: {digest[:80]!r}"
        raise StoreError(message)
