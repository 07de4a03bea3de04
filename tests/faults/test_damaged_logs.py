"""F18: run logs that were cut, flipped, filled with zeros, shortened in the middle, doubled.

A record that was broken off at the very end is dropped with a warning; all other damage is refused
with the file and the byte. What is there is never changed, and never handed out as other events.
"""

from __future__ import annotations

import logging
import random
import shutil
import sqlite3
from pathlib import Path

import pytest

from onready.engine.errors import StoreError
from onready.engine.events import AnyEvent
from onready.engine.testing.samples import started, steps
from onready.storage.clock import LeaseClock
from onready.storage.files import reading
from onready.storage.files.format import HEADER, Place, decode_head
from onready.storage.files.reading import Library, ReadEvents
from onready.storage.files.requests import Append, TakeLease
from onready.storage.files.writer import Store, Writer
from onready.storage.sqlite import appends, schema
from onready.storage.sqlite import reading as sqlite_reading
from onready.storage.sqlite.writer import Writer as SqliteWriter
from tests.faults.sizes import size

RUN = "r1"
NAME = Place(1, 1).name
PARTS: list[list[AnyEvent]] = [
    [started()],
    *(list(steps(seq, seq + 2)) for seq in range(2, 32, 3)),
]
EVENTS = [event for part in PARTS for event in part]


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody writes here: no need to wait whether a record grows."""
    monkeypatch.setattr(reading, "SETTLING", 0.0)


def serve(store: Store, *requests: Append | TakeLease) -> None:
    Writer(store.path, store.segment_size).serve(store, list(requests))
    for request in requests:
        if request.error is not None:
            raise request.error


@pytest.fixture
def whole(tmp_path: Path) -> bytes:
    """The segment of a run whose driver was killed."""
    store = Store(_made(tmp_path / "log"), 2**30)
    for part in PARTS:
        serve(store, Append(RUN, 1, part))
    data = (tmp_path / "log" / RUN / NAME).read_bytes()
    store.close()
    shutil.rmtree(tmp_path / "log")
    return data


def _made(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def log_of(folder: Path, data: bytes) -> Path:
    (_made(folder / RUN) / NAME).write_bytes(data)
    return folder


def read(path: Path) -> list[AnyEvent]:
    library = Library(path, LeaseClock())
    try:
        events: list[AnyEvent] = []
        while True:
            request = ReadEvents(RUN, len(events))
            request.apply(library)
            if not request.events:
                return events
            events += request.events
    finally:
        library.close()


def boundaries(data: bytes) -> list[int]:
    """Where records begin, and the end."""
    places = [HEADER]
    while places[-1] < len(data):
        head = decode_head(RUN, data, places[-1])
        assert head is not None
        places.append(places[-1] + head.size)
    return places


def prefix(records: int) -> list[AnyEvent]:
    return [event for part in PARTS[:records] for event in part]


def take_over(path: Path, last: int) -> None:
    """A new driver goes on behind event `last`, in a file of its own."""
    before = {name: name.read_bytes() for name in path.rglob("*.log")}
    store = Store(path, 2**30)
    serve(
        store, TakeLease(RUN, "me", 60.0, LeaseClock()), Append(RUN, 2, steps(last + 1, last + 2))
    )
    store.close()
    assert {name: name.read_bytes() for name in before} == before
    assert read(path) == [*EVENTS[:last], *steps(last + 1, last + 2)]


def test_a_cut_anywhere_in_the_last_records_drops_what_was_broken_off(
    tmp_path: Path, whole: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    places = boundaries(whole)
    for cut in range(places[-4], len(whole)):
        caplog.clear()
        folder = log_of(tmp_path / f"cut-{cut}", whole[:cut])
        records = sum(place <= cut for place in places[1:])
        assert read(folder) == prefix(records)
        torn = cut not in places
        messages = [record.getMessage() for record in caplog.records]
        assert len(messages) == torn
        if torn:
            assert str(folder / RUN / NAME) in messages[0]
            assert f"at byte {places[records]}," in messages[0]
        assert (folder / RUN / NAME).read_bytes() == whole[:cut]
        if cut % size(20, 1) == 0:
            take_over(folder, len(prefix(records)))
        shutil.rmtree(folder)


@pytest.mark.parametrize("zeros", [1, 7, 60, 4096, 100_000])
def test_zeros_at_the_end_are_dropped_with_a_warning(
    tmp_path: Path, whole: bytes, caplog: pytest.LogCaptureFixture, zeros: int
) -> None:
    places = boundaries(whole)
    for end, records in ((places[-1], len(PARTS)), (places[-1] - 20, len(PARTS) - 1)):
        folder = log_of(tmp_path / f"zeros-{end}", whole[:end] + bytes(zeros))
        caplog.clear()
        assert read(folder) == prefix(records)
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        take_over(folder, len(prefix(records)))


def test_a_flipped_bit_is_never_accepted(
    tmp_path: Path, whole: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    places, chance = boundaries(whole), random.Random(18)
    folder = log_of(tmp_path / "flips", whole)
    path = folder / RUN / NAME
    for _ in range(size(1000, 10_000)):
        at, bit = chance.randrange(len(whole)), chance.randrange(8)
        data = bytearray(whole)
        data[at] ^= 1 << bit
        path.write_bytes(data)
        caplog.clear()
        if at < places[-2]:
            record = max((place for place in places if place <= at), default=None)
            words = "header" if record is None else f"at byte {record}"
            with pytest.raises(StoreError, match=f"{NAME}.*{words}"):
                read(folder)
        else:
            assert read(folder) == prefix(len(PARTS) - 1)
            assert len(caplog.records) == 1
        assert path.read_bytes() == data


def test_a_lost_middle_is_refused(tmp_path: Path, whole: bytes) -> None:
    places, chance = boundaries(whole), random.Random(19)
    for number in range(size(100, 1000)):
        begin, end = sorted(chance.sample(range(HEADER, places[-2]), 2))
        if number % 3 == 0:  # whole records
            begin, end = sorted(chance.sample(places[:-1], 2))
        folder = log_of(tmp_path / f"middle-{number}", whole[:begin] + whole[end:])
        with pytest.raises(StoreError, match=r"damaged at byte \d+"):
            read(folder)
        store = Store(folder, 2**30)
        with pytest.raises(StoreError, match=r"damaged at byte \d+"):
            serve(store, TakeLease(RUN, "me", 60.0, LeaseClock()))
        store.close()
        assert [path.name for path in (folder / RUN).glob("*.log")] == [NAME]


def test_a_doubled_tail_is_refused(tmp_path: Path, whole: bytes) -> None:
    for records, place in enumerate(boundaries(whole)[:-1], start=1):
        folder = log_of(tmp_path / f"doubled-{records}", whole + whole[place:])
        with pytest.raises(StoreError, match=f"damaged at byte {len(whole)}"):
            read(folder)


def test_a_missing_segment_is_refused(tmp_path: Path) -> None:
    path = _made(tmp_path / "log")
    store = Store(path, 4096)
    for seq in range(200):
        serve(store, Append(RUN, 1, steps(seq * 5 + 2, seq * 5 + 6) if seq else [*EVENTS[:6]]))
    store.close()
    segments = sorted((path / RUN).glob("*.log"))
    assert len(segments) > 3
    assert len(read(path)) == 1001
    for victim in segments[:-1]:
        data = victim.read_bytes()
        victim.unlink()
        with pytest.raises(StoreError, match=victim.name):
            read(path)
        victim.write_bytes(data)


def test_losing_events_that_were_promised_is_refused(tmp_path: Path, whole: bytes) -> None:
    """At the edge of a record a cut leaves no trace in the file: the summary knows."""
    path = _made(tmp_path / "log")
    store = Store(path, 2**30)
    serve(store, *(Append(RUN, 1, part) for part in PARTS))
    store.close()  # keeps the summary
    for place in boundaries(whole)[1:-1]:
        (path / RUN / NAME).write_bytes(whole[:place])
        with pytest.raises(StoreError, match="were durable and are lost"):
            read(path)
        store = Store(path, 2**30)
        with pytest.raises(StoreError, match="were durable and are lost"):
            serve(store, TakeLease(RUN, "me", 60.0, LeaseClock()))
        store.close()


# --- SQLite ---


def sqlite_log(path: Path) -> sqlite3.Connection:
    """A log whose last commits are in the write-ahead log alone."""
    writer = SqliteWriter(path, 1.0)
    connection = writer.connect()
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    for part in PARTS:
        request = appends.Append(RUN, 1, part)
        writer.serve(connection, [request])
        assert request.error is None
    return connection


def sqlite_read(path: Path) -> list[AnyEvent]:
    connection = schema.connect(path, 1.0, writes=False)
    try:
        request = sqlite_reading.ReadEvents(RUN, 0, path)
        sqlite_reading.Reader(path, 1.0).serve(connection, [request])
        if request.error is not None:
            raise request.error
        assert isinstance(request.value, list)
        return list(request.value)
    finally:
        connection.close()


def test_a_sqlite_log_that_was_cut_holds_a_beginning(tmp_path: Path) -> None:
    connection = sqlite_log(tmp_path / "runs.db")
    database = (tmp_path / "runs.db").read_bytes()
    ahead = (tmp_path / "runs.db-wal").read_bytes()
    connection.close()
    starts = [prefix(records) for records in range(len(PARTS) + 1)]
    cuts = range(len(ahead) - 3 * 4 * 4120, len(ahead))
    seen: set[int] = set()
    for number, cut in enumerate(random.Random(20).sample(cuts, size(150, len(cuts)))):
        path = _made(tmp_path / f"cut-{number}") / "runs.db"
        path.write_bytes(database)
        path.with_name("runs.db-wal").write_bytes(ahead[:cut])
        events = sqlite_read(path)
        assert events in starts
        seen.add(len(events))
        shutil.rmtree(path.parent)
    assert len(seen) > 1


def test_a_flipped_bit_in_a_sqlite_log_never_changes_an_event(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    connection = sqlite_log(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    whole, chance = path.read_bytes(), random.Random(21)
    refused = 0
    for _ in range(size(1000, 10_000)):
        at, bit = chance.randrange(len(whole)), chance.randrange(8)
        data = bytearray(whole)
        data[at] ^= 1 << bit
        path.write_bytes(data)
        try:
            assert sqlite_read(path) == EVENTS
        except (StoreError, sqlite3.DatabaseError):  # opening is the writer's affair
            refused += 1
        assert path.read_bytes() == data
    assert refused > 10
