"""Retry: a run that ended badly goes on; what succeeded is kept, all else has new attempts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import anyio
import pytest

from onready import Failure, NodeContext, Provided, branch, each, graph, repeat, rescue, task
from onready.engine.errors import ConfigError, RunConflict, RunFailed
from onready.engine.events import (
    AnyEvent,
    AttemptPlanned,
    NodeFailed,
    NodeStarted,
    NodeSucceeded,
    RunResumed,
    ScopeOpened,
)
from onready.engine.graph import Bound
from onready.engine.history import check_history
from tests.engine import resumed
from tests.engine.resumed import BAD, RUN, World, is_event, mark
from tests.engine.work import calls

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


@pytest.fixture(autouse=True)
def nothing_bad() -> Iterator[None]:
    """What one test calls bad is good for the next."""
    yield
    BAD.clear()


async def failed(world: World, bound: Bound[object], **options: object) -> None:
    """The run, which fails."""
    async with world.engine() as engine:
        run = await engine.start(bound, id=RUN, **options)  # type: ignore[arg-type] # options of start
        assert (await run.wait()).status == "failed"


async def again(world: World, bound: Bound[object], *start: str) -> object:
    """Its value after a retry; the history is in order."""
    async with world.engine() as engine:
        run = await engine.retry(RUN, bound, start=start)
        value = await run.result()
    assert check_history(await world.events(), run.plan) == []
    return value


def attempts(events: Sequence[AnyEvent], node: str) -> list[int]:
    return [e.attempt for e in events if isinstance(e, NodeStarted) and str(e.node) == node]


# --- what is tried again --------------------------------------------------------------------------


SQUARES = resumed.squares.bind([1, 2, 3])


async def test_what_failed_is_tried_again_and_no_more(world: World, ledger: list[str]) -> None:
    BAD.add(2)
    await failed(world, SQUARES)
    done = Counter(ledger)
    BAD.clear()
    assert await again(world, SQUARES) == 14
    tried = Counter(ledger) - done
    assert tried["square 2"] == 1
    assert "beside" not in tried
    events = await world.events()
    assert attempts(events, "square[1]") == [1, 2]
    for node in ("square[0]", "square[2]"):
        assert len([e for e in events if is_event(NodeSucceeded, node)(e)]) == 1
    # And now there is nothing to try again, unless it is said.
    async with world.engine() as engine:
        with pytest.raises(RunConflict, match="say from which node"):
            await engine.retry(RUN, SQUARES)


async def test_it_may_fail_again_and_again(world: World, ledger: list[str]) -> None:
    BAD.update((1, 3))
    await failed(world, SQUARES, on_error="continue")
    for left in ({3}, {3}, set[int]()):
        BAD.clear()
        BAD.update(left)
        ledger.clear()
        if left:
            with pytest.raises(RunFailed):
                await again(world, SQUARES)
        else:
            assert await again(world, SQUARES) == 14
        assert "square 2" not in ledger
    events = await world.events()
    assert attempts(events, "square[0]") == [1, 2]
    assert attempts(events, "square[2]") == [1, 2, 3, 4]
    assert sum(isinstance(event, RunResumed) and event.retry for event in events) == 3
    assert check_history(events) == []


@task(backend="subprocess")
def gated(ledger: str, gate: str, context: NodeContext = Provided(NodeContext)) -> int:
    mark(ledger, context)
    return int(Path(gate).read_text())


async def test_a_new_attempt_has_a_name_of_its_own(durable: World, tmp_path: Path) -> None:
    gate, ledger = tmp_path / "gate", tmp_path / "marks"
    bound = gated.bind(str(ledger), str(gate))
    await failed(durable, bound)
    gate.write_text("5")
    async with durable.engine() as engine:
        assert await (await engine.retry(RUN)).result() == 5
    assert ledger.read_text().splitlines() == ["gated 1", "gated 2"]
    planned = [e for e in await durable.events() if isinstance(e, AttemptPlanned)]
    assert [event.attempt for event in planned] == [1, 2]
    assert planned[0].dispatch != planned[1].dispatch


async def test_a_cancelled_run_goes_on(world: World, ledger: list[str]) -> None:
    BAD.add(-1)
    bound = resting.bind(3)
    async with world.engine() as engine:
        run = await engine.start(bound, id=RUN)
        while "rest" not in ledger:
            await anyio.sleep(0.005)
        await run.cancel("later", grace=0.2)
        assert (await run.wait()).status == "cancelled"
    BAD.clear()
    assert await again(world, bound) == 4
    assert Counter(ledger) == {"one": 1, "rest": 2}
    assert attempts(await world.events(), "rest") == [1, 2]


@task
async def rest(x: int) -> int:
    calls.append("rest")
    if BAD:
        await anyio.sleep_forever()
    return x


@graph
def resting(x: int) -> int:
    """Waits for as long as something is bad."""
    return rest(resumed.one(x))


async def test_retries_begin_anew(world: World, ledger: list[str]) -> None:
    bound = resumed.square.with_options(retry=1).bind(7)
    BAD.add(7)
    await failed(world, bound)
    with pytest.raises(RunFailed):
        await again(world, bound)
    assert len(ledger) == 4
    assert attempts(await world.events(), "square") == [1, 2, 3, 4]


# --- from one node on -----------------------------------------------------------------------------


@task
async def even(x: int) -> bool:
    calls.append("even")
    return x % 2 == 0


@task
async def large(x: int) -> bool:
    calls.append("large")
    return x > 20


@task
async def told(x: int, failure: Failure = Provided(Failure)) -> int:
    calls.append("told")
    return x + len(failure.kind)


@task
async def never(x: int) -> int:
    calls.append("never")
    message = f"never {x}"
    raise ValueError(message)


@graph
def inner(x: int) -> int:
    """A sub-graph."""
    return resumed.two(resumed.one(x))


@graph
def composites(x: int) -> list[object]:
    """One of each."""
    start = resumed.three(x)
    chosen = branch(even(start), resumed.one.bind(start), resumed.two.bind(start))
    climbed = repeat(resumed.two, start, until=large, limit=5, name="climb")
    caught = rescue(never.bind(start), told.bind(start), name="caught")
    below = inner(start)
    many = resumed.square.map(each([start, 10]))
    return [chosen, climbed, caught, below, many, resumed.total([climbed, below])]


BOUND = composites.bind(9)
VALUE = [9, 32, 13, 18, [64, 100], 50]

REDONE = {
    # What is said, what it comes to: with all that needs it, and nothing else.
    "branch": ["one"],
    "climb": ["two", "large"] * 2 + ["total"],
    "caught": ["never", "told"],
    "inner": ["one", "two", "total"],
    "inner/two": ["two", "total"],
    "square": ["square 8", "square 10"],
    "square[1]": ["square 10"],
    "total": ["total"],
    "even": ["even", "one"],
}


@pytest.mark.parametrize("start", REDONE)
async def test_from_one_node_on(durable: World, start: str, ledger: list[str]) -> None:
    async with durable.engine() as engine:
        assert await engine.run(BOUND, id=RUN) == VALUE
    ledger.clear()
    assert await again(durable, BOUND, start) == VALUE
    assert Counter(ledger) == Counter(REDONE[start])


async def test_from_the_first_node_on(world: World, ledger: list[str]) -> None:
    async with world.engine() as engine:
        assert await engine.run(BOUND, id=RUN) == VALUE
    first = Counter(ledger)
    ledger.clear()
    assert await again(world, BOUND, "three") == VALUE
    # Everything needs it; of the map one item's value is another node's.
    assert Counter(ledger) == first
    ledger.clear()
    assert await again(world, BOUND, "total", "square[0]") == VALUE
    assert Counter(ledger) == {"total": 1, "square 8": 1}


async def test_nodes_that_cannot_be_named(world: World) -> None:
    async with world.engine() as engine:
        await engine.run(BOUND, id=RUN)
        with pytest.raises(RunConflict, match="has no node squared"):
            await engine.retry(RUN, BOUND, start=["squared"])
        with pytest.raises(ConfigError):
            await engine.retry(RUN, BOUND, start=["square["])
        live = await engine.start(resumed.napping.bind(), id="live")
        with pytest.raises(Exception, match="driven by this engine"):
            await engine.retry("live", resumed.napping.bind())
        await live.cancel(grace=0.1)


# --- and crashes ----------------------------------------------------------------------------------


async def test_a_run_that_has_not_ended_is_not_retried(world: World) -> None:
    async with world.engine() as engine:
        await engine.run(SQUARES, id=RUN)
    await world.cut(is_event(ScopeOpened))
    async with world.engine() as engine:
        with pytest.raises(RunConflict, match="has not ended: resume it"):
            await engine.retry(RUN, SQUARES)


async def test_a_retry_that_is_interrupted_is_resumed(world: World, ledger: list[str]) -> None:
    BAD.add(2)
    await failed(world, SQUARES)
    BAD.clear()
    assert await again(world, SQUARES) == 14
    await world.cut(lambda event: isinstance(event, RunResumed) and event.retry)
    ledger.clear()
    async with world.engine() as engine:
        run = await engine.resume(RUN, SQUARES)
        assert await run.result() == 14
    assert ledger.count("square 2") == 1
    # Its second attempt, which the first retry made, was taken away with the log.
    assert attempts(await world.events(), "square[1]") == [1, 2]
    assert check_history(await world.events(), run.plan) == []


async def test_a_redone_node_is_not_redone_by_the_resume_after_it(
    world: World, ledger: list[str]
) -> None:
    async with world.engine() as engine:
        assert await engine.run(BOUND, id=RUN) == VALUE
    assert await again(world, BOUND, "inner") == VALUE
    await world.cut(is_event(NodeSucceeded, "inner/one"), first=False)
    ledger.clear()
    async with world.engine() as engine:
        run = await engine.resume(RUN, BOUND)
        assert await run.result() == VALUE
    assert ledger == ["two", "total"]
    assert check_history(await world.events(), run.plan) == []


async def test_a_failure_after_a_retry_is_told_as_its_own(world: World) -> None:
    BAD.add(2)
    await failed(world, SQUARES)
    BAD.clear()
    BAD.add(3)
    with pytest.raises(RunFailed) as told_:
        await again(world, SQUARES, "square[2]")
    (failure,) = told_.value.exceptions
    assert "square[2]" in str(failure)
    events = await world.events()
    assert [str(e.node) for e in events if isinstance(e, NodeFailed)][-1] == "square[2]"
