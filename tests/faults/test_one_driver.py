"""One driver per run: races for a run (F4), a driver that was stopped (F5), one that blocks (F21)."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from onready import Engine, Run, StoreError
from onready.engine.errors import RunLeaseHeld
from onready.engine.events import (
    AnyEvent,
    NodeStarted,
    NodeSucceeded,
    RunResumed,
    RunSucceeded,
)
from onready.engine.testing.run_log_suite import read_all
from onready.storage.sqlite import SqliteRunLog
from tests.faults.drivers import answer, marks, program, tell, until
from tests.faults.sizes import size

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """One loop: the drivers are processes, and what is raced for is in the store."""
    return "asyncio"


async def events_of(folder: Path, run: str) -> Sequence[AnyEvent]:
    """What is recorded of a run."""
    async with SqliteRunLog(folder / "runs.db") as log:
        return await read_all(log, run)


async def test_of_two_that_resume_a_run_one_drives(tmp_path: Path) -> None:
    rounds = size(10, 100)
    with program("begin", str(tmp_path), str(rounds)) as dies:
        assert answer(dies) == "begun"
        until(lambda: all(marks(tmp_path, f"r{number}") for number in range(rounds)))
        dies.kill()
        dies.wait()
    with program("race", str(tmp_path)) as one, program("race", str(tmp_path)) as two:
        assert (answer(one), answer(two)) == ("ready", "ready")
        for number in range(rounds):
            run = f"r{number}"
            tell(one, run)
            tell(two, run)
            # The one that is refused says so while the other still drives: the gate is shut.
            answers = {answer(one): one, answer(two): two}
            assert set(answers) == {"drives", "held"}
            (tmp_path / f"{run}.gate").touch()
            winner = answers["drives"]
            assert answer(winner) == "succeeded"
            ran = marks(tmp_path, run)
            assert [word for word, _ in ran] == ["first", "first", "second", "third"]
            assert {who for _, who in ran[1:]} == {str(winner.pid)}
            events = await events_of(tmp_path, run)
            assert sum(isinstance(event, RunResumed) for event in events) == 1
            assert isinstance(events[-1], RunSucceeded)


async def take_over(engine: Engine, run: str) -> Run[object]:
    """Resume a run as soon as the lease of its driver, which is stopped, has run out."""
    with anyio.fail_after(40):
        while True:
            try:
                return await engine.resume(run)
            except RunLeaseHeld:
                await anyio.sleep(0.05)


async def stop(folder: Path, child: subprocess.Popen[str]) -> None:
    """Stop a driver where it holds no lock of the store: with that, nobody could go on."""
    while True:
        child.send_signal(signal.SIGSTOP)
        try:
            async with SqliteRunLog(folder / "runs.db", busy_timeout=0.2) as log:
                await log.lease("probe", "nobody", 0.1)
        except StoreError:
            child.send_signal(signal.SIGCONT)
            await anyio.sleep(0.02)
        else:
            return


@pytest.mark.may_block("nodes leave their marks in a file")
async def test_a_driver_that_was_stopped_records_nothing_after_another_came(
    tmp_path: Path,
) -> None:
    async with Engine(folder=tmp_path, grace=0.2) as engine:
        for number in range(size(2, 50)):
            run, gate = f"r{number}", tmp_path / f"r{number}.gate"
            with program("drive", str(tmp_path), run, "0.5") as stopped:
                until(lambda run=run: marks(tmp_path, run))
                while not await events_of(tmp_path, run):
                    await anyio.sleep(0.01)
                await stop(tmp_path, stopped)
                resumed = await take_over(engine, run)
                if number % 2:
                    # It wakes up with work to record, of a run that has ended.
                    gate.touch()
                    await resumed.wait()
                stopped.send_signal(signal.SIGCONT)
                # By itself, and with the reason.
                assert await anyio.to_thread.run_sync(answer, stopped) == "interrupted StaleEpoch"
                assert stopped.wait(40) == 0
            gate.touch()
            assert (await resumed.wait()).status == "succeeded"
            events = await events_of(tmp_path, run)
            place = [isinstance(event, RunResumed) for event in events].index(True)
            after = [str(e.node) for e in events[place:] if isinstance(e, NodeSucceeded)]
            assert after == ["first", "second", "third"]
            assert isinstance(events[-1], RunSucceeded)
            if not number % 2:
                # With work at hand it may begin what is in its own process, until it is refused.
                assert {who for _, who in marks(tmp_path, run)[1:]} == {str(os.getpid())}


async def test_a_driver_that_was_stopped_goes_on_where_nobody_came(tmp_path: Path) -> None:
    with program("drive", str(tmp_path), "r", "0.5") as stopped:
        until(lambda: marks(tmp_path, "r"))
        stopped.send_signal(signal.SIGSTOP)
        time.sleep(1.0)
        (tmp_path / "r.gate").touch()
        stopped.send_signal(signal.SIGCONT)
        assert answer(stopped) == "succeeded NoneType"
        assert stopped.wait(40) == 0


async def test_nobody_takes_the_run_of_a_host_that_blocks(tmp_path: Path) -> None:
    lease = 1.5
    run = f"block-{size(3, 10) * lease}"
    refused = 0
    with program("drive", str(tmp_path), run, str(lease)) as blocked:
        until(lambda: marks(tmp_path, run))
        async with SqliteRunLog(tmp_path / "runs.db") as log:
            while len(marks(tmp_path, run)) == 1:
                with pytest.raises(RunLeaseHeld):
                    await log.lease(run, "somebody else", 1.0)
                refused += 1
                await anyio.sleep(0.05)
        assert answer(blocked) == "succeeded NoneType"
        assert blocked.wait(40) == 0
    assert refused > 10
    events = await events_of(tmp_path, run)
    nodes = [str(event.node) for event in events if isinstance(event, NodeStarted)]
    assert nodes == ["block", "second", "third"]
    assert {who for _, who in marks(tmp_path, run)} == {str(blocked.pid)}
