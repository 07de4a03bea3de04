"""The log pump: one thread that reads the log streams of all containers.

Output never passes through the event loop: it is parsed and handed to the reporter here, so that
chatty containers and slow disks hold nobody up.

Rule of this room: it knows sockets and sinks, no containers; what it calls runs in its thread.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import select
import selectors
import socket
import threading
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

import anyio

from onready.backends.docker import http
from onready.backends.docker.frames import BadFrames

_log: Final = logging.getLogger(__name__)
_READ: Final = 1 << 16
"""Bytes of one read at most; as many show that there is more to come at once."""
_ERROR_LIMIT: Final = 8 * 1024
_BACKLOG_PAUSE: Final = 0.02
_GATHERED: Final = 10
"""Milliseconds in which output gathers before it is read on.

The daemon sends each line by itself. To read each by itself would cost ten times as much, at the
expense of the event loop."""
_FIRST_READS: Final = 4
"""Reads of a stream that are not put off: most are at their end by then."""
_BREATH: Final = 0.0002
"""Seconds in which the event loop can have the interpreter, between two full reads.

Else it would wait for it at each of its own system calls, up to 5 ms, which adds up."""
_SPARE: Final = 4
"""Connections that are kept for the next stream: for each new one the daemon starts threads."""
_PATIENCE: Final = 5.0
"""Seconds to wait for the thread to let go of a stream: it may be writing to a slow disk."""


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """How a stream ended. `whole`: the daemon said that this was all. `status` is 0 for none."""

    whole: bool
    status: int = 0
    message: str = ""


class Sink(Protocol):
    """Where the bytes of a body go; BadFrames or OSError ends the stream."""

    def __call__(self, data: bytes, /) -> None: ...


class _Stream:
    """One request and its answer."""

    def __init__(self, request: bytes, sink: Sink, head: float, silence: float) -> None:
        self.request = request
        self.sink = sink
        self.silence = silence
        self.due = time.monotonic() + head
        """When something more must have come, by `time.monotonic`."""
        self.answer = http.Answer()
        self.socket: socket.socket | None = None
        self.error = b""
        self.reads = 0
        self.end: StreamEnd | None = None
        self.loop = asyncio.get_running_loop()
        self.done = asyncio.Event()
        self.abandoned = False


def _has_more(stream: _Stream) -> bool:
    """Whether something has come that could not be read yet: another's sink may have been slow."""
    return stream.socket is not None and not _is_quiet(stream.socket)


def _is_quiet(one: socket.socket) -> bool:
    """Whether nothing is to be read there, its end neither."""
    try:
        one.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return True
    except OSError:  # an error is to be read
        pass
    return False


class LogPump:
    """The thread starts with the first stream; `close` ends it. Used from one event loop."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._selector = selectors.DefaultSelector()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._new: deque[_Stream] = deque()
        self._live: set[_Stream] = set()
        self._spare: list[socket.socket] = []
        self._closing = False
        self._thread: threading.Thread | None = None

    async def read(
        self, target: str, sink: Sink, head: float, silence: float, *, bare: bool = False
    ) -> StreamEnd:
        """Ask for `target` and pass the body to `sink` until it ends or breaks.

        The head of the answer must come within `head` seconds; after it there may be `silence`
        seconds without a byte. It ends for us when the caller is cancelled, too. `bare`: cheaper,
        and never known to be whole.
        """
        stream = _Stream(http.get(target, bare=bare), sink, head, silence)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="onready docker logs")
            self._thread.start()
        self._new.append(stream)
        self._wake()
        try:
            await stream.done.wait()
        except BaseException:
            stream.abandoned = True
            self._wake()
            with anyio.move_on_after(_PATIENCE, shield=True):
                # Nothing more may reach the sink once this has returned.
                await stream.done.wait()
            raise
        assert stream.end is not None
        return stream.end

    async def close(self) -> None:
        """End the thread. No stream may be waited for."""
        self._closing = True
        if self._thread is not None:
            self._wake()
            with anyio.CancelScope(shield=True):  # it ends at once: it never waits for others
                await anyio.to_thread.run_sync(self._thread.join)
        self._selector.close()
        os.close(self._wake_read)
        os.close(self._wake_write)

    def _wake(self) -> None:
        with suppress(BlockingIOError):  # it is full of wake-ups
            os.write(self._wake_write, b".")

    # --- in the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        wakes = select.poll()  # `select.select` takes no descriptors over 1023
        wakes.register(self._wake_read, select.POLLIN)
        while not self._closing:
            ready = self._selector.select(self._patience())
            trickling = [self._read(key.data) for key, _ in ready if key.data is not None]
            if len(trickling) < len(ready):
                with suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
            self._look_after()
            if trickling and all(trickling):
                wakes.poll(_GATHERED)
        for stream in tuple(self._live):
            self._finish(stream, StreamEnd(whole=False, message="closed"))
        for spare in self._spare:
            spare.close()

    def _patience(self) -> float | None:
        if self._new:
            return _BACKLOG_PAUSE
        due = min((stream.due for stream in self._live), default=math.inf)
        return None if due == math.inf else max(0.0, due - time.monotonic()) + 0.001

    def _look_after(self) -> None:
        for _ in range(len(self._new)):
            self._connect(self._new.popleft())
        now = time.monotonic()
        for stream in tuple(self._live):
            if stream.abandoned:
                self._finish(stream, StreamEnd(whole=False, message="abandoned"))
            elif now > stream.due and not _has_more(stream):
                self._finish(stream, StreamEnd(whole=False, message="no answer in time"))

    def _connect(self, stream: _Stream) -> None:
        self._live.add(stream)
        try:
            made = self._ask(stream.request)
        except BlockingIOError:  # more wait for the daemon than it lets wait
            self._live.discard(stream)
            if time.monotonic() < stream.due and not stream.abandoned:
                self._new.append(stream)
            else:
                self._finish(stream, StreamEnd(whole=False, message="no answer in time"))
            return
        except OSError as error:
            self._finish(stream, StreamEnd(whole=False, message=str(error)))
            return
        stream.socket = made
        self._selector.register(made, selectors.EVENT_READ, stream)

    def _ask(self, request: bytes) -> socket.socket:
        """The connection on which `request` has been sent: a spare one, or a new one. OSError."""
        while self._spare:
            spare = self._spare.pop()
            if _is_quiet(spare):
                with suppress(OSError):
                    spare.send(request)
                    return spare
            spare.close()  # the daemon has ended it
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.setblocking(False)
        try:
            made.connect(self._path)
            made.send(request)  # a few hundred bytes into an empty buffer
        except OSError:
            made.close()
            raise
        return made

    def _read(self, stream: _Stream) -> bool:
        """Read once; whether it goes on in small pieces, which are better read together."""
        if stream.socket is None:  # it has ended in this same round
            return False
        try:
            data = stream.socket.recv(_READ)
        except BlockingIOError:
            return False
        except OSError as error:
            self._finish(stream, StreamEnd(whole=False, message=str(error)))
            return False
        if not data:
            self._finish(stream, self._ended(stream))
            return False
        stream.reads += 1
        self._pass_on(stream, data)
        if len(data) == _READ:
            time.sleep(_BREATH)
            return False
        return stream.end is None and stream.reads > _FIRST_READS

    def _pass_on(self, stream: _Stream, data: bytes) -> None:
        try:
            self._take(stream, data)
        except (http.BadAnswer, BadFrames, OSError) as error:
            status = stream.answer.status
            self._finish(stream, StreamEnd(whole=False, status=status, message=str(error)))
        except Exception as error:  # noqa: BLE001 - a reporter's fault: the others' streams go on
            _log.exception("output of a container could not be passed on")
            self._finish(stream, StreamEnd(whole=False, message=str(error)))
        else:
            if stream.answer.status:
                stream.due = time.monotonic() + stream.silence
            if stream.answer.ended:
                self._finish(stream, self._ended(stream))

    def _take(self, stream: _Stream, data: bytes) -> None:
        body = stream.answer.feed(data)
        if not body:
            return
        if stream.answer.status == 200:
            stream.sink(body)
        elif len(stream.error) < _ERROR_LIMIT:
            stream.error += body

    def _ended(self, stream: _Stream) -> StreamEnd:
        answer = stream.answer
        message = stream.error.decode("utf-8", "replace").strip()
        return StreamEnd(answer.ended and answer.status == 200, answer.status, message)

    def _finish(self, stream: _Stream, end: StreamEnd) -> None:
        if stream.end is not None:
            return
        self._live.discard(stream)
        if stream.socket is not None:
            self._selector.unregister(stream.socket)
            if stream.answer.reusable and len(self._spare) < _SPARE:
                self._spare.append(stream.socket)
            else:
                stream.socket.close()
            stream.socket = None
        stream.end = end
        with suppress(RuntimeError):  # the loop is gone: nobody waits
            stream.loop.call_soon_threadsafe(stream.done.set)
