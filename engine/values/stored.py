"""The stored form of a value: what events, envelopes and the dispatcher carry.

Rule of this room: data only. How a value gets its stored form and back is in the other modules
of this package; nodes and graphs are unknown here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

Scalar = None | bool | int | float | str
"""Immutable JSON values; ints within 64 bits and texts of moderate size are their own form."""


class Encoded(msgspec.Struct, frozen=True, array_like=True, tag="e"):
    """One value in the bytes of a codec.

    `codec` names the codec (`json`, `bytes`, `numpy`, ...). Exactly one of `data` (inline) and
    `digest` (BLAKE3 hex of a blob in the catalog) is set. `size` is in bytes. `meta` is the
    codec's own (a file's name, a dtype).
    """

    codec: str
    data: bytes | None
    digest: str | None
    size: int
    meta: str = ""


class Compound(msgspec.Struct, frozen=True, array_like=True, tag="c"):
    """A list, tuple or dict whose items are stored values: what a map or a tuple result is.

    `keys` are the keys of a dict, in order, empty else. `parts` is one value in several pieces:
    item 0 is its JSON, which refers to the others by position (values/writing.py).
    """

    kind: Literal["list", "tuple", "dict", "parts"]
    items: tuple[Stored, ...]
    keys: tuple[str, ...] = ()


class Live:
    """A live object passed by reference: memory engine and in-process backends only.

    It has no bytes. An encoder that meets one refuses (TypeError).
    """

    __slots__ = ("value",)

    def __init__(self, value: object) -> None:
        self.value = value


Durable = None | bool | int | float | str | Encoded | Compound
if TYPE_CHECKING:
    Stored = None | bool | int | float | str | Encoded | Compound | Live
else:
    # What decoders accept: a live object never comes out of bytes.
    Stored = Durable

INLINE_LIMIT = 32 * 1024
"""Bytes up to which an encoded value stays in its event; larger ones become blobs."""
