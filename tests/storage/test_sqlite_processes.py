"""Several processes on one SQLite run log: no lock surfaces, nothing mixes, one driver a run."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from onready.engine.spi import Lease, RunFilter
from onready.engine.testing.run_log_suite import read_all
from onready.engine.testing.samples import started, steps
from onready.storage.clock import Moment
from onready.storage.sqlite import SqliteRunLog
from onready.storage.sqlite.leases import RenewLease, TakeLease
from onready.storage.sqlite.writer import Writer
from onready.storage.threads.servant import Request

DRIVER = """
import asyncio, sys
from onready.engine.testing.samples import started, steps
from onready.storage.sqlite import SqliteRunLog

async def drive(log, run, name):
    lease = await log.lease(run, name, 60.0)
    await log.append(run, lease.epoch, [started(name)])
    for seq in range(2, 42, 2):
        await log.append(run, lease.epoch, steps(seq, seq + 1, run))
    await log.release(lease)

async def main():
    async with SqliteRunLog(sys.argv[1]) as log:
        who = sys.argv[2]
        await asyncio.gather(*(drive(log, f"{who}-{n}", f"name-{who}") for n in range(5)))

asyncio.run(main())
"""

RIVAL = """
import asyncio, sys
from onready.engine.errors import RunLeaseHeld
from onready.storage.sqlite import SqliteRunLog

async def main():
    async with SqliteRunLog(sys.argv[1]) as log:
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(20):
            try:
                lease = await log.lease(f"r{number}", sys.argv[2], 60.0)
                print(lease.run, lease.epoch, flush=True)
            except RunLeaseHeld:
                pass

asyncio.run(main())
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.anyio
async def test_processes_share_a_file_that_none_of_them_found(tmp_path: Path) -> None:
    path = tmp_path / "new" / "runs.db"
    processes = [start(DRIVER, path, f"p{number}") for number in range(4)]
    for process in processes:
        process.communicate()
    assert [process.returncode for process in processes] == [0] * 4
    async with SqliteRunLog(path) as log:
        records = await log.runs(RunFilter())
        assert len(records) == 20
        for record in records:
            assert record.name == f"name-{record.run.partition('-')[0]}"
            expected = [started(record.name), *steps(2, 41, record.run)]
            assert await read_all(log, record.run) == expected


def test_of_processes_that_want_a_lease_one_gets_it(tmp_path: Path) -> None:
    path = tmp_path / "runs.db"
    processes = [start(RIVAL, path, f"p{number}") for number in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    won = [line for process in processes for line in process.communicate("go\n")[0].splitlines()]
    assert sorted(won) == sorted(f"r{number} 1" for number in range(20))


# --- the clocks of leases: moments of several processes, machines' boots and jumps ---


def apply(
    connection: sqlite3.Connection, request: Request[sqlite3.Connection]
) -> Request[sqlite3.Connection]:
    try:
        request.apply(connection)
    except Exception as error:  # noqa: BLE001 - looked at by the tests
        request.error = error
    return request


class Clock:
    """A lease clock that shows what it is told."""

    def __init__(self, boot: str, since_boot: float, wall: float) -> None:
        self.moment = Moment(boot, since_boot, wall)

    def __call__(self) -> Moment:
        return self.moment


HOUR = 3600.0


@pytest.mark.parametrize(
    ("boot", "since_boot", "wall", "free"),
    [
        ("boot-1", 105.0, 1005.0, False),
        ("boot-1", 110.0, 1010.0, True),
        ("boot-1", 105.0, 1000.0 + HOUR, False),  # the wall clock jumped: it does not count
        ("boot-1", 105.0, 1000.0 - HOUR, False),
        ("boot-1", 110.0, 1000.0 - HOUR, True),
        ("boot-2", 5.0, 1005.0, False),  # another boot: only the wall clock is left
        ("boot-2", 5.0, 1010.0, True),
        ("boot-2", 500.0, 1005.0, False),
        ("", 0.0, 1005.0, False),
        ("", 0.0, 1010.0, True),
    ],
)
def test_which_clock_ends_a_lease(
    tmp_path: Path, boot: str, since_boot: float, wall: float, *, free: bool
) -> None:
    connection = Writer(tmp_path / "runs.db", 1.0).connect()
    apply(connection, TakeLease("r1", "me", 10.0, Clock("boot-1", 100.0, 1000.0)))
    rival = apply(connection, TakeLease("r1", "you", 10.0, Clock(boot, since_boot, wall)))
    assert (rival.error is None) == free
    connection.close()


def test_renewing_counts_from_the_moment_of_renewing(tmp_path: Path) -> None:
    connection = Writer(tmp_path / "runs.db", 1.0).connect()
    apply(connection, TakeLease("r1", "me", 10.0, Clock("b", 100.0, 1000.0)))
    renewal = RenewLease(Lease("r1", 1, 10.0, "me"), Clock("b", 109.0, 1009.0))
    assert apply(connection, renewal).error is None
    early = apply(connection, TakeLease("r1", "you", 10.0, Clock("b", 118.0, 1018.0)))
    assert early.error is not None
    late = apply(connection, TakeLease("r1", "you", 10.0, Clock("b", 119.0, 1019.0)))
    assert late.error is None
    connection.close()
