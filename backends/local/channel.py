"""One end of a socket in the event loop: bytes in, bytes out, one coroutine at a time.

asyncio's loop watches the socket for as long as it is open: to register it anew for each answer,
as a portable `wait_readable` must, costs as much as the answer. Trio has no such price.

Rule of this room: it knows sockets and loops, nothing of what the bytes mean.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import suppress
from typing import Final

import anyio

_CHUNK: Final = 1 << 18


class Channel:
    """The driver's end of a worker's socket. OSError where the other end is gone."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self._socket = end
        self._asked: asyncio.Future[bytes] | None = None
        self._early = b""
        self._loop: asyncio.AbstractEventLoop | None = None
        try:
            self._loop = asyncio.get_running_loop()
        except RuntimeError:
            return  # trio
        self._loop.add_reader(end, self._readable)

    def _readable(self) -> None:
        # Received here and not by who asks: else the loop reports the same bytes twice.
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._unwatch()
        asked = self._asked
        if asked is not None and not asked.done():
            asked.set_result(data)
        else:
            self._early += data

    def _unwatch(self) -> None:
        if self._loop is not None:
            self._loop.remove_reader(self._socket)
            self._loop = None

    async def send(self, data: bytearray) -> None:
        """All of `data`, waiting for room as needed."""
        view = memoryview(data)
        while True:
            try:
                view = view[self._socket.send(view) :]
            except BlockingIOError:
                await anyio.wait_writable(self._socket)
            else:
                if not view:
                    return

    async def receive(self) -> bytes:
        """What is there, at least one byte; b"" once the other end is closed."""
        if self._early:
            data, self._early = self._early, b""
            return data
        if self._loop is not None:
            self._asked = self._loop.create_future()
            try:
                return await self._asked
            finally:
                self._asked = None
        while True:
            await anyio.wait_readable(self._socket)
            with suppress(BlockingIOError):
                return self._socket.recv(_CHUNK)

    def close(self) -> None:
        """Close the socket."""
        self._unwatch()
        self._socket.close()
