"""Corners of the SQLite run log: loops that are gone, races of opening, systems without a clock."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import anyio
import pytest

from onready.engine.errors import InternalError, RunLeaseHeld, StoreError
from onready.engine.testing.samples import started, steps
from onready.storage import clock
from onready.storage.private import make_folder
from onready.storage.sqlite import SqliteRunLog, schema
from onready.storage.sqlite.appends import Append
from onready.storage.sqlite.reading import Reader
from onready.storage.sqlite.writer import Writer
from onready.storage.threads.servant import Request

LEFT_OPEN = """
import sys, anyio
from onready.engine.testing.samples import started
from onready.storage.sqlite import SqliteRunLog

kept = []

async def main():
    log = await SqliteRunLog(sys.argv[1]).__aenter__()
    await log.append("r1", 1, [started()])
    kept.append(log)
    # Nobody will wait for the answer: the loop ends before it is there.
    log._writing().ask(__import__("onready.storage.sqlite.appends", fromlist=["x"]).Append("r2", 1, [started()]))

anyio.run(main, backend=sys.argv[2])
for servant in (kept[0]._reader, kept[0]._writer):
    servant._queue.put(None)
    servant._thread.join()
"""


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_log_outlives_its_loop_in_peace(tmp_path: Path, backend: str) -> None:
    command = [sys.executable, "-W", "error", "-c", LEFT_OPEN, str(tmp_path / "runs.db"), backend]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.anyio
async def test_opening_waits_for_another_that_opens(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    path.touch()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")

    async def free() -> None:
        await anyio.sleep(0.1)
        other.execute("ROLLBACK")

    with pytest.raises(StoreError, match="lock") as caught:
        async with SqliteRunLog(path, busy_timeout=0.05):
            pass
    assert caught.value.retryable
    async with anyio.create_task_group() as group:
        group.start_soon(free)
        async with SqliteRunLog(path) as log:
            await log.append("r1", 1, [started()])
    other.close()


def test_switching_to_the_log_waits_for_a_lock(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    sqlite3.connect(path, isolation_level=None).execute("CREATE TABLE t (x)").connection.close()
    one = sqlite3.connect(path, isolation_level=None, timeout=0)
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(sqlite3.OperationalError):
        schema._write_ahead(one, path, 0.05)
    timer = threading.Timer(0.1, other.execute, ["ROLLBACK"])
    timer.start()
    schema._write_ahead(one, path, 30.0)
    assert one.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    timer.join()
    one.close()
    other.close()


def test_a_place_without_shared_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    connection = sqlite3.connect(f"{path.as_uri()}?vfs=unix-dotfile", uri=True)
    with pytest.raises(StoreError, match="write-ahead"):
        schema._write_ahead(connection, path, 1.0)
    connection.close()


def test_a_file_that_is_gone_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be opened"):
        Reader(tmp_path / "absent.db", 1.0).connect()


@pytest.mark.anyio
async def test_a_reader_that_cannot_open_closes_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The leak check of every test looks for the thread and the file."""
    connect = Reader.connect

    def elsewhere(self: Reader) -> sqlite3.Connection:
        return connect(Reader(tmp_path / "absent.db", 1.0))

    monkeypatch.setattr(Reader, "connect", elsewhere)
    with pytest.raises(StoreError, match="cannot be opened"):
        async with SqliteRunLog(tmp_path / "runs.db"):
            pass


@pytest.mark.anyio
async def test_closing_what_was_never_opened_does_nothing(tmp_path: Path) -> None:
    await SqliteRunLog(tmp_path / "runs.db").__aexit__(None, None, None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.anyio
async def test_without_a_boot_clock_the_wall_clock_measures_leases(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clock, "BOOT_ID", tmp_path / "absent")
    async with SqliteRunLog(tmp_path / "runs.db") as log:
        await log.lease("r1", "me", 60.0)
        with pytest.raises(RunLeaseHeld):
            await log.lease("r1", "you", 60.0)
        await log.lease("r2", "me", 0.01)
        await anyio.sleep(0.03)
        await log.lease("r2", "you", 60.0)


class Broken(Request[sqlite3.Connection]):
    """A request with a bug."""

    __slots__ = ()

    def prepare(self) -> bool:
        raise ZeroDivisionError


def test_a_bug_in_one_request_leaves_the_group_alone(tmp_path: Path) -> None:
    writer = Writer(tmp_path / "runs.db", 1.0)
    connection = writer.connect()
    huge = Append("r2", 1, steps(2**63, 2**63))  # beyond what SQLite can hold
    broken, good = Broken(), Append("r1", 1, [started()])
    writer.serve(connection, [broken, huge, good])
    assert isinstance(broken.error, InternalError)
    assert isinstance(huge.error, InternalError)
    assert good.error is None
    connection.close()


def test_many_may_make_one_folder_at_once(tmp_path: Path) -> None:
    errors: list[BaseException] = []
    ready = threading.Barrier(8)

    def make() -> None:
        for number in range(50):
            ready.wait()
            try:
                make_folder(tmp_path / str(number) / "a" / "b" / "c")
            except BaseException as error:  # noqa: BLE001 - looked at below
                errors.append(error)

    threads = [threading.Thread(target=make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
