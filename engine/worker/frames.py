"""What a driver and a warm worker say to each other over their socket.

A frame is eight bytes of length and a msgpack array. The driver says Hello once, then one Job at a
time; the worker answers with any number of Progress and one Done per Job.

Rule of this room: data and its bytes; no sockets.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from onready.engine.spi import Failed, Succeeded
from onready.engine.values.stored import Durable

_LENGTH: Final = 8


class Hello(msgspec.Struct, array_like=True, tag="hello"):
    """First frame to a worker: where the driver finds modules."""

    path: list[str]


class Job(msgspec.Struct, array_like=True, tag="job"):
    """One attempt. `catalog` is its address, or "" where the driver moves all blobs itself."""

    reference: str
    codec: str
    run: str
    node: str
    attempt: int
    folder: str
    catalog: str
    inputs: dict[str, Durable]
    secrets: str = ""
    """Settings of the secret providers, where an input is a secret."""


class Progress(msgspec.Struct, array_like=True, tag="progress"):
    """The attempt says how far it is."""

    fraction: float | None
    message: str


class Done(msgspec.Struct, array_like=True, tag="done"):
    """The attempt ended. `folder`: its scratch folder is there, for the driver to remove."""

    outcome: Succeeded | Failed
    folder: bool = False


_encoder: Final = msgspec.msgpack.Encoder()
decode_order: Final[Callable[[bytes], Hello | Job]] = msgspec.msgpack.Decoder(Hello | Job).decode
decode_answer: Final[Callable[[bytes], Progress | Done]] = msgspec.msgpack.Decoder(
    Progress | Done
).decode


def frame(message: Hello | Job | Progress | Done) -> bytearray:
    """The bytes of one frame."""
    buffer = bytearray(_LENGTH)
    _encoder.encode_into(message, buffer, _LENGTH)
    buffer[:_LENGTH] = (len(buffer) - _LENGTH).to_bytes(_LENGTH, "big")
    return buffer


class FrameReader:
    """Takes bytes as they come and gives whole frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The frames that are whole now."""
        buffer = self._buffer
        if not buffer and len(data) == _LENGTH + int.from_bytes(data[:_LENGTH], "big"):
            return [data[_LENGTH:]]  # the common case: one read, one frame
        buffer += data
        frames: list[bytes] = []
        start = 0
        while len(buffer) - start >= _LENGTH:
            end = start + _LENGTH + int.from_bytes(buffer[start : start + _LENGTH], "big")
            if len(buffer) < end:
                break
            with memoryview(buffer) as view:
                frames.append(bytes(view[start + _LENGTH : end]))
            start = end
        del buffer[:start]
        return frames
