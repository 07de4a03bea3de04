"""A run is cut off while a sweep goes through scopes inside the one that was stopped, and resumed.

Every composite ends as in the undisturbed run, wherever the cut is: nothing records how far a sweep
had come.
"""

from __future__ import annotations

import anyio
import pytest

from onready import Engine, each, graph, repeat, rescue, task
from onready.engine.events import AnyEvent, NodeSkipped, ScopeClosed, ScopeOpened
from onready.engine.graph import Bound
from onready.engine.history import check_history
from onready.engine.options import OnError
from onready.storage.memory import MemoryRunLog


@task
async def begin(x: int) -> int:
    await anyio.sleep(0.05 * x)
    if x == 1:
        message = "the other goes on for a while"
        raise ValueError(message)
    return x


@task
async def finish(x: int) -> int:
    return x


@graph
def inner(x: int) -> int:
    return finish(begin(x))


@graph
def outer(x: int) -> int:
    return inner(x)


@task
def total(xs: list[int]) -> int:
    return sum(xs)


@graph
def body() -> int:
    return total(outer.map(each([1, 3])))


@graph
def whole() -> int:
    return finish(rescue(body.bind(), finish.bind(7)))


@task
async def wait(x: int) -> int:
    await anyio.sleep(0.05 * x)
    return x


@task
async def is_enough(x: int) -> bool:
    await anyio.sleep(0.1)
    return x > 3


@task
def add(x: int, y: int, z: int) -> int:
    return x + y + z


@graph
def unrescued() -> int:
    return add(begin(1), repeat(finish, 2, until=is_enough, limit=3), wait(6))


async def recorded(log: MemoryRunLog) -> list[AnyEvent]:
    return [event async for batch in log.read("r") for event in batch]


def ends(events: list[AnyEvent]) -> dict[str, str]:
    return {str(event.node): event.status for event in events if isinstance(event, ScopeClosed)}


async def cut_everywhere(
    bound: Bound[int], on_error: OnError, value: int | None
) -> tuple[list[AnyEvent], dict[str, str]]:
    """The events and the ends of an undisturbed run; each cut after the first end is like it."""
    log = MemoryRunLog()
    async with Engine.memory(run_log=log) as engine:
        run = await engine.start(bound, id="r", on_error=on_error)
        assert (await run.wait()).value == value
    events = await recorded(log)
    expected = ends(events)
    first = next(n for n, e in enumerate(events) if isinstance(e, ScopeClosed))
    for cut in range(first, len(events)):
        again = MemoryRunLog()
        await again.append("r", 1, events[:cut])
        await again.lease("r", "the one that died", 0.0)
        async with Engine.memory(run_log=again) as engine:
            run = await engine.resume("r", bound)
            assert (await run.wait()).value == value, cut
        after = await recorded(again)
        assert check_history(after) == [], cut
        assert ends(after) == expected, cut
    return events, expected


@pytest.mark.anyio
@pytest.mark.parametrize("on_error", ["stop", "continue"])
async def test_every_composite_ends_as_it_would_have(on_error: OnError) -> None:
    _, expected = await cut_everywhere(whole.bind(), on_error, 7)
    swept = "cancelled" if on_error == "stop" else "succeeded"
    assert expected["rescue?body/outer[1]/inner"] == swept


@pytest.mark.anyio
async def test_an_iteration_that_was_given_up_stays_so() -> None:
    events, expected = await cut_everywhere(unrescued.bind(), "stop", None)
    assert expected["repeat"] == "cancelled"
    opened = [e.count for e in events if isinstance(e, ScopeOpened) and e.count]
    assert opened == [1, 2]
    assert "repeat[1]" not in {str(e.node) for e in events if isinstance(e, NodeSkipped)}
