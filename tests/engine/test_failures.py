"""What happens when nodes fail: kinds, retries, time limits, and the three failure policies."""

from __future__ import annotations

import time

import anyio
import pytest

from onready import Engine, Retry, RunFailed, each, graph, task
from onready.engine.events import (
    NodeCancelled,
    NodeFailed,
    NodeRetrying,
    NodeSkipped,
    NodeStarted,
)
from onready.engine.events import (
    RunFailed as RunFailedEvent,
)
from onready.engine.options import OnError
from onready.engine.run import Run
from tests.engine import work

pytestmark = pytest.mark.anyio


async def nodes(
    run: Run[object], kind: type[NodeCancelled | NodeFailed | NodeSkipped]
) -> list[str]:
    return [str(event.node) async for event in run.events() if isinstance(event, kind)]


@pytest.mark.parametrize("bound", [work.boom.bind(7), work.boom_in_thread.bind(7)])
async def test_a_failure_tells_what_happened(engine: Engine, bound: object) -> None:
    with pytest.raises(RunFailed) as caught:
        await engine.run(bound)  # type: ignore[arg-type] # parametrised
    failure = caught.value.failures[0]
    assert (failure.kind, failure.type, failure.message) == ("error", "ValueError", "no 7")
    assert failure.attempt == 1
    assert failure.node.startswith("boom")
    assert [frame.function for frame in failure.frames] == [failure.node]
    assert failure.frames[0].code == "raise ValueError(message)"


async def test_all_failures_are_in_the_group(engine: Engine) -> None:
    @graph
    def both() -> list[int]:
        return work.boom.map(each([1, 2, 3]))

    with pytest.raises(RunFailed) as caught:
        await engine.run(both.bind(), on_error="continue")
    assert sorted(f.node for f in caught.value.failures) == ["boom[0]", "boom[1]", "boom[2]"]


async def test_a_node_is_tried_again(engine: Engine) -> None:
    run = await engine.start(work.retried.bind(2))
    assert await run.result() == 3
    retries = [e async for e in run.events() if isinstance(e, NodeRetrying)]
    assert [(e.attempt, e.failure.message) for e in retries] == [(1, "try 1"), (2, "try 2")]
    assert [e.attempt async for e in run.events() if isinstance(e, NodeStarted)] == [1, 2, 3]


async def test_retries_run_out(engine: Engine) -> None:
    run = await engine.start(work.retried.bind(99))
    outcome = await run.wait()
    assert outcome.status == "failed"
    assert outcome.failures[0].attempt == 4
    assert len(work.calls) == 4


@pytest.mark.parametrize(
    ("on", "tries"),
    [((OSError,), 3), ((ValueError,), 1), (("timeout",), 1), (("error",), 3), ((Exception,), 3)],
)
async def test_only_what_the_policy_names_is_retried(
    memory: Engine, on: tuple[type[BaseException], ...], tries: int
) -> None:
    bound = work.flaky.with_options(retry=Retry(2, on=on)).bind(99)
    await (await memory.start(bound)).wait()
    assert len(work.calls) == tries


async def test_backoff_grows_and_is_waited_for(memory: Engine) -> None:
    policy = Retry(3, backoff=0.02, factor=3.0, max_delay=0.1)
    run = await memory.start(work.flaky.with_options(retry=policy).bind(3))
    began = time.monotonic()
    await run.wait()
    delays = [e.delay async for e in run.events() if isinstance(e, NodeRetrying)]
    assert delays == pytest.approx([0.02, 0.06, 0.1])
    assert time.monotonic() - began >= sum(delays)


async def test_jitter_draws_from_the_whole_wait(memory: Engine) -> None:
    policy = Retry(6, backoff=0.01, factor=1.0, jitter=True)
    run = await memory.start(work.flaky.with_options(retry=policy).bind(6))
    await run.wait()
    delays = [e.delay async for e in run.events() if isinstance(e, NodeRetrying)]
    assert all(0 <= delay <= 0.01 for delay in delays)
    assert len(set(delays)) > 1


async def test_an_async_node_times_out(engine: Engine) -> None:
    outcome = await (await engine.start(work.forever.with_options(timeout=0.05).bind())).wait()
    failure = outcome.failures[0]
    assert (failure.kind, failure.reason) == ("timeout", "timeout")
    assert work.calls == ["begun", "ended"]


async def test_a_thread_times_out(engine: Engine) -> None:
    bound = work.nap_in_thread.with_options(timeout=0.05).bind(0.3)
    outcome = await (await engine.start(bound)).wait()
    assert outcome.failures[0].kind == "timeout"


async def test_a_timeout_is_retried(engine: Engine) -> None:
    bound = work.forever.with_options(timeout=0.02, retry=Retry(2)).bind()
    outcome = await (await engine.start(bound)).wait()
    assert outcome.failures[0].attempt == 3
    assert work.calls == ["begun", "ended"] * 3


async def test_the_time_for_all_attempts(engine: Engine) -> None:
    bound = work.forever.with_options(timeout=0.2, node_timeout=0.5, retry=Retry(99)).bind()
    outcome = await (await engine.start(bound)).wait()
    failure = outcome.failures[0]
    assert (failure.kind, failure.reason) == ("timeout", "node_timeout")
    assert 2 <= failure.attempt <= 3


async def test_a_run_times_out(engine: Engine) -> None:
    run = await engine.start(work.forever.bind(), timeout=0.05)
    outcome = await run.wait()
    assert outcome.status == "failed"
    assert "longer than 0.05 s" in outcome.failures[-1].message
    assert work.calls == ["begun", "ended"]


async def test_a_node_that_exits_fails_alone(engine: Engine) -> None:
    @task
    async def leave() -> None:
        raise SystemExit(3)

    outcome = await (await engine.start(leave.bind())).wait()
    assert outcome.failures[0].exit_code == 3


async def test_a_node_that_cancels_itself_fails(engine: Engine, anyio_backend_name: str) -> None:
    if anyio_backend_name == "trio":
        # Trio's cancellation cannot be raised by hand; a node there cannot do this.
        return

    @task
    async def odd() -> None:
        import asyncio

        raise asyncio.CancelledError

    outcome = await (await engine.start(odd.bind())).wait()
    assert outcome.failures[0].type == "CancelledError"


async def test_stop_starts_nothing_new_and_lets_running_nodes_end(engine: Engine) -> None:
    run = await engine.start(work.fails_beside.bind(1))
    outcome = await run.wait()
    assert outcome.status == "failed"
    assert work.calls == []
    # `nap` is skipped too where the failure came before it could start.
    assert {"first", "second"} <= set(await nodes(run, NodeSkipped)) <= {"nap", "first", "second"}
    assert [e async for e in run.events() if isinstance(e, RunFailedEvent)]


async def test_continue_runs_what_does_not_depend_on_the_failed(engine: Engine) -> None:
    run = await engine.start(work.fails_beside.bind(1), on_error="continue")
    assert (await run.wait()).status == "failed"
    assert work.calls == ["first", "second"]
    run = await engine.start(work.fails_early.bind(1), on_error="continue")
    await run.wait()
    skipped = [e async for e in run.events() if isinstance(e, NodeSkipped)]
    assert [(str(e.node), e.reason) for e in skipped] == [("last", "needs boom")]


async def test_cancel_stops_running_nodes_too(engine: Engine) -> None:
    @graph
    def two() -> int:
        waits = work.forever()
        work.boom.with_options(after=[work.nap(0.05)])(1)
        return waits

    run = await engine.start(two.bind(), on_error="cancel")
    assert (await run.wait()).status == "failed"
    assert work.calls == ["begun", "ended"]
    assert await nodes(run, NodeCancelled) == ["forever"]
    assert await nodes(run, NodeFailed) == ["boom"]


@pytest.mark.parametrize("policy", ["stop", "continue", "cancel"])
async def test_a_failure_inside_a_map_of_graphs_fails_the_run(
    engine: Engine, policy: OnError
) -> None:
    @graph
    def item(x: int) -> int:
        return work.add_one(work.boom(x))

    @graph
    def many() -> int:
        return work.total(item.map(each([1, 2])))

    run = await engine.start(many.bind(), on_error=policy)
    outcome = await run.wait()
    assert outcome.status == "failed"
    assert "item[0]/boom" in {failure.node for failure in outcome.failures}
    assert work.calls == []


async def test_the_caller_s_exception_comes_out_as_it_is() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with Engine.memory():
            raise KeyError("mine")


async def test_an_unhashable_failure_in_a_sub_graph_names_its_path(engine: Engine) -> None:
    @graph
    def inner(x: int) -> int:
        return work.boom(x)

    @graph
    def outer() -> int:
        return inner(1)

    with pytest.raises(RunFailed) as caught:
        await engine.run(outer.bind())
    assert caught.value.failures[0].node == "inner/boom"


async def test_a_slow_sibling_ends_under_stop(engine: Engine) -> None:
    @graph
    def beside() -> float:
        slow = work.nap(0.1)
        work.boom(1)
        return slow

    run = await engine.start(beside.bind())
    with anyio.fail_after(5):
        await run.wait()
    succeeded = [e async for e in run.events() if type(e).__name__ == "NodeSucceeded"]
    assert len(succeeded) == 1
