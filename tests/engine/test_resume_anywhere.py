"""A run is cut off after any of its events and resumed: it ends as it would have ended.

What the log said had succeeded is never run again. The cuts are made in the log, so that every
point is met; `tests/faults` kills real processes.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onready import Engine, RunOutcome
from onready.engine.events import (
    AnyEvent,
    NodeCancelled,
    NodeFailed,
    NodeSkipped,
    NodeStarted,
    NodeSucceeded,
    RunResumed,
)
from onready.engine.options import OnError
from onready.storage.memory import MemoryRunLog
from tests.recipes import Recipe, graph_of
from tests.strategies import recipes

POLICIES: tuple[OnError, ...] = ("stop", "continue", "cancel")


async def recorded(log: MemoryRunLog) -> list[AnyEvent]:
    return [event async for batch in log.read("r") for event in batch]


async def go_on(
    events: Sequence[AnyEvent], recipe: Recipe, x: int
) -> tuple[RunOutcome[int], list[AnyEvent]]:
    """The run resumed by an engine that finds these events, and all that is recorded then."""
    log = MemoryRunLog()
    await log.append("r", 1, events)
    await (await_lease := log).lease("r", "the one that died", 0.0)
    async with Engine.memory(run_log=await_lease) as engine:
        run = await engine.resume("r", graph_of(recipe).bind(x))
        outcome = await run.wait()
    assert outcome.error is None
    return outcome, await recorded(log)


async def cut_anywhere(recipe: Recipe, x: int, on_error: OnError, seed: int) -> None:
    log = MemoryRunLog()
    async with Engine.memory(run_log=log) as engine:
        run = await engine.start(graph_of(recipe).bind(x), id="r", on_error=on_error)
        undisturbed = await run.wait()
    events = await recorded(log)
    source = random.Random(seed)
    cuts = source.sample(range(1, len(events)), min(len(events) - 1, 6))
    for cut in cuts:
        outcome, after = await go_on(events[:cut], recipe, x)
        assert outcome.status == undisturbed.status, cut
        assert outcome.value == undisturbed.value
        judge(after)
        # And cut again, in the second driver's part.
        again, twice = await go_on(after[: source.randrange(cut, len(after))], recipe, x)
        assert (again.status, again.value) == (undisturbed.status, undisturbed.value)
        judge(twice)


def judge(events: Sequence[AnyEvent]) -> None:
    done: set[str] = set()
    for seq, event in enumerate(events, 1):
        assert event.seq == seq
        if isinstance(
            event, NodeStarted | NodeSucceeded | NodeFailed | NodeCancelled | NodeSkipped
        ):
            assert str(event.node) not in done, event
            if not isinstance(event, NodeStarted):
                done.add(str(event.node))
    assert any(isinstance(event, RunResumed) for event in events)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    recipe=recipes,
    x=st.integers(0, 99),
    on_error=st.sampled_from(POLICIES),
    seed=st.integers(0, 2**32 - 1),
)
@pytest.mark.timeout(300)
@pytest.mark.may_block("graphs are traced in the loop here, and that reads sources")
def test_a_run_cut_anywhere_ends_as_it_would_have(
    recipe: Recipe, x: int, on_error: OnError, seed: int
) -> None:
    anyio.run(cut_anywhere, recipe, x, on_error, seed)
