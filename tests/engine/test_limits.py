"""Limits: how many attempts live at once, engine-wide, per pool, per map, by resources."""

from __future__ import annotations

import os

import anyio
import pytest

from onready import ConfigError, Engine, Resources, each, graph, task

pytestmark = pytest.mark.anyio

live = 0
most = 0


@pytest.fixture(autouse=True)
def counters() -> None:
    global live, most  # noqa: PLW0603 - the nodes below count here
    live = most = 0


@task
async def occupy(x: int, seconds: float = 0.005) -> int:
    global live, most  # noqa: PLW0603 - see above
    live += 1
    most = max(most, live)
    await anyio.sleep(seconds)
    live -= 1
    return x


@graph
def many(xs: list[int]) -> list[int]:
    return occupy.map(each(xs))


@graph
def long(xs: list[int]) -> list[int]:
    return occupy.map(each(xs), 0.5)


@graph
def few(xs: list[int]) -> list[int]:
    return occupy.with_options(limit=3).map(each(xs))


@graph
def pooled(xs: list[int]) -> list[int]:
    return occupy.with_options(pool="gpu").map(each(xs))


@graph
def hungry(xs: list[int]) -> list[int]:
    return occupy.with_options(resources=Resources(cpu=1)).map(each(xs))


async def test_no_limit_runs_everything_at_once() -> None:
    async with Engine.memory() as engine:
        # Long enough that all are there before the first leaves.
        assert await engine.run(long.bind(list(range(200)))) == list(range(200))
    assert most == 200


async def test_max_parallel_of_the_engine_holds_over_all_runs() -> None:
    async with Engine.memory(max_parallel=4) as engine:
        runs = [await engine.start(many.bind([n] * 10)) for n in range(5)]
        assert [await run.result() for run in runs] == [[n] * 10 for n in range(5)]
        assert engine.statistics() == {"live_runs": 0, "parallel_used": 0}
    assert most == 4


async def test_max_parallel_of_a_run() -> None:
    async with Engine.memory() as engine:
        await engine.run(many.bind([1] * 20), max_parallel=2)
    assert most == 2


async def test_a_map_s_own_limit() -> None:
    async with Engine.memory() as engine:
        await engine.run(few.bind([1] * 20))
        assert most == 3
        both = [await engine.start(few.bind([1] * 20)) for _ in range(2)]
        for run in both:
            await run.result()
    assert most == 6


async def test_pools() -> None:
    async with Engine.memory(pools={"gpu": 2}) as engine:
        await engine.run(pooled.bind([1] * 10))
    assert most == 2


async def test_an_unknown_pool_is_refused() -> None:
    async with Engine.memory(pools={"cpu": 2}) as engine:
        with pytest.raises(ConfigError, match=r"pool 'gpu'.*cpu"):
            await engine.start(pooled.bind([1]))


async def test_resources_bound_local_attempts() -> None:
    async with Engine.memory(resources={"cpu": 3}) as engine:
        await engine.run(hungry.bind([1] * 12))
    assert most == 3


async def test_the_machine_s_own_resources_are_the_default() -> None:
    async with Engine.memory() as engine:
        await engine.run(hungry.bind([1] * 12))
    assert most == (os.cpu_count() or 1)


async def test_more_than_there_is_cannot_be_scheduled() -> None:
    @graph
    def greedy() -> int:
        return occupy.with_options(resources=Resources(memory="4Gi"))(1)

    async with Engine.memory(resources={"memory": "1Gi"}) as engine:
        outcome = await (await engine.start(greedy.bind())).wait()
    assert outcome.failures[0].kind == "unschedulable"
    assert "memory" in outcome.failures[0].message


@pytest.mark.parametrize("size", [0, -1])
async def test_limits_below_one_are_refused(size: int) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        Engine.memory(max_parallel=size)
    with pytest.raises(ConfigError, match="at least 1"):
        Engine.memory(pools={"gpu": size})


async def test_limits_are_given_back_by_cancelled_runs() -> None:
    async with Engine.memory(max_parallel=2) as engine:
        run = await engine.start(many.bind([1] * 50))
        await anyio.sleep(0.01)
        await run.cancel()
        assert await engine.run(many.bind([7])) == [7]
