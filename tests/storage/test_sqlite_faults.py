"""What a disk, another process or a deleted file do to a SQLite run log: nothing half, nothing lost.

The faults are SQLite's own: a limit on pages is its "disk full", a limit on the size of files is
an I/O error, a lock is another connection's lock.
"""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from onready.engine.errors import InternalError, StaleEpoch, StoreError
from onready.engine.events import AnyEvent, NodeSucceeded
from onready.engine.names import NodeKey
from onready.engine.testing.run_log_suite import read_all
from onready.engine.testing.samples import started, steps
from onready.engine.values.stored import Encoded
from onready.storage.clock import LeaseClock
from onready.storage.sqlite import SqliteRunLog
from onready.storage.sqlite.appends import Append
from onready.storage.sqlite.leases import TakeLease
from onready.storage.sqlite.reading import ReadEvents
from onready.storage.sqlite.writer import Writer
from onready.storage.threads.servant import Request


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "runs.db"


class Bench:
    """A writer without its thread, so that a fault can be put between two groups."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.writer = Writer(path, 0.1)
        self.connection = self.writer.connect()

    def serve(self, *requests: Request[sqlite3.Connection]) -> None:
        self.writer.serve(self.connection, list(requests))

    def numbers(self, run: str) -> list[int]:
        request = ReadEvents(run, 0, self.path)
        request.apply(self.connection)
        assert isinstance(request.value, list)
        return [event.seq for event in request.value]


@pytest.fixture
def bench(path: Path) -> Iterator[Bench]:
    bench = Bench(path)
    yield bench
    bench.connection.close()


def big(first: int, count: int = 1) -> list[AnyEvent]:
    """Events of about 32 KiB each."""
    value = Encoded("bytes", bytes(32_000), None, 32_000)
    return [NodeSucceeded(seq, 1.0, NodeKey("a"), 1, value) for seq in range(first, first + count)]


def test_a_full_disk_fails_the_append_and_the_run_goes_on_when_there_is_space(
    bench: Bench,
) -> None:
    bench.serve(Append("r1", 1, [started()]))
    (pages,) = bench.connection.execute("PRAGMA page_count").fetchone()
    bench.connection.execute(f"PRAGMA max_page_count = {pages + 4}")
    full = Append("r1", 1, big(2))
    bench.serve(full)
    assert isinstance(full.error, StoreError)
    assert "no space" in str(full.error)
    assert not full.error.retryable
    later = Append("r1", 1, steps(3, 3))
    bench.serve(later)
    assert isinstance(later.error, StoreError)
    assert bench.numbers("r1") == [1]
    bench.connection.execute("PRAGMA max_page_count = 1000000")
    again = Append("r1", 1, big(2))
    bench.serve(again)
    assert again.error is None
    assert bench.numbers("r1") == [1, 2]


def test_what_is_too_much_for_the_disk_fails_alone(bench: Bench) -> None:
    bench.serve(*(Append(f"r{n}", 1, [started()]) for n in range(5)))
    (pages,) = bench.connection.execute("PRAGMA page_count").fetchone()
    bench.connection.execute(f"PRAGMA max_page_count = {pages + 4}")
    group = [Append(f"r{n}", 1, big(2, 20) if n == 2 else steps(2, 3)) for n in range(5)]
    bench.serve(*group)
    assert [request.error is None for request in group] == [True, True, False, True, True]
    assert [len(bench.numbers(f"r{n}")) for n in range(5)] == [3, 3, 1, 3, 3]


def test_a_read_only_database_fails_the_append(bench: Bench) -> None:
    bench.serve(Append("r1", 1, [started()]))
    bench.connection.execute("PRAGMA query_only = ON")
    append = Append("r1", 1, steps(2, 2))
    bench.serve(append)
    assert isinstance(append.error, StoreError)
    assert "read-only" in str(append.error)
    bench.connection.execute("PRAGMA query_only = OFF")
    assert bench.numbers("r1") == [1]


def test_an_append_that_follows_a_failed_one_in_the_same_group_fails_too(bench: Bench) -> None:
    bench.serve(Append("r1", 1, [started()]))
    (pages,) = bench.connection.execute("PRAGMA page_count").fetchone()
    bench.connection.execute(f"PRAGMA max_page_count = {pages + 4}")
    first, second = Append("r1", 1, big(2, 20)), Append("r1", 1, steps(22, 23))
    bench.serve(first, second)
    assert isinstance(first.error, StoreError)
    assert isinstance(second.error, StoreError)
    assert bench.numbers("r1") == [1]


def test_refusals_and_leases_share_a_group(bench: Bench) -> None:
    clock = LeaseClock()
    old = TakeLease("r1", "me", 60.0, clock)
    begin = Append("r1", 1, [started()])
    new = TakeLease("r1", "me", 60.0, clock)
    stale = Append("r1", 1, steps(2, 2))
    fresh = Append("r1", 2, steps(2, 2))
    gap = Append("r1", 2, steps(5, 5))
    bench.serve(old, begin, new, stale, fresh, gap)
    assert [begin.error, fresh.error] == [None, None]
    assert isinstance(stale.error, StaleEpoch)
    assert isinstance(gap.error, StoreError)
    assert bench.numbers("r1") == [1, 2]


def test_a_lock_that_is_held_too_long_may_be_tried_again(bench: Bench, path: Path) -> None:
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    appends = [Append("r1", 1, [started()]), Append("r2", 1, [started()])]
    bench.serve(*appends)
    for append in appends:
        assert isinstance(append.error, StoreError)
        assert append.error.retryable
        assert "lock" in str(append.error)
    other.execute("ROLLBACK")
    other.close()
    again = Append("r1", 1, [started()])
    bench.serve(again)
    assert again.error is None


@pytest.mark.anyio
async def test_another_process_that_writes_is_waited_for(path: Path) -> None:
    async with SqliteRunLog(path) as log:
        await log.append("r1", 1, [started()])
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        async with anyio.create_task_group() as group:
            group.start_soon(log.append, "r1", 1, steps(2, 2))
            await anyio.sleep(0.1)
            assert len(await read_all(log, "r1")) == 1  # readers do not wait
            other.execute("ROLLBACK")
        other.close()
        assert len(await read_all(log, "r1")) == 2


@pytest.mark.anyio
async def test_a_file_that_was_deleted_takes_nothing_more(path: Path) -> None:
    async with SqliteRunLog(path) as log:
        await log.append("r1", 1, [started()])
        path.unlink()
        with pytest.raises(StoreError, match="removed or replaced"):
            await log.append("r1", 1, steps(2, 2))
        path.write_bytes(b"")
        with pytest.raises(StoreError, match="removed or replaced"):
            await log.append("r1", 1, steps(2, 2))


@pytest.mark.anyio
async def test_a_folder_that_was_deleted_takes_nothing_more(tmp_path: Path) -> None:
    async with SqliteRunLog(tmp_path / "deep" / "runs.db") as log:
        await log.append("r1", 1, [started()])
        shutil.rmtree(tmp_path / "deep")
        with pytest.raises(StoreError, match="removed or replaced"):
            await log.append("r1", 1, steps(2, 2))


@pytest.mark.anyio
async def test_a_fault_of_our_own_reaches_whoever_waits(path: Path) -> None:
    class Broken(Request[sqlite3.Connection]):
        __slots__ = ()

        def apply(self, connection: sqlite3.Connection) -> None:
            del connection
            raise ZeroDivisionError

    async with SqliteRunLog(path) as log:
        with pytest.raises(InternalError, match="ZeroDivisionError"):
            await log._writing().ask(Broken())
        await log.append("r1", 1, [started()])
        with pytest.raises(InternalError, match="ZeroDivisionError"):
            await log._reading().ask(Broken())
        assert await read_all(log, "r1") == [started()]


IO_ERROR = """
import asyncio, resource, signal, sys
from onready.engine.errors import StoreError
from onready.engine.testing.samples import started, steps
from onready.storage.sqlite import SqliteRunLog

async def main():
    async with SqliteRunLog(sys.argv[1]) as log:
        await log.append("r1", 1, [started()])
        last = 1
        try:
            while True:
                await log.append("r1", 1, steps(last + 1, last + 200))
                last += 200
        except StoreError as error:
            print(last, error.retryable, flush=True)
        try:
            await log.append("r1", 1, steps(last + 201, last + 202))
        except StoreError:
            print("refused", flush=True)

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
asyncio.run(main())
"""


@pytest.mark.anyio
async def test_a_disk_that_refuses_to_write_leaves_what_was_reported(path: Path) -> None:
    command = [sys.executable, "-c", IO_ERROR, str(path)]
    done = await anyio.run_process(command, check=False)
    first, second = done.stdout.decode().splitlines()
    last, retryable = first.split()
    assert retryable == "False"
    assert second == "refused"
    assert int(last) > 200
    async with SqliteRunLog(path) as log:
        assert [event.seq for event in await read_all(log, "r1")] == list(range(1, int(last) + 1))
        await log.append("r1", 1, steps(int(last) + 1, int(last) + 1))


KILLED = """
import asyncio, sys
from onready.engine.testing.samples import started, steps
from onready.storage.sqlite import SqliteRunLog

async def drive(log, run):
    await log.append(run, 1, [started()])
    last = 1
    while True:
        await log.append(run, 1, steps(last + 1, last + 7))
        last += 7
        print(run, last, flush=True)

async def main():
    async with SqliteRunLog(sys.argv[1]) as log:
        await asyncio.gather(*(drive(log, f"r{n}") for n in range(4)))

asyncio.run(main())
"""


@pytest.mark.anyio
@pytest.mark.parametrize("lines", [1, 40, 200])
async def test_a_killed_process_lost_nothing_that_it_was_told_was_durable(
    path: Path, lines: int
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        told: dict[str, int] = {}
        for _ in range(lines):
            run, last = process.stdout.readline().split()
            told[run] = int(last)
        process.send_signal(signal.SIGKILL)
        for line in process.stdout:
            if line.endswith("\n"):
                run, last = line.split()
                told[run] = int(last)
    async with SqliteRunLog(path) as log:
        for run, durable in told.items():
            numbers = [event.seq for event in await read_all(log, run)]
            assert numbers == list(range(1, len(numbers) + 1))
            assert len(numbers) >= durable
            await log.append(run, 1, steps(len(numbers) + 1, len(numbers) + 1))
