"""The segments of one run: which there are, which of them make up its history, what they hold.

A run's history is a chain: its newest segment names the one before it and the event at which it
goes on. What an older segment holds beyond that event is no part of the history: it was written
by a driver that had lost the run meanwhile, and was told so. A segment is first *claimed* (its
file created, which only one can do), then whoever claimed it looks at the history so far, then it
gets its header. A driver looks for newer claims after each write, before it reports success: so
whatever it reported was there when the next one looked.

Rule of this room: nothing is written here but new files; what exists is never changed.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from onready.engine.crashpoints import crash_point
from onready.engine.errors import StoreError
from onready.storage.confined import Folder
from onready.storage.files.format import (
    HEAD,
    HEADER,
    Head,
    Header,
    Place,
    any_head,
    decode_head,
    decode_header,
    encode_header,
    place_of,
    sound,
)
from onready.storage.private import create_file

WINDOW: Final = 64 * 1024
"""Bytes read at once for heads: those of small records come several to one read."""


class RunFolder:
    """The open folder of one run. `path` is for messages."""

    __slots__ = ("folder", "path", "run")

    def __init__(self, run: str, folder: Folder, path: Path) -> None:
        self.run = run
        self.folder = folder
        self.path = path

    def places(self) -> list[Place]:
        """All segments, claimed ones too, in order."""
        found = map(place_of, self.folder.names())
        return sorted(place for place in found if place is not None)

    def chain(self) -> list[Header]:
        """The segments that make up the history, oldest first; empty for a run without one."""
        found: list[Header] = []
        for place in reversed(self.places()):
            wanted = found[-1].parent if found else place
            if wanted is None or place > wanted:
                continue
            if place < wanted:
                raise self._missing(wanted)
            header = self._header(place)
            if header is not None:
                found.append(header)
            elif found:
                raise self.damaged(place, 0)
        if found and found[-1].parent is not None:
            raise self._missing(found[-1].parent)
        return found[::-1]

    @contextmanager
    def open(self, header: Header, until: int | None) -> Generator[Segment]:
        """A segment of the chain; `until` is where the next one goes on, None for the last."""
        with self.folder.reader(header.place.name) as file:
            yield Segment(self, header, until, file.fileno())

    def segments(self, chain: Sequence[Header], first: int = 0) -> Iterator[Segment]:
        """The segments of the chain from position `first`, each open while it is looked at."""
        for position in range(first, len(chain)):
            following = chain[position + 1].first if position + 1 < len(chain) else None
            with self.open(chain[position], following) as segment:
                yield segment

    def claim(self, place: Place) -> int | None:
        """Create a segment's file, durably; its descriptor, or None where it exists."""
        try:
            descriptor = create_file(place.name, dir_fd=self.folder.descriptor)
        except FileExistsError:
            return None
        try:
            self.folder.sync()
        except BaseException:
            self.abandon(place, descriptor)
            raise
        return descriptor

    def seal(self, descriptor: int, header: Header) -> None:
        """Write the header of a claimed segment, durably; the claim is given up where it fails."""
        try:
            write(descriptor, encode_header(self.run, header))
            crash_point("file.sync.before")
            os.fsync(descriptor)
            crash_point("file.sync.after")
        except BaseException:
            self.abandon(header.place, descriptor)
            raise

    def abandon(self, place: Place, descriptor: int) -> None:
        """Give up a claim in which nothing was written that anybody was told of."""
        os.close(descriptor)
        os.unlink(place.name, dir_fd=self.folder.descriptor)

    def damaged(self, place: Place, offset: int, words: str = "") -> StoreError:
        """The error for damage in a segment at a byte."""
        what = words or "what is stored there is not what was written"
        return StoreError(f"run log {self.path / place.name}: damaged at byte {offset}: {what}")

    def _missing(self, place: Place) -> StoreError:
        return StoreError(
            f"run log {self.path / place.name}: the file is missing: later events of run "
            f"{self.run} follow those in it"
        )

    def _header(self, place: Place) -> Header | None:
        with self.folder.reader(place.name) as file:
            descriptor = file.fileno()
            data = os.pread(descriptor, HEADER, 0)
            if not data.strip(b"\0") and os.fstat(descriptor).st_size > HEADER:
                raise self.damaged(place, 0, "its header is damaged")
        try:
            header = decode_header(self.run, data)
        except ValueError as error:
            message = f"run log {self.path / place.name}: {error}"
            raise StoreError(message) from error
        if header is not None and header.place != place:
            raise self.damaged(place, 0, "it is the copy of another segment")
        if header is not None and header.parent is not None and header.parent >= place:
            raise self.damaged(place, 0, "its header is damaged")
        return header


class Segment:
    """One open segment. `torn` is where its last record is broken off, once that was seen."""

    __slots__ = ("_fd", "_from", "_seen", "header", "run", "torn", "until")

    def __init__(self, run: RunFolder, header: Header, until: int | None, descriptor: int) -> None:
        self.run = run
        self.header = header
        self.until = until
        self.torn: int | None = None
        self._fd = descriptor
        self._seen = b""
        self._from = 0

    def heads(self, offset: int, seq: int) -> Iterator[tuple[int, Head]]:
        """The records from byte `offset`, where event `seq` is expected, with their offsets.

        It ends where the next segment goes on; for the last, at the end of the file or where the
        last record is broken off (`torn`). StoreError for damage anywhere else.
        """
        size = self.size()
        while seq != self.until:
            if offset >= size and self.until is None:
                return
            head = self._head(offset, size)
            if head is None or offset + head.size > size:
                self._broken(offset)
                return
            beyond = self.until is not None and head.last >= self.until
            if head.place != self.header.place or head.first != seq or beyond:
                words = f"event {seq} is expected there, not events {head.first} to {head.last}"
                raise self.run.damaged(self.header.place, offset, words)
            yield offset, head
            offset += head.size
            seq = head.last + 1

    def body(self, offset: int, head: Head) -> bytes | None:
        """The events of a record; None, and `torn`, where it is the last one and broken off."""
        body = _read(self._fd, head.length, offset + HEAD)
        if not sound(head, body):
            self._broken(offset)
            return None
        return body

    def sync(self) -> None:
        """Make durable what is there, whoever wrote it."""
        os.fsync(self._fd)

    def size(self) -> int:
        """Bytes of the file."""
        return os.fstat(self._fd).st_size

    def _head(self, offset: int, size: int) -> Head | None:
        at = offset - self._from
        if at < 0 or at + HEAD > len(self._seen):
            self._seen = os.pread(self._fd, min(WINDOW, max(size - offset, 0)), offset)
            self._from, at = offset, 0
        return decode_head(self.run.run, self._seen, at)

    def _broken(self, offset: int) -> None:
        if self.until is not None:
            raise self.run.damaged(self.header.place, offset)
        rest = _read(self._fd, self.size() - offset - 1, offset + 1)
        if any_head(self.run.run, rest):
            # Records follow: no crash leaves that, since each is durable before the next begins.
            raise self.run.damaged(self.header.place, offset)
        self.torn = offset


def write(descriptor: int, data: bytes) -> None:
    """Write all of `data`; OSError where the system takes no more."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _read(descriptor: int, length: int, offset: int) -> bytes:
    parts: list[bytes] = []
    while length > 0 and (part := os.pread(descriptor, length, offset)):
        parts.append(part)
        offset += len(part)
        length -= len(part)
    return b"".join(parts)
