"""Damage in the file is refused where it is, and never handed out as events."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from onready.engine.errors import StoreError
from onready.engine.events import AnyEvent
from onready.engine.testing.run_log_suite import read_all
from onready.engine.testing.samples import every_event, started, steps
from onready.engine.wire import encode_events
from onready.storage.sqlite import SqliteRunLog
from onready.storage.sqlite.appends import checksum
from onready.storage.sqlite.reading import ReadEvents
from onready.storage.sqlite.writer import Writer

EVENTS: list[AnyEvent] = [started(), *steps(2, 12)]
PARTS = [EVENTS[:1], EVENTS[1:5], EVENTS[5:8], EVENTS[8:]]


def change(path: Path, statement: str, *values: object) -> None:
    connection = sqlite3.connect(path)
    with connection:
        assert connection.execute(statement, values).rowcount >= 1
    connection.close()


def seal(path: Path, first: int, last: int, batch: bytes) -> None:
    """Replace a row by one whose checksum is right: what a bug, not a disk, would write."""
    change(
        path,
        "UPDATE events SET last_seq = ?, checksum = ?, batch = ? WHERE first_seq = ?",
        last,
        checksum("r1", first, last, batch),
        batch,
        first,
    )


DAMAGE: dict[str, Callable[[Path], None]] = {
    "lost middle": lambda path: change(path, "DELETE FROM events WHERE first_seq = 6"),
    "lost tail": lambda path: change(path, "DELETE FROM events WHERE first_seq = 9"),
    "lost head": lambda path: change(path, "DELETE FROM events WHERE first_seq = 1"),
    "lost all": lambda path: change(path, "DELETE FROM events WHERE run = 'r1'"),
    "moved": lambda path: change(path, "UPDATE events SET first_seq = 7 WHERE first_seq = 6"),
    "overlap": lambda path: change(path, "UPDATE events SET last_seq = 9 WHERE first_seq = 6"),
    "no bytes": lambda path: change(path, "UPDATE events SET batch = x'' WHERE first_seq = 6"),
    "another's bytes": lambda path: change(
        path,
        "UPDATE events SET batch = (SELECT batch FROM events WHERE first_seq = 2) "
        "WHERE first_seq = 6",
    ),
    "another run's row": lambda path: change(
        path,
        "UPDATE events SET (checksum, batch) = "
        "(SELECT checksum, batch FROM events WHERE run = 'r2') WHERE first_seq = 1",
    ),
    "not a batch": lambda path: seal(path, 6, 8, b"\xc1"),
    "too few": lambda path: seal(path, 6, 8, encode_events(EVENTS[5:7])),
    "too many": lambda path: seal(path, 6, 8, encode_events(EVENTS[5:9])),
    "wrong numbers": lambda path: seal(path, 6, 8, encode_events(EVENTS[1:4])),
    "gaps": lambda path: seal(path, 6, 8, encode_events([EVENTS[5], EVENTS[7], EVENTS[7]])),
    "none": lambda path: seal(path, 6, 8, encode_events([])),
}


@pytest.mark.anyio
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
async def test_damage_is_refused_where_it_is(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    path = tmp_path / "runs.db"
    async with SqliteRunLog(path) as log:
        for part in PARTS:
            await log.append("r1", 1, part)
        await log.append("r2", 1, [started("another")])
    damage(path)
    async with SqliteRunLog(path) as log:
        for _ in range(2):
            with pytest.raises(StoreError, match="run r1"):
                await read_all(log, "r1")


def test_flipped_bits_are_never_taken_for_events(tmp_path: Path) -> None:
    """Every bit of one stored batch, and 2,000 random ones of all rows and columns of events."""
    path = tmp_path / "runs.db"
    writer = Writer(path, 1.0)
    connection = writer.connect()
    events = every_event()
    batch = encode_events(events)
    last = len(events)
    connection.execute(
        "INSERT INTO runs VALUES ('r1', '', '', 'running', 1, NULL, ?, '', '')", [last]
    )
    check = checksum("r1", 1, last, batch)
    row = ["r1", 1, last, 1, check, batch]
    connection.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)", row)

    def read() -> object:
        request = ReadEvents("r1", 0, path)
        request.apply(connection)
        return request.value

    assert read() == events
    rng = random.Random(1)
    bits = [rng.randrange(len(batch) * 8) for _ in range(2_000)]
    for bit in bits:
        flipped = bytearray(batch)
        flipped[bit // 8] ^= 1 << bit % 8
        connection.execute("UPDATE events SET batch = ?", [bytes(flipped)])
        with pytest.raises(StoreError):
            read()
    connection.execute("UPDATE events SET batch = ?", [batch])
    for bit in range(32):
        connection.execute("UPDATE events SET checksum = ?", [check ^ 1 << bit])
        with pytest.raises(StoreError):
            read()
    connection.close()


@pytest.mark.anyio
async def test_a_damaged_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    async with SqliteRunLog(path) as log:
        await log.append("r1", 1, [started(), *steps(2, 3_000)])
    data = bytearray(path.read_bytes())
    page = slice(2 * 4096, 3 * 4096)
    data[page] = bytes(4096)
    path.write_bytes(data)
    async with SqliteRunLog(path) as log:
        with pytest.raises(StoreError, match="damaged"):
            await read_all(log, "r1")


@pytest.mark.anyio
@pytest.mark.parametrize("cut", range(0, 25_000, 1_111))
async def test_a_torn_write_ahead_log_ends_at_a_commit(tmp_path: Path, cut: int) -> None:
    """What a power cut leaves: the main file, and a log that ends anywhere."""
    path, copy = tmp_path / "runs.db", tmp_path / "copy" / "runs.db"
    copy.parent.mkdir()
    async with SqliteRunLog(path) as log:
        for seq in range(1, 10):
            await log.append("r1", 1, [started()] if seq == 1 else steps(seq, seq))
        copy.write_bytes(path.read_bytes())
        ahead = (tmp_path / "runs.db-wal").read_bytes()
        (copy.parent / "runs.db-wal").write_bytes(ahead[: max(len(ahead) - cut, 0)])
    async with SqliteRunLog(copy) as log:
        numbers = [event.seq for event in await read_all(log, "r1")]
        assert numbers == list(range(1, len(numbers) + 1))
        assert cut or len(numbers) == 9
        following = len(numbers) + 1
        await log.append("r1", 1, [started()] if following == 1 else steps(following, following))
