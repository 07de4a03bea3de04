"""Rare moments inside one run: late news, refusals, ends that cross each other, odd projections."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from onready import Engine, NodeContext, Provided, StoreError, each, graph, task
from onready.engine.errors import Failure
from onready.engine.events import (
    AnyEvent,
    NodeCancelled,
    NodeFailed,
    NodeStarted,
    NodeSucceeded,
    RunCancelling,
)
from onready.engine.spi import (
    Attempt,
    BulkCall,
    CallResult,
    Capabilities,
    Failed,
    Labels,
    Outcome,
    Reporter,
    Succeeded,
)
from onready.engine.values.stored import Encoded
from onready.storage.memory import MemoryCatalog
from tests.engine import work
from tests.engine.stores import FaultyRunLog

pytestmark = pytest.mark.anyio


class ByHand:
    """A pool whose calls begin and end when the test says so; `refuse` makes `submit` raise."""

    capabilities = Capabilities(in_process=True, barrier=False)
    limit = 100

    def __init__(self, *, refuse: int = -1) -> None:
        self.calls: list[BulkCall] = []
        self.refused: list[object] = []
        self._refuse = refuse
        self._done: CallResult | None = None

    def submit(self, calls: Sequence[BulkCall], done: CallResult) -> None:
        if len(self.calls) == self._refuse:
            message = "no more threads"
            raise ZeroDivisionError(message)
        self._done = done
        self.calls.extend(calls)

    def withdraw(self, token: object) -> bool:
        self.refused.append(token)
        return False  # it has begun, whether that was told yet or not

    def finish(self, call: BulkCall) -> None:
        assert self._done is not None
        try:
            value = call.run()
        except ValueError as error:
            self._done(call.token, None, error)
        else:
            self._done(call.token, value, None)

    async def submitted(self, count: int) -> None:
        with anyio.fail_after(20):
            while len(self.calls) < count:
                await anyio.sleep(0.001)


class Away:
    """A backend of one coroutine function."""

    capabilities = Capabilities(barrier=False)

    def __init__(self, execute: Callable[[Attempt, Reporter], Outcome] | None = None) -> None:
        self._execute = execute

    async def execute(self, attempt: Attempt, report: Reporter) -> Outcome:
        if self._execute is None:
            await anyio.sleep_forever()
        await anyio.lowlevel.checkpoint()
        assert self._execute is not None
        return self._execute(attempt, report)

    async def recover(self, attempt: Attempt, report: Reporter) -> Outcome | None:
        return None

    async def sweep(self, keep: Callable[[Labels], bool]) -> int:
        return 0


async def seen(engine: Engine, run: str, kind: type[AnyEvent], count: int = 1) -> None:
    """Wait until that many events of the kind are recorded."""
    with anyio.fail_after(20):
        while len([e async for e in engine.history(run) if isinstance(e, kind)]) < count:
            await anyio.sleep(0.001)


async def begun(count: int = 1) -> None:
    with anyio.fail_after(20):
        while work.calls.count("begun") < count:
            await anyio.sleep(0.001)


class Stays:
    """Whether the node `stay` of a graph may end; its cancellation cannot reach it."""

    def __init__(self) -> None:
        self.release = anyio.Event()

    async def wait(self) -> None:
        work.calls.append("begun")
        while not self.release.is_set():
            try:
                with anyio.CancelScope(shield=True):
                    await self.release.wait()
            except anyio.get_cancelled_exc_class():
                work.calls.append("swallowed")


@task
async def stay(stays: Stays = Provided("stays")) -> int:
    await stays.wait()
    return 1


# --- calls in threads -----------------------------------------------------------------------------


class Gate(MemoryCatalog):
    """One of its methods waits until it is told, and fails where it is `broken`."""

    def __init__(self, slow: str, *, broken: bool) -> None:
        super().__init__()
        self.asked = anyio.Event()
        self.answer = anyio.Event()
        self._slow = slow
        self._broken = broken

    async def _pass(self, method: str) -> None:
        if method == self._slow:
            self.asked.set()
            await self.answer.wait()
            if self._broken:
                message = "it is gone"
                raise StoreError(message)

    async def put(self, content: bytes | Path) -> str:
        await self._pass("put")
        return await super().put(content)

    async def get(self, digest: str) -> bytes:
        await self._pass("get")
        return await super().get(digest)


@task
async def large(size: int) -> bytes:
    return b"x" * size


@task
def large_in_thread(size: int) -> bytes:
    return b"x" * size


@task
def measure(data: bytes) -> int:
    return len(data)


@graph
def reads() -> list[int]:
    return [measure(large(100_000)), stay()]


@graph
def writes() -> list[object]:
    return [large_in_thread(100_000), stay()]


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("slow", ["get", "put"])
async def test_a_value_that_comes_after_its_call_was_given_up(
    slow: str, broken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onready.engine.dispatcher.core.GIVE_UP", 0.3)
    catalog = Gate(slow, broken=broken)
    stays = Stays()
    async with Engine.memory(catalog=catalog) as engine:
        bound = reads.bind() if slow == "get" else writes.bind()
        run = await engine.start(bound, provided={"stays": stays})
        await catalog.asked.wait()
        await begun()
        async with anyio.create_task_group() as group:
            group.start_soon(run.cancel, "enough", 0.01)
            await seen(engine, run.id, NodeCancelled)
            catalog.answer.set()
            await anyio.wait_all_tasks_blocked()
            stays.release.set()
        assert (await run.wait()).status == "cancelled"
        events = [event async for event in run.events()]
    ends = [e for e in events if isinstance(e, NodeCancelled | NodeFailed | NodeSucceeded)]
    assert [type(e) for e in ends if str(e.node) in {"measure", "large_in_thread"}] == [
        NodeCancelled
    ]


async def test_a_call_that_ends_after_its_time_while_the_run_goes_on() -> None:
    pool, stays = ByHand(), Stays()

    @graph
    def both() -> list[int]:
        return [work.double.with_options(timeout=0.01)(1), stay()]

    async with Engine.memory(backends={"thread": pool}) as engine:
        run = await engine.start(both.bind(), on_error="continue", provided={"stays": stays})
        await pool.submitted(1)
        value = pool.calls[0].run()
        await seen(engine, run.id, NodeFailed)
        assert pool._done is not None
        pool._done(pool.calls[0].token, value, None)
        await anyio.wait_all_tasks_blocked()
        stays.release.set()
        assert [failure.kind for failure in (await run.wait()).failures] == ["timeout"]
        assert [str(e.node) async for e in run.events() if isinstance(e, NodeSucceeded)] == ["stay"]


@graph
def fails_beside_a_call() -> list[int]:
    return [work.boom_in_thread(1), work.double(4)]


async def test_a_call_beside_a_failure_goes_on_after_the_grace() -> None:
    pool = ByHand()
    async with Engine.memory(backends={"thread": pool}, grace=0.0) as engine:
        run = await engine.start(fails_beside_a_call.bind(), on_error="stop")
        await pool.submitted(2)
        pool.finish(pool.calls[0])
        await seen(engine, run.id, NodeFailed)
        assert pool.refused == [pool.calls[1].token]
        # The grace is over, and that is nothing to a call that nobody cancelled.
        await anyio.sleep(0.05)
        pool.finish(pool.calls[1])
        assert (await run.wait()).status == "failed"
        assert [e.value async for e in run.events() if isinstance(e, NodeSucceeded)] == [8]


async def test_calls_are_taken_back_where_the_run_cannot_go_on() -> None:
    pool, log = ByHand(), FaultyRunLog()

    @graph
    def both() -> list[object]:
        return [work.double(1), work.note("x", work.nap(0.05))]

    async with Engine.memory(run_log=log, backends={"thread": pool}) as engine:
        run = await engine.start(both.bind())
        await pool.submitted(1)
        log.good = 0
        assert (await run.wait()).status == "interrupted"
        assert pool.refused == [pool.calls[0].token]
        # Its thread ends when it ends, and tells nobody.
        pool.finish(pool.calls[0])
        assert "double" not in {str(e.node) for e in log.tried if isinstance(e, NodeSucceeded)}


@pytest.mark.parametrize("first", ["inline", "thread", "away", "large"])
async def test_a_pool_that_refuses_interrupts_the_run(first: str) -> None:
    pool = ByHand(refuse=1 if first in {"thread", "large"} else 0)

    @graph
    def chain() -> int:
        if first == "thread":
            return work.double.with_options(name="second")(work.double(1))
        if first == "large":
            return work.double.with_options(after=[large_in_thread(100_000)])(1)
        return work.double(work.add_one.with_options(backend=first)(1))

    backends: dict[str, ByHand | Away] = {"thread": pool, "away": Away(lambda *_: Succeeded(2))}
    async with Engine.memory(backends=backends) as engine:
        run = await engine.start(chain.bind())
        if first in {"thread", "large"}:
            await pool.submitted(1)
            pool.finish(pool.calls[0])
        outcome = await run.wait()
        assert outcome.status == "interrupted"
        with pytest.raises(ZeroDivisionError, match="no more threads"):
            await run.result()


async def test_less_grace_the_second_time_counts() -> None:
    pool = ByHand()
    async with Engine.memory(backends={"thread": pool}) as engine:
        run = await engine.start(work.double.bind(1))
        await pool.submitted(1)
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(run.cancel, "patient", 600.0)
                await seen(engine, run.id, RunCancelling)
                group.start_soon(run.cancel, "not so patient", 700.0)
                await anyio.wait_all_tasks_blocked()
                await run.cancel("no longer", 0.01)
        outcome = await run.wait()
        assert outcome.status == "cancelled"
        reasons = [e.reason async for e in run.events() if isinstance(e, RunCancelling)]
        assert reasons == ["patient"]


async def test_less_grace_before_the_first_was_acted_on() -> None:
    pool = ByHand()
    async with Engine.memory(backends={"thread": pool}) as engine:
        run = await engine.start(work.double.bind(1))
        await pool.submitted(1)
        with anyio.fail_after(20):
            async with anyio.create_task_group() as group:
                group.start_soon(run.cancel, "first", 600.0)
                group.start_soon(run.cancel, "second", 0.01)
        assert (await run.wait()).status == "cancelled"


# --- coroutines -----------------------------------------------------------------------------------


async def test_workers_without_a_node_are_not_given_up(
    memory: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onready.engine.dispatcher.core.GIVE_UP", 0.02)
    stays = Stays()

    @graph
    def both() -> list[object]:
        return [stay(), work.note("x")]

    run = await memory.start(both.bind(), provided={"stays": stays})
    await begun()
    await seen(memory, run.id, NodeSucceeded)
    async with anyio.create_task_group() as group:
        group.start_soon(run.cancel, "enough", 0.01)
        await seen(memory, run.id, NodeCancelled)
        stays.release.set()
    assert (await run.wait()).status == "cancelled"
    said = [e.reason async for e in run.events() if isinstance(e, NodeCancelled)]
    assert said == ["enough; it swallowed its cancellation"]


@task
async def talks(context: NodeContext = Provided(NodeContext)) -> None:
    context.log("stdout", b"hello\n")
    work.calls.append("begun")
    await anyio.sleep_forever()


async def test_what_a_node_wrote_is_kept_where_the_run_cannot_go_on() -> None:
    log = FaultyRunLog()

    @graph
    def both() -> list[object]:
        return [talks(), work.note("x", work.nap(0.05))]

    async with Engine.memory(run_log=log) as engine:
        run = await engine.start(both.bind())
        await begun()
        log.good = 0
        assert (await run.wait()).status == "interrupted"


async def test_a_store_that_fails_while_the_host_is_cancelled() -> None:
    log = FaultyRunLog()

    @task
    async def lingers() -> None:
        work.calls.append("begun")
        while not log.tried:
            try:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.001)
            except anyio.get_cancelled_exc_class():
                work.calls.append("swallowed")

    with anyio.CancelScope() as scope:
        async with Engine.memory(run_log=log, grace=2.0) as engine:
            await engine.start(lingers.bind())
            await begun()
            while not any(type(event) is NodeStarted for event in log.appended):
                await anyio.sleep(0.001)
            log.good = 0
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert RunCancelling in {type(event) for event in log.tried}


# --- elsewhere ------------------------------------------------------------------------------------


async def test_each_backend_stops_its_own() -> None:
    @graph
    def both() -> list[int]:
        return [work.add_one.with_options(backend="away")(1), work.forever(1)]

    async with Engine.memory(backends={"away": Away()}) as engine:
        run = await engine.start(both.bind())
        await begun()
        await run.cancel("enough")
        assert (await run.wait()).status == "cancelled"
        assert len([e async for e in run.events() if isinstance(e, NodeCancelled)]) == 2


async def test_what_runs_on_beside_a_failure_is_not_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("onready.engine.dispatcher.core.GIVE_UP", 0.0)
    fail, end = anyio.Event(), anyio.Event()

    class Three(Away):
        capabilities = Capabilities(barrier=False, concurrency=2)

        async def execute(self, attempt: Attempt, report: Reporter) -> Outcome:
            if attempt.key.index == 0:
                await fail.wait()
                return Failed(Failure("exit", "exit 3"))
            report.started("job")
            await end.wait()
            return Succeeded(7)

    @graph
    def items(xs: list[int]) -> list[int]:
        return work.add_one.with_options(backend="away").map(each(xs))

    async with Engine.memory(backends={"away": Three()}, grace=0.0) as engine:
        run = await engine.start(items.bind([1, 2, 3]), on_error="stop")
        await seen(engine, run.id, NodeStarted)
        fail.set()
        # The third was only planned: it is taken back, and the second is left to its work.
        await seen(engine, run.id, NodeCancelled)
        await anyio.sleep(0.05)
        end.set()
        assert (await run.wait()).status == "failed"
        assert [e.value async for e in run.events() if isinstance(e, NodeSucceeded)] == [7]


@task(codec="pickle")
async def unordered() -> set[int]:
    return {1, 2}


async def test_a_pickle_that_was_asked_for_is_read() -> None:
    data = pickle.dumps({1, 2})
    backend = Away(lambda *_: Succeeded(Encoded("pickle", data, None, len(data))))
    async with Engine.memory(backends={"away": backend}) as engine:
        bound = unordered.with_options(backend="away").bind()
        assert await engine.run(bound) == {1, 2}
