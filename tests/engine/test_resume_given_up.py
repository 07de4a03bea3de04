"""Items that a map gave up before it had opened them: no record says so, and a resume adds none.

Here: what a log does not say because it was never to be said. Cuts anywhere in ordinary runs are
in `test_resume_anywhere.py`.
"""

from __future__ import annotations

import anyio
import pytest

from onready import Engine, each, graph, rescue, task
from onready.engine.events import AnyEvent, NodeSkipped, NodeStarted, ScopeClosed, ScopeOpened
from onready.engine.history import check_history
from onready.storage.memory import MemoryRunLog

COUNT = 5_000


class Gate:
    """Opens when the first item has begun."""

    begun: anyio.Event


@task
async def item(x: int) -> int:
    Gate.begun.set()
    await anyio.sleep(0.01)
    return x


@task
async def break_off() -> int:
    await Gate.begun.wait()
    message = "while the map is being opened"
    raise ValueError(message)


@task
def total(xs: list[int], more: int) -> int:
    return sum(xs) + more


@task
def add(x: int) -> int:
    return x + 1


@graph
def broken(xs: list[int]) -> int:
    return total(item.map(each(xs)), break_off())


@graph
def whole(xs: list[int]) -> int:
    return add(add(rescue(broken.bind(xs), add.bind(6))))


async def recorded(log: MemoryRunLog) -> list[AnyEvent]:
    return [event async for batch in log.read("r") for event in batch]


@pytest.mark.anyio
@pytest.mark.timeout(120)
async def test_what_was_never_opened_is_not_skipped_afterwards() -> None:
    Gate.begun = anyio.Event()
    log = MemoryRunLog()
    async with Engine.memory(run_log=log) as engine:
        run = await engine.start(whole.bind(list(range(COUNT))), id="r")
        assert (await run.wait()).value == 9
    events = await recorded(log)
    skipped = sum(isinstance(event, NodeSkipped) for event in events)
    known = {event.node for event in events if isinstance(event, NodeStarted | NodeSkipped)}
    assert len(known) < COUNT, "all items were opened before it was broken off"
    closed = next(n for n, e in enumerate(events) if isinstance(e, ScopeClosed))
    handled = next(
        n for n, e in enumerate(events) if isinstance(e, ScopeOpened) and e.arm == "handler"
    )
    for cut in (closed, closed + 1, handled, handled + 1, handled + 2, len(events) - 1):
        again = MemoryRunLog()
        await again.append("r", 1, events[:cut])
        await again.lease("r", "the one that died", 0.0)
        async with Engine.memory(run_log=again) as engine:
            run = await engine.resume("r", whole.bind(list(range(COUNT))))
            assert (await run.wait()).value == 9, cut
        after = await recorded(again)
        assert check_history(after) == [], cut
        if cut > closed:
            assert sum(isinstance(event, NodeSkipped) for event in after) == skipped, cut
