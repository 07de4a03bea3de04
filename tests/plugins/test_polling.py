"""`PollingBackend` against a platform that lives in the test: batches, faults, losses, cancels."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Literal

import anyio
import msgspec
import pytest

from onready.backends.polling import Job, Pace, PollingBackend, envelope, labels
from onready.engine.errors import BackendError, Failure
from onready.engine.names import NodeKey, dispatch_name
from onready.engine.options import Resources
from onready.engine.spi import (
    Access,
    Attempt,
    Call,
    Envelope,
    Failed,
    Labels,
    Lost,
    Outcome,
    ResultRecord,
    Succeeded,
    result_name,
)
from onready.engine.testing import RecordingReporter
from onready.engine.values.stored import Live
from onready.storage.memory import MemoryCatalog

pytestmark = pytest.mark.anyio

PACE = Pace(
    shortest=0.01,
    longest=0.05,
    batch=20,
    call_timeout=0.3,
    backoff=0.001,
    unknown_after=0.1,
    unreachable_after=0.2,
)


class NetError(Exception):
    """What the platform's client raises when the wire is cut."""


@dataclass
class Platform:
    """The truth about all jobs, and the faults to play."""

    jobs: dict[str, Job] = field(default_factory=dict)
    labels: dict[str, Labels] = field(default_factory=dict)
    polls: list[tuple[float, tuple[str, ...]]] = field(default_factory=list)
    cancels: list[tuple[str, float]] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    submissions: int = 0
    submit_faults: list[Exception] = field(default_factory=list)
    poll_faults: list[Exception] = field(default_factory=list)
    poll_down: Exception | None = None
    submit_delay: float = 0.0
    deaf: bool = False
    """Cancels are accepted and nothing happens."""
    output: bytes = b"some output\n"
    log_faults: list[Exception] = field(default_factory=list)

    broken: str = ""
    """The call that never works."""

    def fail(self, call: str) -> None:
        if call == self.broken:
            raise BackendError(f"no {call} today")

    def end(self, name: str, job: Job) -> None:
        self.jobs[name] = job


class Grid(PollingBackend):
    transient = (NetError,)

    def __init__(self, platform: Platform, pace: Pace = PACE) -> None:
        super().__init__(pace)
        self.platform = platform

    async def submit(self, attempt: Attempt) -> str:
        self.platform.submissions += 1
        if self.platform.submit_faults:
            raise self.platform.submit_faults.pop(0)
        self.platform.jobs.setdefault(attempt.name, Job("queued"))
        self.platform.labels[attempt.name] = labels(attempt)
        await anyio.sleep(self.platform.submit_delay)
        return attempt.name

    async def poll(self, handles: Sequence[str]) -> Mapping[str, Job]:
        self.platform.polls.append((anyio.current_time(), tuple(handles)))
        await anyio.sleep(0.001)
        if self.platform.poll_down is not None:
            raise self.platform.poll_down
        if self.platform.poll_faults:
            raise self.platform.poll_faults.pop(0)
        return {name: self.platform.jobs[name] for name in handles if name in self.platform.jobs}

    async def cancel(self, handles: Sequence[str], grace: float) -> None:
        self.platform.fail("cancel")
        for name in handles:
            self.platform.cancels.append((name, grace))
            if not self.platform.deaf and name in self.platform.jobs:
                self.platform.end(name, Job("failed", 143, "cancelled"))

    async def find(self, name: str) -> str | None:
        self.platform.fail("find")
        return name if name in self.platform.jobs else None

    async def logs(self, handle: str) -> AsyncIterator[tuple[Literal["stdout", "stderr"], bytes]]:
        half = len(self.platform.output) // 2
        yield "stdout", self.platform.output[:half]
        if self.platform.log_faults:
            raise self.platform.log_faults.pop(0)
        yield "stderr", b"err"
        yield "stdout", self.platform.output[half:]

    async def leftovers(self) -> Mapping[str, Labels]:
        return self.platform.labels

    async def remove(self, handles: Sequence[str]) -> None:
        self.platform.fail("remove")
        self.platform.removed.extend(handles)


class Scene:
    """A platform, a backend on it, a catalog, and attempts in the background."""

    def __init__(self, folder: Path) -> None:
        self.platform = Platform()
        self.backend = Grid(self.platform)
        self.catalog = MemoryCatalog()
        self.folder = folder
        self.outcomes: dict[str, Outcome] = {}
        self.reporters: dict[str, RecordingReporter] = {}

    def attempt(self, node: str = "node", run: str = "r1") -> Attempt:
        key = NodeKey.parse(node)
        return Attempt(
            run=run,
            key=key,
            number=1,
            epoch=3,
            name=dispatch_name(run, key, 1),
            backend="grid",
            work=Call("mod:function"),
            inputs={"x": 1},
            resources=Resources(),
            catalog=self.catalog,
            folder=self.folder / "scratch",
            grace=0.1,
        )

    async def execute(self, attempt: Attempt) -> Outcome:
        reporter = self.reporters.setdefault(str(attempt.key), RecordingReporter())
        return await self.backend.execute(attempt, reporter)

    async def run(self, attempt: Attempt) -> None:
        self.outcomes[str(attempt.key)] = await self.execute(attempt)

    async def record(self, attempt: Attempt, outcome: Outcome) -> None:
        record = ResultRecord(attempt.run, str(attempt.key), 1, 3, outcome, 0.0, 1.0)
        name = result_name(attempt.run, attempt.name)
        assert await self.catalog.put_if_absent(name, msgspec.json.encode(record))

    async def succeed(self, attempt: Attempt, value: int = 42) -> None:
        await self.record(attempt, Succeeded(value))
        self.platform.end(attempt.name, Job("succeeded", 0))

    async def until(self, condition: Callable[[], object]) -> None:
        with anyio.fail_after(20):
            while not condition():
                await anyio.sleep(0.002)


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


# --- outcomes -----------------------------------------------------------------------------------


async def test_the_record_is_the_outcome(scene: Scene) -> None:
    attempt = scene.attempt()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.run, attempt)
        await scene.until(lambda: scene.platform.jobs)
        scene.platform.end(attempt.name, Job("running"))
        await scene.until(lambda: scene.reporters["node"].handles)
        await scene.succeed(attempt)
    assert scene.outcomes["node"] == Succeeded(42)
    assert scene.reporters["node"].handles == [attempt.name]
    assert scene.reporters["node"].output("stdout") == b"some output\n"
    assert scene.platform.removed == [attempt.name]


async def test_without_a_record_the_job_speaks(scene: Scene) -> None:
    attempt = scene.attempt()
    scene.platform.end(attempt.name, Job("failed", 137, "OOMKilled", "oom"))
    outcome = await scene.execute(attempt)
    assert isinstance(outcome, Failed)
    failure = outcome.failure
    assert (failure.kind, failure.exit_code, failure.reason) == ("oom", 137, "OOMKilled")
    assert (failure.node, failure.attempt, failure.log) == ("node", 1, ("some oerrutput",))
    assert failure.message == "the job failed with exit code 137: OOMKilled"


async def test_a_failed_job_with_a_record_is_what_the_record_says(scene: Scene) -> None:
    attempt = scene.attempt()
    failed = Failed(Failure("error", "boom", "builtins.ValueError"))
    await scene.record(attempt, failed)
    scene.platform.end(attempt.name, Job("failed", 1))
    assert await scene.execute(attempt) == failed


async def test_a_good_end_without_a_record_is_lost(scene: Scene) -> None:
    attempt = scene.attempt()
    scene.platform.end(attempt.name, Job("succeeded", 0))
    outcome = await scene.execute(attempt)
    assert isinstance(outcome, Lost)
    assert "left no result record" in outcome.failure.message


async def test_a_cut_log_is_read_again_without_doubles(scene: Scene) -> None:
    scene.platform.log_faults = [NetError("cut"), NetError("cut again")]
    attempt, reporter = scene.attempt(), RecordingReporter()
    await scene.succeed(attempt)
    assert await scene.backend.execute(attempt, reporter) == Succeeded(42)
    assert reporter.output("stdout") == b"some output\n"
    assert reporter.output("stderr") == b"err"
    assert not reporter.warnings


async def test_a_log_that_cannot_be_read_is_a_warning(scene: Scene) -> None:
    scene.platform.log_faults = [KeyError("a bug")]
    attempt, reporter = scene.attempt(), RecordingReporter()
    await scene.succeed(attempt)
    assert await scene.backend.execute(attempt, reporter) == Succeeded(42)
    assert reporter.warnings == [("logs-incomplete", "logs: KeyError: 'a bug'")]


@pytest.mark.parametrize(("code", "kind"), [(64, "config"), (1, "exit"), (9, "exit")])
async def test_exit_codes_of_the_one_node_command(scene: Scene, code: int, kind: str) -> None:
    attempt = scene.attempt()
    scene.platform.end(attempt.name, Job("failed", code))
    outcome = await scene.execute(attempt)
    assert isinstance(outcome, Failed)
    assert outcome.failure.kind == kind


async def test_try_again_is_a_retryable_fault_of_the_backend(scene: Scene) -> None:
    attempt = scene.attempt()
    scene.platform.end(attempt.name, Job("failed", 75))
    with pytest.raises(BackendError, match="exit code 75") as caught:
        await scene.execute(attempt)
    assert caught.value.retryable
    assert scene.platform.removed == [attempt.name], "the name must be free for the next try"


# --- one loop for all -----------------------------------------------------------------------------


async def test_many_attempts_share_batched_polls(scene: Scene) -> None:
    attempts = [scene.attempt(f"node[{index}]") for index in range(50)]
    polls: list[tuple[float, tuple[str, ...]]] = []
    async with anyio.create_task_group() as tasks:
        for attempt in attempts:
            tasks.start_soon(scene.run, attempt)
        await scene.until(
            lambda: len({name for _, names in scene.platform.polls[-3:] for name in names}) == 50
        )
        scene.platform.polls.clear()
        await scene.until(lambda: len(scene.platform.polls) >= 6)
        polls = scene.platform.polls[:6]
        for attempt in attempts:
            await scene.succeed(attempt)
    assert sorted(len(handles) for _, handles in polls) == [10, 10, 20, 20, 20, 20]
    assert len(scene.outcomes) == 50


async def test_the_poller_passes_it_on_when_it_ends_or_is_cancelled(scene: Scene) -> None:
    first, second, third = (scene.attempt(name) for name in ("first", "second", "third"))
    scopes: dict[str, anyio.CancelScope] = {}

    async def run(attempt: Attempt) -> None:
        with anyio.CancelScope() as scopes[str(attempt.key)]:
            await scene.run(attempt)

    async with anyio.create_task_group() as tasks:
        for attempt in (first, second, third):
            tasks.start_soon(run, attempt)
            await scene.until(partial(scene.platform.jobs.__contains__, attempt.name))
        await scene.succeed(first)
        await scene.until(lambda: "first" in scene.outcomes)
        scopes["second"].cancel()
        await scene.until(lambda: scene.platform.cancels)
        await scene.succeed(third)
    assert set(scene.outcomes) == {"first", "third"}
    assert scene.platform.cancels == [(second.name, 0.1)]


async def test_the_pace_slows_down_and_a_newcomer_quickens_it(scene: Scene) -> None:
    scene.backend = Grid(scene.platform, Pace(shortest=0.01, longest=3600, factor=10))
    old, new = scene.attempt("old"), scene.attempt("new")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.run, old)
        await scene.until(lambda: len(scene.platform.polls) >= 3)
        times = [at for at, _ in scene.platform.polls]
        gaps = [late - early for early, late in pairwise(times)]
        assert gaps == sorted(gaps)
        # The next poll on its own would be far away.
        tasks.start_soon(scene.run, new)
        await scene.until(lambda: any(len(handles) == 2 for _, handles in scene.platform.polls))
        tasks.cancel_scope.cancel()


# --- faults of the platform -----------------------------------------------------------------------


async def test_transient_faults_of_submit_are_tried_again(scene: Scene) -> None:
    attempt = scene.attempt()
    scene.platform.submit_faults = [NetError("cut"), BackendError("busy", retryable=True)]
    await scene.succeed(attempt)
    assert await scene.execute(attempt) == Succeeded(42)
    assert scene.platform.submissions == 3


async def test_transient_faults_without_end_are_a_retryable_error(scene: Scene) -> None:
    scene.platform.submit_faults = [NetError(f"cut {number}") for number in range(9)]
    with pytest.raises(BackendError, match="submit: NetError: cut 3") as caught:
        await scene.execute(scene.attempt())
    assert caught.value.retryable
    assert scene.platform.submissions == PACE.tries


@pytest.mark.parametrize("fault", [BackendError("no such queue"), KeyError("a bug")])
async def test_other_faults_of_submit_are_told_at_once(scene: Scene, fault: Exception) -> None:
    scene.platform.submit_faults = [fault]
    with pytest.raises(BackendError) as caught:
        await scene.execute(scene.attempt())
    assert not caught.value.retryable
    assert scene.platform.submissions == 1


async def test_a_call_that_hangs_is_cut(scene: Scene) -> None:
    scene.platform.submit_delay = 3600.0
    with anyio.fail_after(20), pytest.raises(BackendError, match=r"no answer within 0\.3 s"):
        await scene.execute(scene.attempt())


async def test_failing_polls_do_not_decide(scene: Scene) -> None:
    attempt = scene.attempt()
    scene.platform.poll_faults = [NetError("cut"), RuntimeError("500"), BackendError("401")]
    await scene.succeed(attempt)
    assert await scene.execute(attempt) == Succeeded(42)


async def test_a_platform_that_never_answers_again_makes_it_lost(scene: Scene) -> None:
    scene.platform.poll_down = NetError("cut")
    with anyio.fail_after(20):
        outcome = await scene.execute(scene.attempt())
    assert isinstance(outcome, Lost)
    assert outcome.failure.message == "the platform does not answer: poll: NetError: cut"


async def test_an_unknown_job_is_lost_after_a_while(scene: Scene) -> None:
    attempt = scene.attempt()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.run, attempt)
        await scene.until(lambda: scene.platform.polls)
        del scene.platform.jobs[attempt.name]
    outcome = scene.outcomes["node"]
    assert isinstance(outcome, Lost)
    assert outcome.failure.kind == "lost"
    assert "does not know the job" in outcome.failure.message


async def test_an_unknown_job_with_a_record_is_not_lost(scene: Scene) -> None:
    attempt = scene.attempt()
    await scene.record(attempt, Succeeded(7))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.run, attempt)
        await scene.until(lambda: scene.platform.polls)
        del scene.platform.jobs[attempt.name]
    assert scene.outcomes["node"] == Succeeded(7)


# --- cancellation -----------------------------------------------------------------------------


async def test_cancel_stops_the_job_and_is_passed_on(scene: Scene) -> None:
    attempt = scene.attempt()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.run, attempt)
        await scene.until(lambda: scene.platform.polls)
        tasks.cancel_scope.cancel()
    assert scene.platform.cancels == [(attempt.name, attempt.grace)]
    assert not scene.outcomes
    assert scene.platform.removed == [attempt.name]
    assert scene.reporters["node"].output("stdout") == b"some output\n"


async def test_cancel_within_submit_stops_what_was_submitted(scene: Scene) -> None:
    scene.platform.submit_delay = 0.1
    attempt = scene.attempt()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.run, attempt)
        await scene.until(lambda: scene.platform.jobs)
        tasks.cancel_scope.cancel()
    assert scene.platform.cancels == [(attempt.name, attempt.grace)]


async def test_cancel_between_tries_of_submit_stops_what_got_through(scene: Scene) -> None:
    scene.backend = Grid(scene.platform, Pace(backoff=3600.0))
    attempt = scene.attempt()
    scene.platform.submit_faults = [NetError("cut after it got through")]
    scene.platform.jobs[attempt.name] = Job("queued")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.run, attempt)
        await scene.until(lambda: scene.platform.submissions)
        tasks.cancel_scope.cancel()
    assert scene.platform.cancels == [(attempt.name, attempt.grace)]


async def test_a_job_that_does_not_stop_is_reported_and_not_awaited_for_ever(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onready.backends.polling._CANCEL_MARGIN", 0.2)
    scene.platform.deaf = True
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.run, scene.attempt())
        await scene.until(lambda: scene.platform.polls)
        tasks.cancel_scope.cancel()
    assert [code for code, _ in scene.reporters["node"].warnings] == ["cancel-timeout"]


@pytest.mark.parametrize("broken", ["cancel", "remove"])
async def test_a_cancel_that_fails_is_a_warning_and_is_passed_on(scene: Scene, broken: str) -> None:
    scene.platform.broken = broken
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.run, scene.attempt())
        await scene.until(lambda: scene.platform.polls)
        tasks.cancel_scope.cancel()
    assert not scene.outcomes
    texts = [text for _, text in scene.reporters["node"].warnings]
    assert f"no {broken} today" in texts


async def test_a_submission_that_cannot_be_looked_for_is_a_warning(scene: Scene) -> None:
    scene.backend = Grid(scene.platform, Pace(backoff=3600.0))
    scene.platform.submit_faults = [NetError("cut")]
    scene.platform.broken = "find"
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(scene.run, scene.attempt())
        await scene.until(lambda: scene.platform.submissions)
        tasks.cancel_scope.cancel()
    assert scene.reporters["node"].warnings == [("cancel-failed", "no find today")]


async def test_what_is_never_removed_is_a_warning(scene: Scene) -> None:
    scene.platform.broken = "remove"
    attempt = scene.attempt()
    await scene.succeed(attempt)
    assert await scene.execute(attempt) == Succeeded(42)
    assert scene.reporters["node"].warnings == [("not-removed", "no remove today")]


class Plain(PollingBackend):
    """The three coroutines that an author must write, and no other."""

    def __init__(self) -> None:
        super().__init__(PACE)

    async def submit(self, attempt: Attempt) -> str:
        return "17"

    async def poll(self, handles: Sequence[str]) -> Mapping[str, Job]:
        return {"17": Job("succeeded", 0)}

    async def cancel(self, handles: Sequence[str], grace: float) -> None:
        return None


async def test_three_coroutines_are_enough(scene: Scene) -> None:
    attempt, reporter = scene.attempt(), RecordingReporter()
    backend = Plain()
    assert await backend.recover(attempt, reporter) is None
    assert await backend.sweep(lambda _: False) == 0
    await scene.record(attempt, Succeeded(42))
    assert await backend.execute(attempt, reporter) == Succeeded(42)
    assert reporter.handles == ["17"]


# --- recovery and sweeping ------------------------------------------------------------------------


async def test_recover_joins_the_job_of_that_name(scene: Scene) -> None:
    attempt = scene.attempt()
    scene.platform.end(attempt.name, Job("failed", 3))
    outcome = await scene.backend.recover(attempt, RecordingReporter())
    assert isinstance(outcome, Failed)
    assert outcome.failure.exit_code == 3
    assert scene.platform.submissions == 0


async def test_recover_believes_a_record_without_a_job(scene: Scene) -> None:
    attempt = scene.attempt()
    assert await scene.backend.recover(attempt, RecordingReporter()) is None
    await scene.record(attempt, Succeeded(5))
    assert await scene.backend.recover(attempt, RecordingReporter()) == Succeeded(5)


async def test_sweep_cancels_what_nobody_wants_in_batches(scene: Scene) -> None:
    for index in range(45):
        attempt = scene.attempt(f"node[{index}]", run="old" if index else "new")
        scene.platform.labels[attempt.name] = labels(attempt)
    assert await scene.backend.sweep(lambda labels: labels.run == "new") == 44
    assert len(scene.platform.cancels) == len(scene.platform.removed) == 44


# --- what is handed to the platform -----------------------------------------------------------


async def test_the_envelope_is_whole(tmp_path: Path) -> None:
    scene = Scene(tmp_path)
    attempt = scene.attempt("train/fold[3]/fit")
    attempt.timeout = 9.0

    class Reachable(MemoryCatalog):
        def access(self, where: Literal["host", "container", "cluster"]) -> Access:
            return Access(f"file:/{where}/catalog")

    attempt.catalog = Reachable()
    found = msgspec.json.decode(envelope(attempt, "cluster"), type=Envelope)
    assert (found.run, found.node, found.attempt, found.epoch) == ("r1", "train/fold[3]/fit", 1, 3)
    assert (found.name, found.catalog) == (attempt.name, "file:/cluster/catalog")
    assert (found.work, found.inputs, found.timeout) == (attempt.work, {"x": 1}, 9.0)
    attempt.inputs = {"conn": Live(object())}
    with pytest.raises(TypeError, match="'conn' is a live object"):
        envelope(attempt, "cluster")
