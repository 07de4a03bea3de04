"""The codec `bytes`: raw bytes, as they are.

Rule of this room: no copies that are not needed, no interpretation.
"""

from __future__ import annotations

from typing import Final

from onready.engine.values.misfit import no_codec

BYTES: Final = frozenset({bytes, bytearray, memoryview})


class BytesCodec:
    """`bytes`, `bytearray` and one-dimensional views of bytes."""

    name = "bytes"

    def handles(self, kind: type, /) -> bool:
        """The exact classes only."""
        return kind in BYTES

    def encode(self, value: object, /) -> tuple[bytes, str]:
        """The content, and the class where it is not bytes."""
        if isinstance(value, bytes):
            return value, ""
        if isinstance(value, bytearray):
            return bytes(value), "bytearray"
        if isinstance(value, memoryview) and value.format == "B" and value.ndim == 1:
            return value.tobytes(), "memoryview"
        raise no_codec(type(value), "only views of single bytes")

    def decode(self, data: bytes, meta: str, /) -> object:
        """What was encoded."""
        if meta == "bytearray":
            return bytearray(data)
        return memoryview(data) if meta == "memoryview" else data
