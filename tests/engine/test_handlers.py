"""Handlers at work: what failed reaches them in any process, and what they leave is let go in order."""

from __future__ import annotations

from collections.abc import Sequence

from anyio import fail_after

from onready import Engine, Failure, Provided, each, graph, rescue, task
from tests.recipes import Cook, graph_of, picky


async def test_items_that_end_in_the_turn_in_which_their_map_is_rescued(memory: Engine) -> None:
    """One of two items fails the body, the other ends well: its value is made before it is let go."""
    caught = Cook("caught", ((Cook("map", ((Cook("picky"),),)),),))
    made = graph_of((caught,))
    with fail_after(60):
        for _ in range(20):
            assert await memory.run(made.bind(90)) == 0


@task
def failing(x: int) -> Failure:
    message = f"no {x}"
    raise ValueError(message)


@task
def handed_on(failure: Failure = Provided(Failure)) -> Failure:
    return failure


@task
def texts(parts: Sequence[int | Failure]) -> list[str]:
    return [str(part) for part in parts]


@graph(on_error="continue")
def across() -> tuple[Failure, Failure, list[str]]:
    out = picky.with_options(backend="process")
    caught = rescue(failing.bind(1), handed_on.with_options(backend="process").bind())
    other = rescue(failing.bind(2), handed_on.with_options(backend="subprocess").bind())
    return caught, other, texts.with_options(backend="process")(out.map(each([1, 5])))


async def test_failures_reach_other_processes(engine: Engine) -> None:
    with fail_after(60):
        caught, other, parts = await engine.run(across.bind())
    assert (caught.type, caught.message, caught.node) == (
        "ValueError",
        "no 1",
        "rescue?body/failing",
    )
    assert (other.message, other.attempt) == ("no 2", 1)
    assert parts == ["4", "ValueError: not 5"]
