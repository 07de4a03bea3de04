"""When the run log fails, or another driver takes the run over: nothing goes on unrecorded."""

from __future__ import annotations

from pathlib import Path

import anyio
import pytest

from onready import Engine, StoreError, graph, task
from onready.engine.errors import RunLeaseHeld, StaleEpoch
from onready.engine.events import AttemptPlanned, NodeStarted
from onready.engine.run import Run
from onready.engine.spi import RunFilter
from onready.engine.testing.fakes import FakeBackend, Script
from onready.storage.sqlite import SqliteRunLog
from tests.engine import work
from tests.engine.stores import FaultyRunLog, LaterClock

pytestmark = pytest.mark.anyio


@graph
def chain(x: int) -> str:
    """Between its nodes there is time for the journal, however slow the machine is."""
    link = work.note("0", work.nap(0.02))
    for number in range(1, 40):
        link = work.note(str(number), work.nap.with_options(after=[link])(0.02))
    return link


async def follow(run: Run[object], seen: list[int]) -> None:
    async for event in run.events():
        seen.append(event.seq)


@pytest.mark.parametrize("good", [0, 1, 2, 3])
async def test_a_run_log_that_fails_interrupts_the_run(good: int) -> None:
    log = FaultyRunLog(good)
    async with Engine.memory(run_log=log, grace=0.2) as engine:
        if not good:
            with pytest.raises(StoreError, match="disk is full"):
                await engine.start(chain.bind(1))
            assert await engine.runs() == []
            return
        run = await engine.start(chain.bind(1))
        outcome = await run.wait()
        assert outcome.status == "interrupted"
        assert isinstance(outcome.error, StoreError)
        with pytest.raises(StoreError, match="disk is full"):
            await run.result()
        seen: list[int] = []
        with pytest.raises(StoreError, match="disk is full"):
            await follow(run, seen)
        assert seen == [event.seq for event in log.appended]
        await run.cancel("it has ended")
        # What never was recorded was followed by nothing.
        before = list(work.calls)
        await anyio.sleep(0.1)
        assert work.calls == before
        assert "39" not in work.calls
        # The engine lives on, and so does the lease's owner.
        await log.inner.lease(run.id, "somebody else", 1.0)


async def test_nothing_is_submitted_whose_plan_could_not_be_recorded() -> None:
    fake = FakeBackend()
    log = FaultyRunLog(refused=AttemptPlanned)
    log.durable = True

    @graph
    def later() -> int:
        return work.add_one.with_options(backend="away", after=[work.nap(0.05)])(1)

    async with Engine.memory(run_log=log, backends={"away": fake}) as engine:
        run = await engine.start(later.bind())
        assert (await run.wait()).status == "interrupted"
    assert AttemptPlanned in {type(event) for event in log.tried}
    assert AttemptPlanned not in {type(event) for event in log.appended}
    assert fake.platform.starts.total() == 0


async def test_running_attempts_are_stopped_when_the_run_log_fails() -> None:
    fake = FakeBackend(lambda _: Script(end="hang"))
    log = FaultyRunLog(2)

    @graph
    def both() -> list[object]:
        return [work.add_one.with_options(backend="away")(1), work.note("x", work.nap(0.05))]

    async with Engine.memory(run_log=log, backends={"away": fake}) as engine:
        run = await engine.start(both.bind())
        assert (await run.wait()).status == "interrupted"
    assert fake.platform.live == {}


async def test_events_of_a_subscriber_end_with_the_fault() -> None:
    log = FaultyRunLog(2)
    async with Engine.memory(run_log=log, grace=0.2) as engine:
        run = await engine.start(chain.bind(1))
        seen: list[int] = []
        with pytest.raises(StoreError, match="disk is full"):
            await follow(run, seen)
    assert seen == [event.seq for event in log.appended]


async def test_an_error_that_is_no_store_error_is_told_too() -> None:
    log = FaultyRunLog(1, lambda: ZeroDivisionError("a bug in the store"))
    async with Engine.memory(run_log=log, grace=0.2) as engine:
        run = await engine.start(work.add_one.bind(1))
        with pytest.raises(ZeroDivisionError, match="a bug in the store"):
            await run.result()


@task
async def robbed(folder: str) -> int:
    """Another driver takes this run's lease while the node runs: for that one it has run out."""
    async with SqliteRunLog(Path(folder) / "runs.db") as other:
        other._clock = LaterClock(3600.0)
        while not await other.runs(RunFilter()):
            await anyio.sleep(0.001)  # the run's first event is on its way
        lease = await other.lease(work.calls[0], "another driver", 60.0)
        assert lease.epoch == 2
    return 1


@graph
def taken(folder: str) -> str:
    return work.note("after", robbed(folder))


async def test_a_run_that_another_driver_took_over_stops(tmp_path: Path) -> None:
    async with Engine(folder=tmp_path, grace=0.2) as engine:
        work.calls.append("theirs")
        run = await engine.start(taken.bind(str(tmp_path)), id="theirs")
        outcome = await run.wait()
        assert outcome.status == "interrupted"
        with pytest.raises(StaleEpoch, match="epoch"):
            await run.result()
        recorded = [event async for event in engine.history("theirs")]
    assert all(not isinstance(e, NodeStarted) or str(e.node) == "robbed" for e in recorded)
    async with SqliteRunLog(tmp_path / "runs.db") as log:
        # The other driver's lease was left alone.
        with pytest.raises(RunLeaseHeld, match="another driver"):
            await log.lease("theirs", "a third", 1.0)


async def test_a_store_that_fails_while_a_run_is_cancelled() -> None:
    log = FaultyRunLog(3)
    async with Engine.memory(run_log=log, grace=0.2) as engine:
        run = await engine.start(work.forever.bind())
        with anyio.fail_after(10):
            while "begun" not in work.calls:
                await anyio.sleep(0.001)
        log.good = 0
        await run.cancel("enough")
        outcome = await run.wait()
        assert outcome.status == "interrupted"
        assert isinstance(outcome.error, StoreError)
    assert work.calls == ["begun", "ended"]
