"""What a fake container writes, kept as the daemon's `local` log keeps it.

A line is a message with a time stamp. A longer one comes in pieces of 16 KiB with one stamp, and
its last piece has lost its newline, as with the engines up to 20.10 at least.

Rule of this room: bytes in, messages and frames out; no HTTP.
"""

from __future__ import annotations

import asyncio
import os
import struct
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime

PIECE = 16 * 1024


@dataclass(frozen=True, slots=True)
class Message:
    """One message: `stream` is 1 or 2, `at` is in nanoseconds since the epoch."""

    stream: int
    at: int
    data: bytes

    def frame(self, *, stamped: bool) -> bytes:
        """As the daemon sends it."""
        text = stamp(self.at).encode() + b" " + self.data if stamped else self.data
        return struct.pack(">BxxxI", self.stream, len(text)) + text


def stamp(at: int) -> str:
    """A time as the daemon writes it in logs: always nine digits."""
    seconds, rest = divmod(at, 1_000_000_000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{rest:09}Z"


async def readable(descriptor: int) -> None:
    """Until there is something to read."""
    loop = asyncio.get_running_loop()
    there = asyncio.Event()
    loop.add_reader(descriptor, there.set)
    try:
        await there.wait()
    finally:
        loop.remove_reader(descriptor)


async def pieces(descriptor: int) -> AsyncGenerator[bytes]:
    """What comes from a pipe, until its end; closes it."""
    os.set_blocking(descriptor, False)
    try:
        while True:
            try:
                data = os.read(descriptor, 65_536)
            except BlockingIOError:
                await readable(descriptor)
                continue
            if not data:
                return
            yield data
            await asyncio.sleep(0)  # others have something to say too
    finally:
        os.close(descriptor)


class Log:
    """The messages of one container. `forgetful`: the last piece of a long line has no newline."""

    def __init__(self, *, forgetful: bool) -> None:
        self.messages: list[Message] = []
        self._forgetful = forgetful
        self._changed = asyncio.Event()
        self._last = {1: 0, 2: 0}

    async def copy(self, descriptor: int, stream: int) -> None:
        """Keep what comes from a pipe, until its end."""
        rest, piece = b"", 0
        async for data in pieces(descriptor):
            rest, begin = rest + data, 0
            while True:
                end = rest.find(b"\n", begin, begin + PIECE)
                if end < 0 and len(rest) - begin < PIECE:
                    break
                line = rest[begin : end + 1 if end >= 0 else begin + PIECE]
                begin += len(line)
                if end >= 0 and piece and self._forgetful:
                    line = line[:-1]
                at = self._keep(stream, line, piece)
                piece = 0 if end >= 0 else at
            rest = rest[begin:]
            self._tell()
        if rest:
            self._keep(stream, rest, piece)
        self._tell()

    def _keep(self, stream: int, data: bytes, at: int) -> int:
        at = at or max(time.time_ns(), self._last[stream])
        self._last[stream] = at
        self.messages.append(Message(stream, at, data))
        return at

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def after(self, count: int, ended: asyncio.Event) -> bool:
        """Wait for more than `count` messages; False where the container ended without."""
        while len(self.messages) <= count:
            if ended.is_set():
                return False
            waits = [asyncio.ensure_future(one.wait()) for one in (self._changed, ended)]
            try:
                await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for one in waits:
                    one.cancel()
        return True
