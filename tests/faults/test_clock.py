"""Clocks that jump (F22): an hour, a day, back and forth, in the middle of waits and of leases."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import anyio
import pytest

from onready import Engine, Retry, graph, task
from onready.engine.dispatcher.core import Services
from onready.engine.errors import RunLeaseHeld
from onready.engine.events import NodeFailed, NodeRetrying, NodeStarted
from onready.storage.clock import LeaseClock, Moment
from onready.storage.sqlite import SqliteRunLog
from tests.engine import work
from tests.faults.sizes import size

pytestmark = pytest.mark.anyio

HOUR = 3600.0
DAY = 24 * HOUR
JUMPS = [HOUR, -HOUR, DAY, -DAY]
PAUSE = 0.3


class Wall:
    """A wall clock that somebody sets again and again: another jump at each look."""

    def __init__(self, seed: int) -> None:
        self._draw = random.Random(seed)
        self.looks = 0

    def __call__(self) -> float:
        self.looks += 1
        return time.time() + self._draw.choice(JUMPS)


class JumpingClock(LeaseClock):
    """The clock of leases, where the wall clock jumps and the boot clock does not."""

    def __init__(self, wall: Wall) -> None:
        super().__init__()
        self._wall = wall

    def __call__(self) -> Moment:
        return replace(super().__call__(), wall=self._wall())


tries: list[float] = []
"""When the node below was tried, by the monotonic clock."""


@task(retry=Retry(2, backoff=PAUSE, factor=1.0, jitter=False))
async def unlucky(x: int) -> int:
    """Ends well the third time."""
    tries.append(time.monotonic())
    if len(tries) < 3:
        message = "no luck"
        raise OSError(message)
    return x


@graph
def waits() -> list[int]:
    """A backoff, a limit that is kept, a limit that is not reached."""
    kept = work.nap.with_options(name="kept", timeout=HOUR / 2)(0.2)
    return [unlucky(1), work.add_one.with_options(after=[kept])(1)]


@graph
def late() -> float:
    """A limit that is passed."""
    return work.nap.with_options(name="late", timeout=0.3)(HOUR)


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Wall:
    """The wall clock of every run in this test."""
    made = Wall(random.randrange(1 << 30))
    monkeypatch.setattr("onready.engine.driving.Services", partial(Services, now=made))
    return made


async def test_waits_and_limits_do_not_follow_the_wall_clock(tmp_path: Path, wall: Wall) -> None:
    for _ in range(size(1, 20)):
        tries.clear()
        async with Engine(folder=tmp_path, grace=0.2) as engine:
            run = await engine.start(waits.bind(), timeout=HOUR / 2)
            passed = await engine.start(late.bind(), timeout=HOUR / 2)
            assert await run.result() == [1, 2]
            events = [event async for event in run.events()]
            outcome = await passed.wait()
        # By the clock that nobody sets the pauses were kept. How long they were beyond that is
        # the machine's affair.
        assert all(after - before >= PAUSE for before, after in pairwise(tries))
        assert sum(isinstance(event, NodeRetrying) for event in events) == 2
        assert not any(isinstance(event, NodeFailed) for event in events)
        assert [failure.kind for failure in outcome.failures] == ["timeout"]
        # Times are only for people: order is by number.
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        starts = [
            e.attempt for e in events if isinstance(e, NodeStarted) and e.node.name == "unlucky"
        ]
        assert starts == [1, 2, 3]
    assert wall.looks > 10


async def test_a_lease_neither_grows_nor_shrinks(tmp_path: Path, wall: Wall) -> None:
    path = tmp_path / "runs.db"
    for number in range(size(2, 40)):
        run = f"r{number}"
        async with SqliteRunLog(path) as ours, SqliteRunLog(path) as theirs:
            ours._clock = JumpingClock(wall)
            theirs._clock = JumpingClock(wall)
            lease = await ours.lease(run, "us", 1.0)
            for _ in range(5):
                # Not lost, though a day has passed on the wall.
                with pytest.raises(RunLeaseHeld):
                    await theirs.lease(run, "them", 0.5)
                await ours.renew(lease)
            # Not kept, though the clock went back by a day.
            with anyio.fail_after(30):
                while True:
                    try:
                        taken = await theirs.lease(run, "them", 0.5)
                    except RunLeaseHeld:
                        await anyio.sleep(0.02)
                    else:
                        break
            assert taken.epoch == lease.epoch + 1


async def test_a_driver_keeps_its_run_while_the_wall_clock_jumps(
    tmp_path: Path, wall: Wall, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onready.storage.sqlite.log.LeaseClock", partial(JumpingClock, wall))
    async with Engine(folder=tmp_path, grace=0.2, lease=1.5) as engine:
        run = await engine.start(work.forever.bind(), id="ours")
        async with Engine(folder=tmp_path) as other:
            for _ in range(size(20, 100)):
                with pytest.raises(RunLeaseHeld):
                    await other.resume("ours")
                await anyio.sleep(0.1)
        assert not run.done
        await run.cancel("enough")
        assert (await run.wait()).status == "cancelled"
