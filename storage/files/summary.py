"""What the index says of a run, and how far the history was read for it.

Beside a run's segments is a small file, `summary`, replaced whole now and then: the index then
reads only what came after it. It is a help, not the truth: where it is missing, damaged or of
another history, everything is read. Its one claim that counts is the number of an event that was
reported as durable: a history that ends before it has lost events.

Rule of this room: no decisions about drivers; reads segments through `segments.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from copy import copy
from typing import Final
from zlib import crc32

import msgspec

from onready.engine.errors import StoreError
from onready.engine.events import AnyEvent, RunStarted, RunStatus
from onready.engine.spi import RunRecord
from onready.engine.wire import decode_events
from onready.storage.files.format import HEADER, Head, Header, Place
from onready.storage.files.segments import RunFolder, Segment
from onready.storage.index import gapless, run_changes

NAME: Final = "summary"
VERSION: Final = 1


class Summary(msgspec.Struct):
    """The index's line, as of event `last_seq`, which ends at byte `offset` of a segment."""

    version: int
    epoch: int
    serial: int
    offset: int
    last_seq: int
    name: str = ""
    graph: str = ""
    status: RunStatus = "running"
    created: float = 0.0
    ended: float | None = None
    target: str = ""
    fingerprint: str = ""

    @property
    def place(self) -> Place:
        """The segment that it was read up to."""
        return Place(self.epoch, self.serial)

    def record(self, run: str, owner: str, *, interrupted: bool) -> RunRecord:
        """The index's line."""
        status = "interrupted" if interrupted and self.status == "running" else self.status
        return RunRecord(
            run,
            self.name,
            self.graph,
            status,
            self.created,
            self.ended,
            self.last_seq,
            self.target,
            self.fingerprint,
            owner,
        )

    def add(self, events: Sequence[AnyEvent], place: Place, offset: int) -> bool:
        """Take in the next events; True where they changed more than the count."""
        first = events[0]
        if isinstance(first, RunStarted) and first.seq == 1:
            self.name, self.graph, self.created = first.name, first.graph, first.at
            self.target, self.fingerprint = first.target, first.fingerprint
        status, ended = run_changes(events)
        if status is not None:
            self.status, self.ended = status, ended
        self.last_seq = events[-1].seq
        self.epoch, self.serial, self.offset = place.epoch, place.serial, offset
        return status is not None


_decode: Final = msgspec.msgpack.Decoder(Summary).decode


def empty() -> Summary:
    """The summary of a run without events."""
    return Summary(VERSION, 0, 0, HEADER, 0)


def load(run: RunFolder) -> Summary | None:
    """The summary; None where there is none that can be used."""
    with suppress(OSError, ValueError):
        with run.folder.reader(NAME) as file:
            data = file.read()
        if crc32(data[4:], crc32(run.run.encode())) == int.from_bytes(data[:4], "little"):
            summary = _decode(data[4:])
            return summary if summary.version == VERSION else None
    return None


def save(run: RunFolder, summary: Summary) -> None:
    """Replace the summary, atomically."""
    body = msgspec.msgpack.encode(summary)
    with run.folder.draft() as draft:
        with draft.writer() as file:
            file.write(crc32(body, crc32(run.run.encode())).to_bytes(4, "little") + body)
            draft.flush(file)
        draft.replace(NAME)


def check_end(run: RunFolder, summary: Summary | None, last: int) -> None:
    """StoreError where the history ends before what was reported as durable."""
    if summary is not None and summary.last_seq > last:
        message = (
            f"run log {run.path}: events {last + 1} to {summary.last_seq} of run {run.run} were "
            "durable and are lost: the files were cut or replaced"
        )
        raise StoreError(message)


def advance(run: RunFolder, chain: Sequence[Header], summary: Summary) -> tuple[Place, int] | None:
    """Read what came after `summary` into it, also up to where damage is met (StoreError).

    Where the last record is broken off, its segment and byte.
    """
    promised = copy(summary)
    position = _position(chain, summary)
    if position is None:
        fresh = empty()
        for field in Summary.__struct_fields__:
            setattr(summary, field, getattr(fresh, field))
    torn: int | None = None
    for number, segment in enumerate(run.segments(chain, position or 0)):
        begin = summary.offset if number == 0 and position is not None else HEADER
        if begin > segment.size():
            break
        for offset, head in segment.heads(begin, summary.last_seq + 1):
            events = events_of(segment, offset, head)
            if events is None:
                break
            summary.add(events, segment.header.place, offset + head.size)
        torn = segment.torn
    else:
        check_end(run, promised, summary.last_seq)
        return None if torn is None else (chain[-1].place, torn)
    check_end(run, promised, summary.last_seq - 1)
    return None  # pragma: no cover - the line before raises


def events_of(segment: Segment, offset: int, head: Head) -> list[AnyEvent] | None:
    """The events of a record; None where it is broken off. StoreError for damage."""
    body = segment.body(offset, head)
    if body is None:
        return None
    try:
        events = decode_events(body)
    except (ValueError, RecursionError) as error:
        raise segment.run.damaged(head.place, offset, str(error)) from error
    count = head.last - head.first + 1
    if len(events) != count or events[0].seq != head.first or not gapless(events):
        raise segment.run.damaged(head.place, offset)
    return events


def _position(chain: Sequence[Header], summary: Summary) -> int | None:
    """Where in the chain the summary's segment is; None where it is of another history."""
    for position, header in enumerate(chain):
        if header.place == summary.place:
            last = position + 1 == len(chain)
            within = last or chain[position + 1].first > summary.last_seq
            return position if within else None
    return None
