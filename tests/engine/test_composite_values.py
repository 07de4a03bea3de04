"""Composites that decide by values which must be fetched or decoded first; logs that do not fit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio
import msgspec
import pytest

from onready import Engine, RunOutcome, StoreError, branch, each, graph, repeat, switch, task
from onready.engine.errors import RunNotFound
from onready.engine.events import AnyEvent, NodeSucceeded, RunResumed, ScopeOpened
from onready.engine.fold import fold
from onready.engine.graph import Bound
from onready.engine.resuming import read_history
from onready.storage.memory import MemoryRunLog
from tests.engine import work

pytestmark = pytest.mark.anyio

LONG = "x" * 10_000


@task
async def as_list(x: int) -> list[int]:
    return list(range(x))


@task
async def any_list(x: int) -> Any:
    return list(range(x))


@task
async def long_text(x: int) -> str:
    return LONG if x else "b"


@task
async def rest(xs: list[int]) -> list[int]:
    return xs[1:]


@task
async def is_empty_as_list(xs: list[int]) -> Any:
    return [] if xs else [1]


@task
async def never(xs: list[int]) -> bool:
    return False


@graph
def by_list(x: int) -> int:
    return branch(any_list(x), work.add_one.bind(10), work.add_one.bind(20))


@graph
def by_text(x: int) -> int:
    return switch(long_text(x), {"a": work.add_one.bind(1), "b": work.add_one.bind(2)})


@graph
def until_list(x: int) -> list[int]:
    return repeat(rest, as_list(x), until=is_empty_as_list, limit=9)


@graph
def to_the_limit(x: int) -> list[int]:
    return repeat(rest, as_list(x), until=never, limit=2)


@graph
def returned(x: int) -> list[int]:
    return repeat(rest, as_list(x), until=never, limit=2, on_limit="return")


@graph
def mapped(x: int) -> list[int]:
    return work.add_one.map(each(as_list(x)))


@graph
def mapped_anyhow(x: int) -> list[int]:
    return work.add_one.map(each(any_list(x)))


async def ended(engine: Engine, bound: Bound[object]) -> RunOutcome[object]:
    return await (await engine.start(bound)).wait()


async def test_a_branch_asks_whether_a_list_has_items(engine: Engine) -> None:
    assert (await ended(engine, by_list.bind(2))).value == 11
    assert (await ended(engine, by_list.bind(0))).value == 21


async def test_a_switch_by_a_long_text(engine: Engine) -> None:
    assert (await ended(engine, by_text.bind(0))).value == 3
    lost = await ended(engine, by_text.bind(1))
    (failure,) = lost.failures
    assert (failure.type, failure.node) == ("SwitchError", "switch")
    assert "'b'" in failure.message
    assert "there is no default" in failure.message


async def test_a_repeat_until_a_list_has_items(engine: Engine) -> None:
    assert (await ended(engine, until_list.bind(3))).value == []


async def test_the_limit_of_a_repeat(engine: Engine) -> None:
    failed = await ended(engine, to_the_limit.bind(5))
    (failure,) = failed.failures
    assert (failure.type, failure.node, failure.attempt) == ("LimitReached", "repeat", 0)
    assert "after 2 iterations" in failure.message
    assert (await ended(engine, returned.bind(5))).value == [2, 3, 4]


# --- logs that do not fit the values in them -----------------------------------------------------


async def recorded(bound: Bound[object]) -> list[AnyEvent]:
    log = MemoryRunLog()
    async with Engine.memory(run_log=log) as engine:
        await (await engine.start(bound, id="r")).wait()
    return [event async for batch in log.read("r") for event in batch]


async def go_on(events: Sequence[AnyEvent], bound: Bound[object]) -> RunOutcome[object]:
    log = MemoryRunLog()
    await log.append("r", 1, events)
    async with Engine.memory(run_log=log) as engine:
        run = await engine.resume("r", bound)
        return await run.wait()


def place(events: Sequence[AnyEvent], kind: type, node: str) -> int:
    return next(
        at
        for at, event in enumerate(events)
        if type(event) is kind and str(getattr(event, "node", "")) == node
    )


async def test_a_map_that_had_another_number_of_items(anyio_backend: str) -> None:
    events = await recorded(mapped.bind(3))
    at = place(events, ScopeOpened, "add_one")
    events[at] = msgspec.structs.replace(events[at], count=2)
    outcome = await go_on(events[: at + 1], mapped.bind(3))
    assert outcome.status == "interrupted"
    assert isinstance(outcome.error, StoreError)
    assert "was opened with 2 items, and now has 3" in str(outcome.error)


async def test_a_map_over_what_is_no_list_any_more(anyio_backend: str) -> None:
    events = await recorded(mapped_anyhow.bind(3))
    at = place(events, NodeSucceeded, "any_list")
    events[at] = msgspec.structs.replace(events[at], value=7)
    end = place(events, ScopeOpened, "add_one")
    outcome = await go_on(events[: end + 1], mapped_anyhow.bind(3))
    assert outcome.status == "interrupted"
    assert "was opened, and now cannot be" in str(outcome.error)


async def test_an_arm_that_the_plan_does_not_have_is_chosen_again(anyio_backend: str) -> None:
    events = await recorded(by_list.bind(2))
    at = place(events, ScopeOpened, "branch")
    events[at] = msgspec.structs.replace(events[at], arm="gone")
    outcome = await go_on(events[: at + 1], by_list.bind(2))
    assert (outcome.status, outcome.value) == ("succeeded", 11)


async def test_what_is_no_history(anyio_backend: str) -> None:
    with pytest.raises(StoreError, match=r"begins with run\.started"):
        fold([RunResumed(1, 0.0, 1)])
    with pytest.raises(StoreError, match="NoneType"):
        fold([])
    with pytest.raises(RunNotFound, match="nothing is recorded of run r"):
        await read_history(MemoryRunLog(), "r")


async def test_many_batches_are_one_history(anyio_backend: str) -> None:
    events = await recorded(work.diamond.bind(3))
    log = MemoryRunLog()
    await log.append("r", 1, events)
    whole = await read_history(log, "r")
    pieces = fold(events[:2])
    pieces.add(events[2:])
    assert (whole.last, whole.end) == (pieces.last, pieces.end) == (len(events), events[-1])
    await anyio.lowlevel.checkpoint()
