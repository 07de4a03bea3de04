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
        self._ready: asyncio.Future[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        with suppress(RuntimeError):  # on trio there is no such loop
            self._loop = asyncio.get_running_loop()
        if self._loop is not None:
            self._loop.add_reader(end, self._wake)

    def _wake(self) -> None:
        ready = self._ready
        if ready is not None and not ready.done():
            ready.set_result(None)
        elif ready is None and self._loop is not None:
            # Nobody asks: an idle worker that ended. Level-triggered, so it would go on and on.
            self._loop.remove_reader(self._socket)
            self._loop = None

    async def send(self, data: bytearray) -> None:
        """All of `data`, waiting for room as needed."""
        view = memoryview(data)
        while True:
            with suppress(BlockingIOError):
                view = view[self._socket.send(view) :]
            if not view:
                return
            await anyio.wait_writable(self._socket)

    async def receive(self) -> bytes:
        """What is there, at least one byte; b"" once the other end is closed."""
        while True:
            if self._loop is None:
                await anyio.wait_readable(self._socket)
            else:
                self._ready = self._loop.create_future()
                try:
                    await self._ready
                finally:
                    self._ready = None
            with suppress(BlockingIOError):
                return self._socket.recv(_CHUNK)

    def close(self) -> None:
        """Close the socket."""
        if self._loop is not None:
            self._loop.remove_reader(self._socket)
            self._loop = None
        self._socket.close()
