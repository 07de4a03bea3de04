"""The pump: one thread that reads the output of child processes, and does slow file work.

    child ── pipe ──> epoll ──> report.log          (any number of pipes, one thread)
    loop  ── ask(question) ──> answer               (whatever may touch a disk)

A child that writes nothing never wakes it. Children are started and waited for in the loop, by
`child.py`: a wake-up of another thread per child would cost more than the rest of it.

Rule of this room: it knows pipes and questions, no children and no attempts. What it calls back
runs in its thread and must not raise.
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import struct
import termios
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Generic, TypeVar, cast

import anyio
import anyio.lowlevel

T = TypeVar("T")
_log: Final = logging.getLogger(__name__)
_PIPE: Final = 1 << 16
_READ: Final = 1 << 18
_WIDE_PIPE: Final = 1 << 20
_SETPIPE_SZ: Final = 1031
_NOTHING: Final = struct.pack("i", 0)


class Stream:
    """The reading end of a pipe, and where its bytes go.

    The lock is held while bytes are on their way, so that the loop can see that none are, and so
    that a descriptor is never closed under a read. The loop only ever tries it.
    """

    __slots__ = ("_closed", "_lock", "_size", "descriptor", "output")

    def __init__(self, descriptor: int, output: Callable[[bytes], None]) -> None:
        self.descriptor = descriptor
        self.output = output
        self._size = _PIPE
        self._lock = threading.Lock()
        self._closed = False

    def is_quiet(self) -> bool:
        """In the loop: whether all that was written has been passed on."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            waiting = fcntl.ioctl(self.descriptor, termios.FIONREAD, _NOTHING)
            return waiting == _NOTHING
        finally:
            self._lock.release()

    def read(self) -> bool:
        """In the pump: pass on what is there, one piece; False where there is nothing."""
        with self._lock:
            if self._closed:
                return False
            try:
                data = os.read(self.descriptor, self._size)
            except BlockingIOError:
                return False
            if not data:
                return False
            if len(data) == _PIPE == self._size:
                # A talkative child gets a wider pipe; quiet ones must not use up the user's share.
                self._size = _READ
                with suppress(OSError):
                    fcntl.fcntl(self.descriptor, _SETPIPE_SZ, _WIDE_PIPE)
            try:
                self.output(data)
            except Exception:  # noqa: BLE001 - a reporter's fault: the child is not to blame
                _log.exception("output of an attempt could not be passed on")
            return True

    def drain(self) -> None:
        """In the pump: pass on all that was written before now, and no more than a full pipe."""
        for _ in range(2 * _WIDE_PIPE // self._size):
            if not self.read():
                return

    def close(self) -> bool:
        """Close the descriptor; False where it is being read just now."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            self._closed = True
            os.close(self.descriptor)
        finally:
            self._lock.release()
        return True


class Pump:
    """The thread starts with the first question or the first output. `close` ends it."""

    def __init__(self) -> None:
        self._poll = select.epoll()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll.register(self._wake, select.EPOLLIN)
        self._jobs: deque[Callable[[], object]] = deque()
        self._streams: dict[int, Stream] = {}
        self._closing = False
        self._thread: threading.Thread | None = None

    def add(self, stream: Stream) -> None:
        """In the loop: pass on what comes out of this pipe."""
        if self._thread is None:
            self._start()
        self._streams[stream.descriptor] = stream
        self._poll.register(stream.descriptor, select.EPOLLIN)

    def remove(self, stream: Stream) -> None:
        """In the loop: listen no more, and close the pipe.

        By hand, before it is closed: a child that is just being started has copies of all
        descriptors for a moment, and for so long the poll would go on to report closed ones.
        """
        self._poll.unregister(stream.descriptor)
        del self._streams[stream.descriptor]
        if not stream.close():
            self.do(stream.close)

    def do(self, job: Callable[[], object]) -> None:
        """Run `job` in the thread, soon. It must not raise."""
        if self._thread is None:
            self._start()
        self._jobs.append(job)
        os.eventfd_write(self._wake, 1)

    async def ask(self, question: Callable[[], T]) -> T:
        """The value of `question()`, run in the thread. Cancelling leaves the thread alone."""
        reply: _Reply[T] = _Reply()

        def answer() -> None:
            try:
                reply.value = question()
            except Exception as error:  # noqa: BLE001 - raised where it is awaited
                reply.error = error
            reply.wake()

        self.do(answer)
        await reply.event.wait()
        if reply.error is not None:
            raise reply.error
        return cast("T", reply.value)

    async def close(self) -> None:
        """End the thread. All streams must have been removed."""
        thread = self._thread
        if thread is not None:
            self.do(self._close)
            pause = 0.0005
            with anyio.CancelScope(shield=True):  # it has nothing left to do but to end
                while thread.is_alive():
                    await anyio.sleep(pause)
                    pause = min(2 * pause, 0.05)
        self._poll.close()
        os.close(self._wake)

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._run, name="onready-pump", daemon=True)
        self._thread.start()

    def _close(self) -> None:
        self._closing = True

    def _run(self) -> None:
        while not self._closing:
            for descriptor, _ in self._poll.poll():
                if descriptor == self._wake:
                    os.eventfd_read(self._wake)
                    while self._jobs:
                        self._jobs.popleft()()
                elif (stream := self._streams.get(descriptor)) is not None:
                    stream.read()


class _Reply(Generic[T]):
    """One answer from the thread to a coroutine, on asyncio and on trio."""

    def __init__(self) -> None:
        token: object = anyio.lowlevel.current_token().native_token
        soon = getattr(token, "call_soon_threadsafe", None) or getattr(token, "run_sync_soon", None)
        self._soon = cast("Callable[[Callable[[], object]], object]", soon)
        self.event = anyio.Event()
        self.value: T | None = None
        self.error: Exception | None = None

    def wake(self) -> None:
        # Both loops raise a RuntimeError of their own once they are closed.
        with suppress(RuntimeError):
            self._soon(self.event.set)
