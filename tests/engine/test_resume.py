"""Resume: an interrupted run goes on; what was committed is kept, the rest is made again."""

from __future__ import annotations

import importlib
import linecache
import shutil
import sys
from pathlib import Path

import anyio
import pytest

from onready import Engine, File, GraphBuilder, Run
from onready.engine.dispatcher.caution import WINDOW
from onready.engine.errors import (
    ConfigError,
    PlanDrift,
    RunCancelled,
    RunConflict,
    RunLeaseHeld,
    RunNotFound,
    StoreError,
)
from onready.engine.events import (
    AttemptPlanned,
    NodeRetrying,
    NodeStarted,
    NodeSucceeded,
    RunCancelling,
    RunResumed,
    RunStarted,
    RunSucceeded,
    ScopeOpened,
)
from onready.engine.history import check_history
from onready.engine.scheduler.retry import DRIVER
from tests.engine import resumed
from tests.engine.resumed import RUN, World, is_event

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.may_block("nodes write to a ledger; a graph is traced in the loop"),
]


@pytest.fixture(params=["memory", "sqlite"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> World:
    """Stores of each kind."""
    return World(tmp_path, durable=request.param == "sqlite")


@pytest.fixture
def durable(tmp_path: Path) -> World:
    """Stores in a folder."""
    return World(tmp_path, durable=True)


async def run_chain(world: World) -> None:
    async with world.engine() as engine:
        assert await engine.run(resumed.chain.bind(1), id=RUN) == 3


def marks(path: Path) -> list[str]:
    return path.read_text().splitlines()


# --- what is kept ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "again"), [("one", ["two", "three"]), ("two", ["three"]), ("three", [])]
)
async def test_what_had_succeeded_is_kept(
    world: World, node: str, again: list[str], ledger: list[str]
) -> None:
    await run_chain(world)
    await world.cut(is_event(NodeSucceeded, node))
    before = await world.events()
    ledger.clear()
    async with world.engine() as engine:
        run = await engine.resume(RUN, resumed.chain.bind(1))
        assert await run.result() == 3
        seen = [event async for event in run.events()]
    assert ledger == again
    events = await world.events()
    assert events == seen
    assert events[: len(before)] == before
    assert isinstance(events[len(before)], RunResumed)
    assert check_history(events, run.plan) == []


async def test_the_plan_and_its_functions_come_from_the_catalog(
    durable: World, ledger: list[str]
) -> None:
    await run_chain(durable)
    await durable.cut(is_event(NodeSucceeded, "one"))
    ledger.clear()
    async with durable.engine() as engine:
        assert await (await engine.resume("last")).result() == 3
    assert ledger == ["two", "three"]


async def test_the_same_id_goes_on_with_an_interrupted_run(world: World, ledger: list[str]) -> None:
    await run_chain(world)
    await world.cut(is_event(NodeSucceeded, "two"))
    ledger.clear()
    async with world.engine() as engine:
        with pytest.raises(RunConflict):
            await engine.start(resumed.chain.bind(2), id=RUN)
        with pytest.raises(RunConflict):
            await engine.start(resumed.longer.bind(1), id=RUN)
        run = await engine.start(resumed.chain.bind(1), id=RUN)
        assert await run.result() == 3
        assert ledger == ["three"]
        # And now that it has ended, the same again gives what it came to.
        assert await engine.run(resumed.chain.bind(1), id=RUN) == 3
    assert ledger == ["three"]


async def test_items_that_had_succeeded_are_kept(world: World, ledger: list[str]) -> None:
    async with world.engine() as engine:
        assert await engine.run(resumed.squares.bind([1, 2, 3]), id=RUN) == 14
    await world.cut(is_event(NodeSucceeded, "square[1]"))
    done = {str(e.node) for e in await world.events() if isinstance(e, NodeSucceeded)}
    ledger.clear()
    async with world.engine() as engine:
        assert await (await engine.resume(RUN, resumed.squares.bind([1, 2, 3]))).result() == 14
    assert "square 2" not in ledger
    assert ledger.count("total") == 1
    expected = {"square[0]": "square 1", "square[2]": "square 3"}
    for node, line in expected.items():
        assert ledger.count(line) == (node not in done)


async def test_large_values_files_and_projections_survive(durable: World, tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    async with durable.engine() as engine:
        first = await engine.run(resumed.values.bind(str(path)), id=RUN)
    await durable.cut(lambda event: isinstance(event, AttemptPlanned))
    assert len(marks(path)) == 4
    # Its result record would be believed, so that nobody would read the values.
    shutil.rmtree(tmp_path / "catalog" / "records" / "runs")
    async with durable.engine() as engine:
        run: Run[object] = await engine.resume(RUN)
        second = await run.result()
    assert marks(path)[4:] == ["lengths 2"]
    assert isinstance(first, list)
    assert isinstance(second, list)
    assert second[:3] == first[:3] == [2 * resumed.LARGE, 3, "three"]
    kept = second[3]
    assert isinstance(kept, File)
    assert await anyio.Path(kept.path).read_text() == "z" * resumed.LARGE
    assert check_history(await durable.events(), run.plan) == []


async def test_more_nodes_than_begin_with_caution(world: World, ledger: list[str]) -> None:
    numbers = list(range(WINDOW + 100))
    bound = resumed.squares.bind(numbers)
    async with world.engine() as engine:
        assert await engine.run(bound, id=RUN) == sum(x * x for x in numbers)
    await world.cut(is_event(ScopeOpened))
    ledger.clear()
    async with world.engine() as engine:
        assert await (await engine.resume(RUN, bound)).result() == sum(x * x for x in numbers)
    assert sum(line.startswith("square") for line in ledger) == len(numbers)


async def test_more_threads_than_begin_with_caution(durable: World, ledger: list[str]) -> None:
    g = GraphBuilder("threads")
    for place in range(WINDOW + 50):
        g.add(resumed.two, place, name=f"t{place}")
    bound = g.build(result=None)
    async with durable.engine() as engine:
        await engine.run(bound, id=RUN)
    await durable.cut(is_event(RunStarted))
    ledger.clear()
    async with durable.engine() as engine:
        run = await engine.resume(RUN, bound)
        await run.result()
    assert len(ledger) == WINDOW + 50
    assert check_history(await durable.events(), run.plan) == []


# --- what was live --------------------------------------------------------------------------------


async def test_a_success_that_the_log_lost_is_believed(durable: World, tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    async with durable.engine() as engine:
        assert await engine.run(resumed.away.bind(str(path)), id=RUN) == 3
    await durable.cut(is_event(AttemptPlanned, "apart"))
    async with durable.engine() as engine:
        run: Run[object] = await engine.resume(RUN)
        assert await run.result() == 3
    assert marks(path).count("apart 1") == 1, "its record is the commit"
    assert "apart 2" not in marks(path)
    assert marks(path).count("warm 1") == 2, "nothing of it had been recorded"
    assert check_history(await durable.events(), run.plan) == []


async def test_an_attempt_of_a_warm_worker_is_made_again(durable: World, tmp_path: Path) -> None:
    path = tmp_path / "ledger"
    async with durable.engine() as engine:
        assert await engine.run(resumed.away.bind(str(path)), id=RUN) == 3
    await durable.cut(is_event(AttemptPlanned, "warm"))
    async with durable.engine() as engine:
        run: Run[object] = await engine.resume(RUN)
        assert await run.result() == 3
    assert marks(path) == ["apart 1", "warm 1", "warm 2"]
    events = await durable.events()
    (again,) = [event for event in events if isinstance(event, NodeRetrying)]
    assert (again.failure.kind, again.failure.reason) == ("lost", DRIVER)
    planned = [e for e in events if isinstance(e, AttemptPlanned) and e.node.name == "warm"]
    assert [event.attempt for event in planned] == [1, 2]
    assert planned[0].dispatch != planned[1].dispatch
    assert check_history(events, run.plan) == []


async def test_a_node_that_had_begun_in_the_driver_is_made_again(
    world: World, ledger: list[str]
) -> None:
    await run_chain(world)
    await world.cut(is_event(NodeStarted, "two"))
    ledger.clear()
    async with world.engine() as engine:
        run = await engine.resume(RUN, resumed.chain.bind(1))
        assert await run.result() == 3
    assert ledger == ["two", "three"]
    starts = [e for e in await world.events() if isinstance(e, NodeStarted)]
    assert [e.attempt for e in starts if str(e.node) == "two"] == [1, 2]


async def test_a_wait_for_a_retry_goes_on(world: World, ledger: list[str]) -> None:
    bound = resumed.unlucky.bind(5)
    async with world.engine() as engine:
        assert await engine.run(bound, id=RUN) == 5
    await world.cut(is_event(NodeRetrying))
    del ledger[1:]
    async with world.engine() as engine:
        assert await (await engine.resume(RUN, bound)).result() == 5
    assert ledger == ["unlucky", "unlucky"]
    events = await world.events()
    assert sum(isinstance(event, NodeRetrying) for event in events) == 1
    assert [e.attempt for e in events if isinstance(e, NodeStarted)] == [1, 2]


# --- cancelled, out of time -----------------------------------------------------------------------


async def test_a_run_that_was_being_cancelled_ends_cancelled(
    world: World, ledger: list[str]
) -> None:
    async with world.engine() as engine:
        run = await engine.start(resumed.napping.bind(), id=RUN)
        while "sleep" not in ledger:
            await anyio.sleep(0.005)
        await run.cancel("enough", grace=0.2)
    await world.cut(is_event(RunCancelling))
    ledger.clear()
    async with world.engine() as engine:
        run = await engine.resume(RUN, resumed.napping.bind())
        with pytest.raises(RunCancelled, match="enough"):
            await run.result()
    assert ledger == []
    assert check_history(await world.events(), run.plan) == []


async def test_a_resumed_run_may_have_a_time_limit(world: World, ledger: list[str]) -> None:
    async with world.engine() as engine:
        run = await engine.start(resumed.napping.bind(), id=RUN)
        while "sleep" not in ledger:
            await anyio.sleep(0.005)
        await run.cancel(grace=0.2)
    await world.cut(is_event(NodeSucceeded))
    async with world.engine() as engine:
        run = await engine.resume(RUN, resumed.napping.bind(), timeout=0.3)
        outcome = await run.wait()
    assert outcome.status == "failed"
    assert [failure.kind for failure in outcome.failures] == ["timeout"]
    assert ledger == ["one", "sleep", "sleep"]


# --- drift ----------------------------------------------------------------------------------------


async def test_a_graph_that_changed_is_shown_and_refused(world: World, ledger: list[str]) -> None:
    await run_chain(world)
    left = await world.cut(is_event(NodeSucceeded, "one"))
    async with world.engine() as engine:
        if world.durable:
            with pytest.raises(PlanDrift) as drift:
                await engine.resume(RUN, resumed.longer.bind(1))
            assert any("four" in change for change in drift.value.changes)
            assert len(await world.events()) == left
            ledger.clear()
            run = await engine.resume(RUN, resumed.longer.bind(1), accept_drift=True)
            assert await run.result() == 2
            assert ledger == ["two", "three", "three"]
        else:
            # What the plan was is nowhere: in memory it is not kept.
            with pytest.raises(StoreError, match="the catalog has no plans/"):
                await engine.resume(RUN, resumed.longer.bind(1))


async def test_later_drivers_go_on_with_the_accepted_plan(
    durable: World, ledger: list[str]
) -> None:
    await run_chain(durable)
    await durable.cut(is_event(NodeSucceeded, "one"))
    async with durable.engine() as engine:
        run = await engine.resume(RUN, resumed.longer.bind(1), accept_drift=True)
        assert await run.result() == 2
    await durable.cut(is_event(NodeSucceeded, "two"))
    (first, *rest) = [e for e in await durable.events() if isinstance(e, RunStarted | RunResumed)]
    assert [event.fingerprint for event in rest] == [run.plan.fingerprint] != [first.fingerprint]
    ledger.clear()
    async with durable.engine() as engine:
        again: Run[object] = await engine.resume(RUN)
        assert again.plan.fingerprint == run.plan.fingerprint
        assert await again.result() == 2
    assert ledger == ["three", "three"]
    # It says nothing of a plan: the one in force went on.
    assert [e.fingerprint for e in await durable.events() if isinstance(e, RunResumed)][1:] == [""]
    await durable.cut(is_event(NodeSucceeded, "three"))
    async with durable.engine() as engine:
        with pytest.raises(PlanDrift):
            await engine.resume(RUN, resumed.chain.bind(1))
        assert await (await engine.resume(RUN, resumed.longer.bind(1))).result() == 2


MODULE = """\
from onready import graph, task


@task
async def first(x: int) -> int:
    return x + 1


@task
async def second(x: int) -> int:
    return x * {factor}


@graph
def changing(x: int) -> int:
    return second(first(x))
"""


def load(folder: Path, factor: int) -> object:
    """The module as a new process would have it."""
    (folder / "changing_code.py").write_text(MODULE.format(factor=factor))
    sys.modules.pop("changing_code", None)
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    importlib.invalidate_caches()
    linecache.clearcache()
    return importlib.import_module("changing_code")


async def test_code_that_changed_is_shown_and_refused(
    durable: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    bound = vars(load(tmp_path, 2))["changing"].bind(1)
    async with durable.engine() as engine:
        assert await engine.run(bound, id=RUN) == 4
    await durable.cut(is_event(NodeSucceeded, "first"))
    load(tmp_path, 10)
    async with durable.engine() as engine:
        with pytest.raises(PlanDrift) as drift:
            await engine.resume(RUN)
        (change,) = drift.value.changes
        assert "second: its code changed" in change
        assert await (await engine.resume(RUN, accept_drift=True)).result() == 20
    await durable.cut(is_event(RunResumed))
    async with durable.engine() as engine:
        # What was accepted once is what the run has now.
        assert await (await engine.resume(RUN)).result() == 20
    sys.modules.pop("changing_code", None)


# --- refusals -------------------------------------------------------------------------------------


async def test_runs_that_cannot_be_resumed(world: World) -> None:
    await run_chain(world)
    async with world.engine() as engine:
        with pytest.raises(RunNotFound):
            await engine.resume("nobody")
        with pytest.raises(RunConflict, match="has ended"):
            await engine.resume(RUN)
        live = await engine.start(resumed.napping.bind(), id="live")
        with pytest.raises(RunLeaseHeld, match="driven by this engine"):
            await engine.resume("live")
        await live.cancel(grace=0.1)


async def test_live_objects_that_nobody_gives(durable: World) -> None:
    async with durable.engine(provided={"db": "rows"}) as engine:
        assert await engine.run(resumed.provided.bind(1), id=RUN) == [2, "rows!"]
    await durable.cut(is_event(NodeSucceeded, "one"))
    async with durable.engine() as engine:
        with pytest.raises(ConfigError, match="live objects that are not at hand: db"):
            await engine.resume(RUN)
        run: Run[object] = await engine.resume(RUN, provided={"db": "others"})
        assert await run.result() == [2, "others!"]


async def test_a_catalog_without_the_plan(durable: World, tmp_path: Path) -> None:
    await run_chain(durable)
    await durable.cut(is_event(NodeSucceeded, "one"))
    shutil.rmtree(tmp_path / "catalog" / "records" / "plans")
    async with durable.engine() as engine:
        with pytest.raises(StoreError, match="is it the catalog that the run was started with"):
            await engine.resume(RUN)
        # With the graph at hand nobody needs it.
        assert await (await engine.resume(RUN, resumed.chain.bind(1))).result() == 3


async def test_an_end_that_was_not_recorded_is_recorded(world: World, ledger: list[str]) -> None:
    await run_chain(world)
    await world.cut(lambda event: not isinstance(event, RunSucceeded), first=False)
    ledger.clear()
    async with world.engine() as engine:
        assert await (await engine.resume(RUN, resumed.chain.bind(1))).result() == 3
    assert ledger == []


async def test_an_engine_that_is_not_open() -> None:
    engine = Engine.memory()
    with pytest.raises(Exception, match="not open"):
        await engine.resume(RUN)
