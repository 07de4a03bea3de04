"""Which values are their own stored form.

Rule of this room: this one question; every fast path elsewhere answers it the same way.
"""

from __future__ import annotations

from typing import Final, TypeGuard

from onready.engine.values.stored import Scalar

INT_LOW: Final = -(2**63)
INT_HIGH: Final = 2**63 - 1
TEXT_LIMIT: Final = 1024
"""Characters up to which a text is its own stored form."""
_OTHERS: Final = frozenset({type(None), bool, float})


def is_scalar(value: object) -> TypeGuard[Scalar]:
    """Whether `value` is its own stored form: of a scalar class itself, and fit for events."""
    if type(value) is int:
        return INT_LOW <= value <= INT_HIGH
    if type(value) is str:
        return len(value) <= TEXT_LIMIT and (value.isascii() or _is_unicode(value))
    return type(value) in _OTHERS


def _is_unicode(text: str) -> bool:
    """Whether there is no lone surrogate in it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
