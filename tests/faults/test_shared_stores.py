"""F19, and F5 for the run log in files: many processes on one run log, and a driver that sleeps through its lease.

No error about locks surfaces, no run has another's events, and what an old driver writes after
another took its run never becomes part of the history.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from onready.engine.errors import RunLeaseHeld
from onready.engine.events import NodeStarted, NodeSucceeded
from onready.engine.registry import RUN_LOGS, RunLogConfig, create
from onready.engine.spi import Lease, RunFilter, RunLog
from onready.engine.testing.run_log_suite import read_all
from onready.engine.testing.samples import started, steps
from tests.faults.sizes import size

PROCESSES, RUNS, NODES = size(4, 8), 10, 100
LIMIT = 300.0
"""Seconds after which something hangs."""


@pytest.fixture
def anyio_backend() -> str:
    """Asyncio alone: the processes are the subject, and each has a loop of its own."""
    return "asyncio"


@pytest.fixture(params=["files:{}/runs", "sqlite:{}/runs.db"], ids=["files", "sqlite"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(request.param).format(tmp_path)


DRIVER = """
import asyncio, sys
from onready.engine.registry import RUN_LOGS, create
from onready.engine.testing.samples import started, steps

async def drive(log, run, last, at_once):
    lease = await log.lease(run, run, 300.0)
    await log.append(run, lease.epoch, [started(run)])
    for seq in range(2, last, at_once):
        await log.append(run, lease.epoch, steps(seq, min(seq + at_once - 1, last), run))
    await log.release(lease)

async def main(config):
    who, runs, last, at_once = sys.argv[2], *map(int, sys.argv[3:])
    async with config.open() as log:
        print("ready", flush=True)
        sys.stdin.readline()
        await asyncio.gather(*(drive(log, f"{who}-{n}", last, at_once) for n in range(runs)))

asyncio.run(main(create(RUN_LOGS, sys.argv[1])))
"""


def begin(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.timeout(LIMIT)
def test_processes_share_a_store(address: str) -> None:
    last, at_once = 1 + 2 * NODES, size(20, 2)
    processes = [begin(DRIVER, address, f"p{n}", RUNS, last, at_once) for n in range(PROCESSES)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [process.communicate(timeout=LIMIT) for process in processes]
    assert [process.returncode for process in processes] == [0] * PROCESSES, told
    config = create(RUN_LOGS, address)

    async def check() -> None:
        async with config.open() as log:
            records = await log.runs(RunFilter(limit=1000))
            assert {record.run for record in records} == {
                f"p{process}-{run}" for process in range(PROCESSES) for run in range(RUNS)
            }
            for record in records:
                assert (record.name, record.last_seq) == (record.run, last)
                expected = [started(record.run), *steps(2, last, record.run)]
                assert await read_all(log, record.run) == expected

    anyio.run(check)


async def configured(address: str) -> RunLogConfig:
    return await anyio.to_thread.run_sync(lambda: create(RUN_LOGS, address))


SLEEPER = """
import asyncio, sys
from onready.engine.errors import StaleEpoch
from onready.engine.registry import RUN_LOGS, create
from onready.engine.testing.samples import started, steps

async def main(config):
    async with config.open() as log:
        lease = await log.lease("r1", "sleeper", 0.2)
        await log.append("r1", lease.epoch, [started()])
        last = 1
        try:
            while True:
                await log.append("r1", lease.epoch, steps(last + 1, last + 3, "sleeper"))
                last += 3
                print(last, flush=True)
        except StaleEpoch:
            print("stale", flush=True)

asyncio.run(main(create(RUN_LOGS, sys.argv[1])))
"""


@pytest.mark.anyio
@pytest.mark.timeout(LIMIT)
async def test_a_driver_that_slept_through_its_lease_adds_nothing(tmp_path: Path) -> None:
    for number in range(size(3, 50)):
        address = f"files:{tmp_path}/runs-{number}"
        config = await configured(address)
        sleeper = await anyio.to_thread.run_sync(begin, SLEEPER, address)
        assert sleeper.stdout is not None
        told = [await anyio.to_thread.run_sync(sleeper.stdout.readline) for _ in range(3 + number)]
        sleeper.send_signal(signal.SIGSTOP)
        async with config.open() as log:
            lease = await _take(log)
            seen = await read_all(log, "r1")
            sleeper.send_signal(signal.SIGCONT)
            last = len(seen)
            for seq in range(last + 1, last + 21, 2):
                await log.append("r1", lease.epoch, steps(seq, seq + 1, "taker"))
            rest, errors = await anyio.to_thread.run_sync(sleeper.communicate)
            assert sleeper.returncode == 0, errors
            told += rest.splitlines()
            assert told[-1].strip() == "stale"
            history = await read_all(log, "r1")
        assert history[:last] == seen
        assert history[last:] == steps(last + 1, last + 20, "taker")
        assert last >= max(int(line) for line in told[:-1])  # what it was told was kept
        owners = {
            str(e.node).partition("[")[0]
            for e in history
            if isinstance(e, (NodeStarted, NodeSucceeded))
        }
        assert owners == {"sleeper", "taker"}


async def _take(log: RunLog) -> Lease:
    with anyio.fail_after(LIMIT):
        while True:
            try:
                return await log.lease("r1", "taker", 60.0)
            except RunLeaseHeld:
                await anyio.sleep(0.02)


RIVAL = """
import asyncio, json, sys
from onready.engine.errors import RunLeaseHeld
from onready.engine.registry import RUN_LOGS, create

async def main(config):
    async with config.open() as log:
        print("ready", flush=True)
        sys.stdin.readline()
        won = []
        for number in range(int(sys.argv[3])):
            try:
                lease = await log.lease(f"r{number}", sys.argv[2], 300.0)
                won.append([lease.run, lease.epoch])
            except RunLeaseHeld:
                pass
        print(json.dumps(won), flush=True)

asyncio.run(main(create(RUN_LOGS, sys.argv[1])))
"""


@pytest.mark.timeout(LIMIT)
def test_of_processes_that_want_a_lease_one_gets_it(tmp_path: Path) -> None:
    """For SQLite the tests of the store itself hold it."""
    address = f"files:{tmp_path}/runs"
    runs = size(20, 100)
    processes = [begin(RIVAL, address, f"p{number}", runs) for number in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    told = [process.communicate(timeout=LIMIT) for process in processes]
    assert [process.returncode for process in processes] == [0] * 4, told
    won = [tuple(lease) for output, _ in told for lease in json.loads(output)]
    assert sorted(won) == sorted((f"r{number}", 1) for number in range(runs))
