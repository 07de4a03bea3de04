"""Backends that refuse, raise, lose attempts or never stop; and those that do as they should."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import anyio
import pytest

from onready import BackendError, Engine, Retry, each, graph, task
from onready.engine.errors import Failure, StoreError
from onready.engine.events import (
    AttemptPlanned,
    BackendWarning,
    NodeCancelled,
    NodeFailed,
    NodeLog,
    NodeLost,
    NodeProgress,
    NodeRetrying,
    NodeStarted,
)
from onready.engine.options import RetryPolicy
from onready.engine.run import Run
from onready.engine.spi import (
    Attempt,
    Capabilities,
    Failed,
    Labels,
    Lost,
    Outcome,
    Reporter,
    Succeeded,
)
from onready.engine.testing.fakes import FakeBackend, Script
from onready.engine.values.stored import Compound, Encoded
from tests.engine import work
from tests.engine.stores import FaultyRunLog

pytestmark = pytest.mark.anyio

Execute = Callable[[Attempt, Reporter], Outcome]


class Backend:
    """A backend of one function."""

    def __init__(self, execute: Execute, **capabilities: bool | int) -> None:
        self.capabilities = Capabilities(**capabilities)  # type: ignore[arg-type] # by name
        self.attempts: list[Attempt] = []
        self._execute = execute

    async def execute(self, attempt: Attempt, report: Reporter) -> Outcome:
        self.attempts.append(attempt)
        await anyio.lowlevel.checkpoint()
        return self._execute(attempt, report)

    async def recover(self, attempt: Attempt, report: Reporter) -> Outcome | None:
        return None

    async def sweep(self, keep: Callable[[Labels], bool]) -> int:
        return 0


class Deaf(Backend):
    """Its attempts do not stop when they are told to."""

    def __init__(self) -> None:
        super().__init__(lambda *_: Succeeded(7))
        self.begun = anyio.Event()
        self.release = anyio.Event()

    async def execute(self, attempt: Attempt, report: Reporter) -> Outcome:
        report.started("deaf")
        self.begun.set()
        with anyio.CancelScope(shield=True):
            await self.release.wait()
        return Succeeded(7)


@graph
def items(xs: list[int]) -> list[int]:
    return work.add_one.with_options(backend="away").map(each(xs))


away = work.add_one.with_options(backend="away")


@pytest.fixture(autouse=True)
def quick_infrastructure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries of what is nobody's fault wait a moment instead of seconds."""
    policy = RetryPolicy(3, 0.004, 1.0, jitter=True)
    monkeypatch.setattr("onready.engine.scheduler.retry.INFRASTRUCTURE_BACKOFF", policy)


async def of(run: Run[object], *kinds: type[object]) -> list[object]:
    return [event async for event in run.events() if isinstance(event, kinds)]


async def failure(run: Run[object]) -> Failure:
    outcome = await run.wait()
    assert outcome.status == "failed"
    return outcome.failures[0]


@pytest.mark.parametrize("kind", [BackendError, StoreError])
async def test_a_backend_that_cannot_do_its_part(kind: type[BackendError | StoreError]) -> None:
    def refuse(attempt: Attempt, report: Reporter) -> Outcome:
        message = "quota exceeded"
        raise kind(message)

    backend = Backend(refuse)
    async with Engine.memory(backends={"away": backend}) as engine:
        run = await engine.start(away.bind(1))
        found = await failure(run)
    assert (found.kind, found.type, found.message) == ("error", kind.__name__, "quota exceeded")
    assert len(backend.attempts) == 1


async def test_what_may_help_is_tried_again_at_nobody_s_expense() -> None:
    scripts = {
        "add_one": [Script(fault=BackendError("busy", retryable=True))] * 2 + [Script(value=5)]
    }
    async with Engine.memory(backends={"away": FakeBackend(scripts)}) as engine:
        run = await engine.start(away.bind(1))
        assert await run.result() == 5
        retries = [e for e in await of(run, NodeRetrying) if isinstance(e, NodeRetrying)]
    assert [event.failure.kind for event in retries] == ["evicted", "evicted"]
    # The wait is drawn: a hundred nodes that were evicted together do not come back together.
    assert all(0 <= event.delay < 0.004 for event in retries)


async def test_what_may_help_is_not_tried_for_ever() -> None:
    fault = Script(fault=BackendError("busy", retryable=True))
    async with Engine.memory(backends={"away": FakeBackend({"add_one": fault})}) as engine:
        found = await failure(await engine.start(away.bind(1)))
    assert (found.kind, found.attempt) == ("evicted", 4)


async def test_a_backend_that_raises_fails_that_attempt_only() -> None:
    def odd(attempt: Attempt, report: Reporter) -> Outcome:
        if str(attempt.key).endswith("[1]"):
            message = "a bug in the backend"
            raise ZeroDivisionError(message)
        return Succeeded(attempt.key.index)

    async with Engine.memory(backends={"away": Backend(odd)}) as engine:
        run = await engine.start(items.bind([1, 2, 3]), on_error="continue")
        outcome = await run.wait()
    assert [(f.node, f.type) for f in outcome.failures] == [("add_one[1]", "ZeroDivisionError")]


async def test_an_attempt_that_is_lost_is_told_as_lost() -> None:
    backend = FakeBackend({"add_one": Script(end="lose", message="node gone")})
    async with Engine.memory(backends={"away": backend}) as engine:
        run = await engine.start(away.bind(1))
        assert (await failure(run)).kind == "lost"
        assert len(await of(run, NodeLost)) == 1
        assert await of(run, NodeFailed) == []


async def test_a_lost_attempt_is_tried_again_if_the_user_says_so() -> None:
    backend = FakeBackend({"add_one": [Script(end="lose"), Script(value=3)]})
    async with Engine.memory(backends={"away": backend}) as engine:
        bound = away.with_options(retry=Retry(1, on=("lost",))).bind(1)
        assert await engine.run(bound) == 3


async def test_a_failure_without_an_address_gets_one() -> None:
    backend = Backend(lambda *_: Failed(Failure("oom", "out of memory")))
    async with Engine.memory(backends={"away": backend}) as engine:
        found = await failure(await engine.start(items.bind([1])))
    assert (found.node, found.attempt, found.kind) == ("add_one[0]", 1, "oom")


async def test_what_an_attempt_says_is_recorded_in_order() -> None:
    def talk(attempt: Attempt, report: Reporter) -> Outcome:
        report.started("job-7")
        report.started("again")
        report.log("stderr", b"one\n")
        report.log("stderr", b"")
        report.progress(0.5, "half")
        report.warning("slow", "the queue is long")
        report.log("stderr", b"two\n")
        return Failed(Failure("exit", "exit 3", log=report.tail(1), exit_code=3))

    async with Engine.memory(backends={"away": Backend(talk)}) as engine:
        run = await engine.start(away.bind(1))
        assert (await failure(run)).log == ("two",)
        said = await of(run, NodeStarted, NodeLog, NodeProgress, BackendWarning)
    kinds = [type(event) for event in said]
    assert kinds == [NodeStarted, NodeLog, NodeProgress, BackendWarning, NodeLog]
    assert [e.handle for e in said if isinstance(e, NodeStarted)] == ["job-7"]
    assert [e.size for e in said if isinstance(e, NodeLog)] == [4, 8]
    assert [e.code for e in said if isinstance(e, BackendWarning)] == ["slow"]


async def test_who_wrote_nothing_has_no_tail() -> None:
    backend = Backend(lambda _, report: Failed(Failure("exit", "silent", log=report.tail(5))))
    async with Engine.memory(backends={"away": backend}) as engine:
        assert (await failure(await engine.start(away.bind(1)))).log == ()


async def test_reporters_may_be_called_from_threads_and_too_late() -> None:
    kept: list[Reporter] = []

    class Threads(Backend):
        async def execute(self, attempt: Attempt, report: Reporter) -> Outcome:
            kept.append(report)

            def speak() -> None:
                report.started("from a thread")
                report.progress(None, "half")
                report.warning("w", "careful")
                report.log("stdout", b"out\n")

            await anyio.to_thread.run_sync(speak)
            return Succeeded(1)

    backend = Threads(lambda *_: Succeeded())
    async with Engine.memory(backends={"away": backend}) as engine:
        run = await engine.start(away.bind(1))
        assert await run.result() == 1
        said = await of(run, NodeStarted, NodeProgress, BackendWarning, NodeLog)
        assert {type(event) for event in said} == {
            NodeStarted,
            NodeProgress,
            BackendWarning,
            NodeLog,
        }
        before = [event async for event in run.events()]

        def late() -> None:
            kept[0].started("late")
            kept[0].progress(1.0, "late")
            kept[0].warning("late", "late")
            kept[0].log("stdout", b"late")

        late()
        await anyio.to_thread.run_sync(late)
        assert [event async for event in run.events()] == before


@pytest.mark.may_block("so that the loop hears of the output too late")
async def test_the_last_size_of_output_is_the_whole() -> None:
    class Hasty(Backend):
        async def execute(self, attempt: Attempt, report: Reporter) -> Outcome:
            def speak() -> None:
                report.log("stdout", b"out")
                report.log("stdout", b"\n")

            # The loop hears of the output only when the attempt is over.
            thread = threading.Thread(target=speak)
            thread.start()
            thread.join()
            return Succeeded(1)

    async with Engine.memory(backends={"away": Hasty(lambda *_: Succeeded())}) as engine:
        run = await engine.start(away.bind(1))
        assert await run.result() == 1
        said = await of(run, NodeLog)
    sizes = [event.size for event in said if isinstance(event, NodeLog)]
    assert sizes[-1] == 4
    assert sizes == sorted(sizes)


async def test_attempts_carry_what_a_backend_needs() -> None:
    backend = Backend(lambda *_: Succeeded(1), concurrency=1)
    async with Engine.memory(backends={"away": backend}, grace=3.0) as engine:
        run = await engine.start(away.with_options(timeout=50.0).bind(4))
        await run.result()
    attempt = backend.attempts[0]
    assert (attempt.run, str(attempt.key), attempt.number) == (run.id, "add_one", 1)
    assert dict(attempt.inputs) == {"x": 4}
    assert (attempt.timeout, attempt.grace, attempt.backend) == (50.0, 3.0, "away")
    assert attempt.fingerprint == run.plan.fingerprint


async def test_a_backend_s_own_concurrency_holds() -> None:
    backend = FakeBackend(lambda _: Script(value=1), capabilities=Capabilities(concurrency=2))
    async with Engine.memory(backends={"away": backend}) as engine:
        assert await engine.run(items.bind(list(range(150)))) == [1] * 150
    assert backend.platform.most_live <= 2
    assert backend.platform.starts.total() == 150


@pytest.mark.parametrize("reason", ["timeout", "node_timeout"])
async def test_an_attempt_elsewhere_times_out(reason: str) -> None:
    backend = FakeBackend({"add_one": Script(end="hang")})
    limits: Mapping[str, float] = {reason: 0.02}
    async with Engine.memory(backends={"away": backend}) as engine:
        bound = away.with_options(**limits).bind(1)  # type: ignore[arg-type] # by name
        found = await failure(await engine.start(bound))
    assert (found.kind, found.reason) == ("timeout", reason)
    assert backend.platform.live == {}


@pytest.mark.parametrize("where", ["inside", "plain"])
async def test_a_pickle_that_nobody_asked_for_is_not_read(where: str) -> None:
    pickled = Encoded("pickle", b"cos\nsystem\n.", None, 12)
    inside = Compound("list", (1, Compound("dict", (pickled,), ("k",))))
    value = inside if where == "inside" else pickled
    async with Engine.memory(backends={"away": Backend(lambda *_: Succeeded(value))}) as engine:
        found = await failure(await engine.start(away.bind(1)))
    assert found.kind == "config"
    assert "codec='pickle'" in found.message


async def test_inputs_that_cannot_leave_the_process_fail_the_node() -> None:
    class Handle:
        pass

    @task
    async def make():  # type: ignore[no-untyped-def] # noqa: ANN202 - un-annotated on purpose
        return Handle()

    @graph
    def sends() -> object:
        return work.note.with_options(backend="away")("x", make())

    backend = FakeBackend()
    async with Engine.memory(backends={"away": backend}) as engine:
        found = await failure(await engine.start(sends.bind()))
    assert (found.kind, found.type, found.node) == ("config", "NoCodec", "note")
    assert backend.platform.starts.total() == 0


async def test_a_backend_that_does_not_stop_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onready.engine.dispatcher.core.GIVE_UP", 0.02)
    backend = Deaf()
    async with Engine.memory(backends={"away": backend}) as engine:
        run = await engine.start(away.bind(1))
        await backend.begun.wait()
        async with anyio.create_task_group() as group:
            group.start_soon(run.cancel, "enough", 0.01)
            with anyio.fail_after(10):
                while not await recorded(engine, run.id, NodeLost):
                    await anyio.sleep(0.005)
            # Known before the attempt's own end, which then counts for nothing.
            backend.release.set()
        await run.wait()
        lost = [e.failure.message async for e in run.events() if isinstance(e, NodeLost)]
        assert lost == ["away did not stop it in time"]


class Careful(Backend):
    """Submits in a shield, stops in a shield: as the contract wants it."""

    def __init__(self) -> None:
        super().__init__(lambda *_: Succeeded())
        self.submitting = anyio.Event()
        self.submitted = anyio.Event()
        self.stopping = anyio.Event()
        self.log: list[str] = []

    async def execute(self, attempt: Attempt, report: Reporter) -> Outcome:
        self.submitting.set()
        with anyio.CancelScope(shield=True):
            await self.submitted.wait()
            self.log.append("submitted")
        report.started("job")
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                self.stopping.set()
                await anyio.sleep(0.05)
                self.log.append("stopped")
        return Succeeded()


async def test_a_submission_is_not_cut_off_half_way() -> None:
    backend = Careful()
    async with Engine.memory(backends={"away": backend}) as engine:
        run = await engine.start(away.bind(1))
        await backend.submitting.wait()
        async with anyio.create_task_group() as group:
            group.start_soon(run.cancel)
            await anyio.wait_all_tasks_blocked()
            backend.submitted.set()
        assert (await run.wait()).status == "cancelled"
    assert backend.log == ["submitted", "stopped"]


async def test_a_stop_is_not_cut_off_by_a_second_cancel() -> None:
    backend = Careful()
    backend.submitted.set()
    async with Engine.memory(backends={"away": backend}) as engine:
        run = await engine.start(away.with_options(timeout=0.02).bind(1))
        await backend.stopping.wait()
        await run.cancel("first", 5.0)
        await run.cancel("second", 4.0)
        assert (await run.wait()).status in {"cancelled", "failed"}
    assert backend.log == ["submitted", "stopped"]


async def test_a_run_that_cannot_go_on_stops_what_it_has_elsewhere() -> None:
    backend = Careful()
    backend.submitted.set()
    log = FaultyRunLog()
    async with Engine.memory(run_log=log, backends={"away": backend}) as engine:
        run = await engine.start(beside.bind())
        with anyio.fail_after(10):
            while not backend.log:
                await anyio.sleep(0.001)
        log.good = 0
        assert (await run.wait()).status == "interrupted"
        assert backend.log == ["submitted", "stopped"]


@graph
def beside() -> list[object]:
    waited = work.nap(0.05)
    return [away(1), work.note("x", waited)]


async def recorded(engine: Engine, run: str, kind: type[object]) -> list[object]:
    return [event async for event in engine.history(run) if isinstance(event, kind)]


async def test_planned_attempts_never_start_once_the_run_stops() -> None:
    backend = FakeBackend(lambda _: Script(end="hang"), capabilities=Capabilities(concurrency=2))
    async with Engine.memory(backends={"away": backend}, grace=0.2) as engine:
        run = await engine.start(items.bind(list(range(100))))
        with anyio.fail_after(10):
            while len(backend.platform.live) < 2:
                await anyio.sleep(0.001)
        await run.cancel("enough")
        assert (await run.wait()).status == "cancelled"
        cancelled = await of(run, NodeCancelled)
    assert backend.platform.starts.total() == 2
    assert len(cancelled) >= 64


async def test_a_failed_item_stops_those_that_were_only_planned() -> None:
    scripts = {"add_one[0]": Script(end="fail"), "add_one[1]": Script(end="hang")}
    backend = FakeBackend(scripts, capabilities=Capabilities(concurrency=2))
    async with Engine.memory(backends={"away": backend}, grace=0.2) as engine:
        run = await engine.start(items.bind(list(range(90))), on_error="cancel")
        outcome = await run.wait()
    assert outcome.status == "failed"
    assert backend.platform.starts.total() < 10
    assert backend.platform.live == {}


async def test_a_durable_run_waits_for_its_plan_before_it_submits(tmp_path: Path) -> None:
    seen: list[set[str]] = []

    class Looks(Backend):
        async def execute(self, attempt: Attempt, report: Reporter) -> Outcome:
            events = [e async for e in engine.history(attempt.run)]
            seen.append({str(e.node) for e in events if isinstance(e, AttemptPlanned)})
            assert str(attempt.key) in seen[-1]
            return Succeeded(1)

    backend = Looks(lambda *_: Succeeded())
    async with Engine(folder=tmp_path, backends={"away": backend}) as engine:
        assert await engine.run(items.bind([1, 2, 3])) == [1, 1, 1]
    assert len(seen) == 3
    loose = Backend(lambda *_: Succeeded(2), barrier=False)
    async with Engine(folder=tmp_path, backends={"away": loose}) as engine:
        assert await engine.run(items.bind([1, 2, 3])) == [2, 2, 2]


async def test_lost_in_a_scope_that_is_cancelled_is_not_retried() -> None:
    class Sore(Backend):
        """Answers its cancellation with a loss."""

        async def execute(self, attempt: Attempt, report: Reporter) -> Outcome:
            report.started("sore")
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                work.calls.append("asked to stop")
                raise
            return Lost(Failure("lost", "never"))

    async with Engine.memory(backends={"away": Sore(lambda *_: Succeeded())}) as engine:
        run = await engine.start(away.with_options(retry=Retry(5)).bind(1))
        with anyio.fail_after(10):
            while not await recorded(engine, run.id, NodeStarted):
                await anyio.sleep(0.001)
        await run.cancel()
        assert (await run.wait()).status == "cancelled"
    assert work.calls == ["asked to stop"]
