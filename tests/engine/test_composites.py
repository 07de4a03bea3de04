"""Composites at work: any nesting of them gives what plain Python gives, under every policy."""

from __future__ import annotations

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onready import Engine, RunOutcome
from onready.engine.options import OnError
from tests.recipes import Recipe, expected, graph_of
from tests.strategies import recipes

POLICIES: tuple[OnError, ...] = ("stop", "continue", "cancel")


async def run_all(cases: list[tuple[Recipe, int, OnError]]) -> list[RunOutcome[int]]:
    async with Engine.memory() as engine:
        runs = [
            await engine.start(graph_of(recipe).bind(x), on_error=on_error)
            for recipe, x, on_error in cases
        ]
        return [await run.wait() for run in runs]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    cases=st.lists(
        st.tuples(recipes, st.integers(0, 99), st.sampled_from(POLICIES)), min_size=1, max_size=6
    )
)
@pytest.mark.timeout(300)
@pytest.mark.may_block("graphs are traced in the loop here, and that reads sources")
def test_any_nesting_gives_what_plain_python_gives(
    cases: list[tuple[Recipe, int, OnError]],
) -> None:
    outcomes = anyio.run(run_all, cases)
    for (recipe, x, _), outcome in zip(cases, outcomes, strict=True):
        try:
            value = expected(recipe, x)
        except ValueError:
            assert outcome.status == "failed"
            assert all(failure.type == "ValueError" for failure in outcome.failures)
        else:
            assert (outcome.status, outcome.value) == ("succeeded", value)
