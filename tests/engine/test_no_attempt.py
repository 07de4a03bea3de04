"""Nodes that fail before an attempt is made of them: there is nothing to try again."""

from __future__ import annotations

import pytest

from onready import Engine, Resources, Retry, each, graph, task

pytestmark = pytest.mark.anyio


@task(retry=Retry(2))
async def add(left: int, right: int) -> int:
    return left + right


@task(retry=Retry(2), resources=Resources(cpu=100_000))
async def enormous() -> int:
    return 1


@graph
def uneven() -> list[int]:
    return add.map(each([1]), each([1, 2]))


@graph
def too_big() -> int:
    return enormous()


async def test_a_map_whose_items_do_not_fit_fails_though_its_task_has_retries() -> None:
    async with Engine.memory() as engine:
        outcome = await (await engine.start(uneven.bind())).wait()
    (failure,) = outcome.failures
    assert (outcome.status, failure.type, failure.attempt) == ("failed", "MapError", 0)
    assert "left has 1, right has 2" in failure.message


async def test_what_asks_for_more_than_there_is_fails_though_it_has_retries() -> None:
    async with Engine.memory() as engine:
        outcome = await (await engine.start(too_big.bind())).wait()
    (failure,) = outcome.failures
    assert (outcome.status, failure.kind, failure.attempt) == ("failed", "unschedulable", 0)
