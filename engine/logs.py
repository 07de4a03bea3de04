"""The log store: what attempts wrote to stdout and stderr, one file per attempt.

A file is a chain of frames: a header of 16 bytes (a marker byte, the stream, a check of the
header, the length, the time) and the data. Files are only appended to and never synced: a crash
may leave a torn last frame, which readers leave out and the next writer cuts off.

Rule of this room: bytes in, bytes out, from any thread; no events, no loop, no text decoding but
for the tail that a Failure shows. Light to import: workers do.
"""

from __future__ import annotations

import os
import re
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, Literal, NamedTuple

from onready.engine.masking import MASKS, OutputMask
from onready.engine.names import is_run_id

LogStream = Literal["stdout", "stderr", "note"]
"""`note` is onready's own remark in the log: where it was cut, for one."""

_STREAMS: Final[tuple[LogStream, ...]] = ("stdout", "stderr", "note")
_HEADER: Final = struct.Struct("<BBHId")
_MARKER: Final = 0xF7
_FRAME_LIMIT: Final = 1 << 20
"""Bytes of data in one frame at most, so that a reader never holds more."""
_TAIL_LIMIT: Final = 16 * 1024
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}\Z")

DEFAULT_LIMIT: Final = 1 << 30
"""Bytes of output kept per attempt."""


class LogFrame(NamedTuple):
    """Some output: `at` is UTC, in seconds since the epoch; `data` is not cut at lines."""

    stream: LogStream
    at: float
    data: bytes


def _check(stream: int, length: int) -> int:
    """16 bits that tell a header from the middle of some data."""
    return ((length * 0x9E3779B1) >> 13 ^ stream * 0x5BD1) & 0xFFFF


def _header(stream: int, length: int, at: float) -> bytes:
    return _HEADER.pack(_MARKER, stream, _check(stream, length), length, at)


def _read_header(data: bytes) -> tuple[int, int, float] | None:
    """Stream, length and time; None where these bytes are no whole header."""
    if len(data) < _HEADER.size:
        return None
    marker, stream, check, length, at = _HEADER.unpack(data)
    if marker != _MARKER or stream >= len(_STREAMS) or check != _check(stream, length):
        return None
    return stream, length, at


class LogWriter:
    """Appends the output of one attempt. Every method may be called from any thread.

    A fault of the disk never reaches the attempt: output that cannot be written is dropped and
    `fault` says why.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._lock = threading.Lock()
        self._fd: int | None = None
        self._end = 0
        self._kept = 0
        self._tail: deque[bytes] = deque()
        self._tail_size = 0
        self._cut = False
        self._closed = False
        self._masks: dict[LogStream, OutputMask] = {}
        self.sizes: dict[str, int] = {}
        """Bytes given so far, by stream; output past the limit counts too."""
        self.fault: OSError | None = None

    def write(self, stream: LogStream, data: bytes) -> None:
        """Append `data`, at most up to the limit; the file is made at the first byte."""
        if not data:
            return
        with self._lock:
            self.sizes[stream] = self.sizes.get(stream, 0) + len(data)
            if MASKS.forms or self._masks:
                data = self._masked(stream, data)
            self._keep(stream, data)

    def _masked(self, stream: LogStream, data: bytes) -> bytes:
        mask = self._masks.get(stream)
        if mask is None:
            mask = self._masks[stream] = OutputMask()
        return mask.feed(data)

    def _end_masks(self) -> None:
        """Write what was held back, since it might have become a secret."""
        for stream, mask in self._masks.items():
            self._keep(stream, mask.end())

    def _keep(self, stream: LogStream, data: bytes) -> None:
        if data:
            self._remember(data)
            if self._closed or self.fault is not None or self._cut:
                return
            room = self._limit - self._kept
            try:
                self._append(stream, memoryview(data)[:room])
                if len(data) > room:
                    self._cut = True
                    note = f"[output is cut here: the limit of {self._limit:,} bytes is reached]\n"
                    self._append("note", memoryview(note.encode()))
            except OSError as error:
                self.fault = error

    def _append(self, stream: LogStream, data: memoryview) -> None:
        fd = self._fd if self._fd is not None else self._open()
        code = _STREAMS.index(stream)
        at = time.time()
        for start in range(0, len(data), _FRAME_LIMIT):
            part = data[start : start + _FRAME_LIMIT]
            header = _header(code, len(part), at)
            whole = len(header) + len(part)
            try:
                written = os.writev(fd, (header, part))
                if written < whole:  # a full disk, or a signal: finish it or fail
                    rest = memoryview(header + bytes(part))[written:]
                    while rest:
                        rest = rest[os.write(fd, rest) :]
            except OSError:
                os.ftruncate(fd, self._end)
                raise
            self._end += whole
            self._kept += len(part)

    def _open(self) -> int:
        folder = self._path.parent
        # Each folder by hand: the mode of `makedirs` holds for the last one alone.
        for made in (folder.parent, folder):
            made.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        fd = os.open(self._path, flags, 0o600)
        self._fd = fd
        with self._path.open("rb") as file:
            self._end, self._kept = _whole(file)
        if os.fstat(fd).st_size > self._end:
            # Only then: ext4 writes a file that was cut to nothing out to the disk when it is
            # closed (its `auto_da_alloc`), and the event loop would wait for that.
            os.ftruncate(fd, self._end)
        return fd

    def _remember(self, data: bytes) -> None:
        part = data[-_TAIL_LIMIT:]
        self._tail.append(part)
        self._tail_size += len(part)
        while self._tail_size - len(self._tail[0]) >= _TAIL_LIMIT:
            self._tail_size -= len(self._tail.popleft())

    def tail(self, lines: int) -> tuple[str, ...]:
        """The last `lines` lines of all streams as they came, undecodable bytes replaced."""
        with self._lock:
            self._end_masks()
            data = b"".join(self._tail)
        text = data.decode("utf-8", "replace").splitlines()
        return tuple(text[-lines:]) if lines > 0 else ()

    def close(self) -> None:
        """Give the file back. What is written later is dropped."""
        with self._lock:
            self._end_masks()
            self._closed = True
            if self._fd is not None:
                os.close(self._fd)
                self._fd = None


class LogStore:
    """The logs of all runs below one folder: `<folder>/<run>/<dispatch name>.log`.

    Folders are made with mode 0700, files with 0600. `limit` is the number of bytes kept per
    attempt; what comes later is dropped, and a `note` in the log says so.
    """

    def __init__(self, folder: Path, limit: int = DEFAULT_LIMIT) -> None:
        self.folder = folder
        self._limit = limit

    def path(self, run: str, name: str) -> Path:
        """Where the log of attempt `name` is; ValueError where a name could lead elsewhere."""
        if not is_run_id(run) or not _NAME.match(name):
            message = f"no log can have the name {run!r}, {name!r}"
            raise ValueError(message)
        return self.folder / run / f"{name}.log"

    def writer(self, run: str, name: str) -> LogWriter:
        """A writer for attempt `name` of `run`; the file is made at the first byte."""
        return LogWriter(self.path(run, name), self._limit)

    def read(self, run: str, name: str) -> Iterator[LogFrame]:
        """The whole frames of a log, in order; none where there is no such log.

        Reads only what was there when it got there: call it again for more.
        """
        try:
            file = self.path(run, name).open("rb")
        except FileNotFoundError:
            return
        with file:
            while (header := _read_header(file.read(_HEADER.size))) is not None:
                stream, length, at = header
                data = file.read(length)
                if len(data) < length:
                    return
                yield LogFrame(_STREAMS[stream], at, data)


def _whole(file: BinaryIO) -> tuple[int, int]:
    """Where the last whole frame of `file` ends, and how many bytes of data are before it."""
    size = os.fstat(file.fileno()).st_size
    end = kept = 0
    while (header := _read_header(file.read(_HEADER.size))) is not None:
        length = header[1]
        if end + _HEADER.size + length > size:
            break
        end += _HEADER.size + length
        kept += length
        file.seek(end)
    return end, kept
