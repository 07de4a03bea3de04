"""Cancellation: by the caller, by the host, by closing; and what is left afterwards."""

from __future__ import annotations

import random

import anyio
import pytest

from onready import Engine, RunCancelled, each, graph, task
from onready.engine.events import NodeCancelled, NodeStarted, RunCancelling
from onready.engine.events import RunCancelled as RunCancelledEvent
from tests.engine import work

pytestmark = pytest.mark.anyio


async def begun(count: int = 1) -> None:
    with anyio.fail_after(5):
        while work.calls.count("begun") < count:
            await anyio.sleep(0.001)


async def test_cancel_stops_what_runs_and_says_so(engine: Engine) -> None:
    run = await engine.start(work.forever.bind())
    await begun()
    await run.cancel("enough", grace=1.0)
    outcome = await run.wait()
    assert (outcome.status, outcome.reason) == ("cancelled", "enough")
    assert work.calls == ["begun", "ended"]
    events = [event async for event in run.events()]
    assert any(isinstance(e, RunCancelling) and e.reason == "enough" for e in events)
    assert any(isinstance(e, NodeCancelled) for e in events)
    assert isinstance(events[-1], RunCancelledEvent)
    with pytest.raises(RunCancelled, match="enough"):
        await run.result()


async def test_cancel_before_anything_could_start(engine: Engine) -> None:
    @graph
    def later() -> str:
        return work.note("late", work.nap(30))

    run = await engine.start(later.bind())
    await run.cancel()
    assert (await run.wait()).status == "cancelled"
    assert work.calls == []


async def test_cancel_of_an_ended_run_changes_nothing(engine: Engine) -> None:
    run = await engine.start(work.twice.bind(1))
    await run.wait()
    await run.cancel("late")
    assert (await run.wait()).status == "succeeded"


async def test_a_running_thread_may_end_within_the_grace(engine: Engine) -> None:
    run = await engine.start(work.nap_in_thread.bind(0.1))
    await begun()
    await run.cancel(grace=5.0)
    assert (await run.wait()).status in {"succeeded", "cancelled"}


async def test_a_stuck_thread_is_not_waited_for(memory: Engine) -> None:
    run = await memory.start(work.nap_in_thread.bind(1.0))
    await begun()
    await run.cancel(grace=0.05)
    # Had anybody waited for the thread, its attempt would have succeeded.
    assert (await run.wait()).status == "cancelled"


async def test_queued_threads_never_begin(memory: Engine) -> None:
    @graph
    def many() -> list[float]:
        return work.nap_in_thread.map(each([0.2] * 60))

    run = await memory.start(many.bind())
    await begun()
    await run.cancel(grace=2.0)
    count = work.calls.count("begun")
    await anyio.sleep(0.3)
    assert work.calls.count("begun") == count < 60


async def test_a_node_that_swallows_its_cancellation_once(engine: Engine) -> None:
    @task
    async def stubborn() -> str:
        work.calls.append("begun")
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            work.calls.append("swallowed")
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.01)
            raise
        return "never"

    run = await engine.start(stubborn.bind())
    await begun()
    await run.cancel(grace=1.0)
    assert (await run.wait()).status == "cancelled"
    assert work.calls == ["begun", "swallowed"]


async def test_a_node_that_ends_well_when_it_is_cancelled_is_noticed_at_once(
    engine: Engine,
) -> None:
    @task
    async def ends_well() -> int:
        work.calls.append("begun")
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            return 1
        return 2

    run = await engine.start(ends_well.bind())
    await begun()
    with anyio.fail_after(30):
        await run.cancel(grace=600.0)
    assert (await run.wait()).status == "succeeded"


async def test_the_caller_s_cancellation_cancels_the_run(engine: Engine) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(engine.run, work.forever.bind())
        await begun()
        group.cancel_scope.cancel()
    assert work.calls == ["begun", "ended"]
    assert (await engine.find("last")).status == "cancelled"


async def test_cancelling_a_wait_leaves_the_run_alone(engine: Engine) -> None:
    run = await engine.start(work.nap.bind(0.1))
    with anyio.move_on_after(0.01):
        await run.wait()
    assert (await run.wait()).status == "succeeded"


async def test_closing_the_engine_cancels_its_runs() -> None:
    async with Engine.memory(grace=0.5) as engine:
        run = await engine.start(work.forever.bind())
        await begun()
    assert (await run.wait()).status == "cancelled"
    assert work.calls == ["begun", "ended"]


async def test_the_host_s_cancellation_goes_through() -> None:
    reached = False
    with anyio.CancelScope() as scope:
        async with Engine.memory(grace=0.2) as engine:
            await engine.start(work.forever.bind())
            await begun()
            scope.cancel()
            await anyio.sleep_forever()
        reached = True
    assert scope.cancelled_caught
    assert not reached
    assert work.calls == ["begun", "ended"]


async def test_cancel_at_random_points_leaves_nothing(anyio_backend_name: str) -> None:
    # Leaks of tasks, threads, descriptors and children fail every test: see tests/conftest.py.
    seed = random.randrange(1 << 30)
    draw = random.Random(seed)

    @graph
    def busy() -> list[int]:
        xs = work.add_one.map(each(list(range(50))))
        ys = work.double.map(each(xs))
        naps = work.nap.map(each([0.001] * 20))
        return [work.total(ys), work.nap.with_options(after=[naps])(0.01)]  # type: ignore[list-item] # a float

    for _ in range(25):
        with anyio.move_on_after(draw.random() * 0.03):
            async with Engine.memory(grace=0.2) as engine:
                run = await engine.start(busy.bind())
                if draw.random() < 0.5:
                    await anyio.sleep(draw.random() * 0.01)
                    await run.cancel()
                await run.wait()


async def test_cancel_of_a_wide_map(memory: Engine) -> None:
    @graph
    def wide(xs: list[int]) -> list[int]:
        return work.forever.map(each(xs))

    run = await memory.start(wide.bind(list(range(5000))))
    await begun(1000)
    await run.cancel(grace=5.0)
    assert (await run.wait()).status == "cancelled"
    started = [e async for e in run.events() if isinstance(e, NodeStarted)]
    assert len(started) == 1000
