"""The contract of `Backend`, as tests that every backend runs: ours and anybody's.

    class TestMine(BackendSuite):
        def open_backend(self, folder):
            return MyConfig(...).open()

Run by pytest with anyio's plug-in, on asyncio and on trio (override the `anyio_backend` fixture
for a backend that works on one of them alone). What the backend's capabilities do not claim is
skipped, by name.

Rule of this room: it knows contracts and no implementation; what it asks of a backend is written
in `onready.engine.spi`.
"""

from __future__ import annotations

import random
import secrets
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar, Final, Literal, TypeVar

import anyio
import psutil
import pytest

from onready.engine.names import NodeKey, dispatch_name
from onready.engine.options import Resources
from onready.engine.registry import CATALOGS, create
from onready.engine.spi import (
    Attempt,
    Backend,
    Call,
    Catalog,
    Failed,
    Lost,
    Outcome,
    Shell,
    Succeeded,
    Work,
)
from onready.engine.testing import work
from onready.engine.testing.fakes import RecordingReporter
from onready.engine.values import ValueType, bring, needs_bringing, needs_settling, settle
from onready.engine.values.stored import Stored

T = TypeVar("T")
HOSTILE: Final = (
    "",
    " ",
    "..",
    "../../etc/passwd",
    "/etc/passwd",
    "a/b",
    "-rf",
    "--help",
    "$(touch canary)",
    "`touch canary`",
    "; touch canary",
    "| touch canary",
    "&& touch canary",
    "' \" \\ \\' \\\"",
    "{value}",
    "{{=1+1}}",
    "{{workflow.name}}",
    "%s %d %(x)s",
    "\n",
    "a\nb\r\nc",
    "\t\x0b\x0c\x1b[31m",
    "\u202egnp.exe",
    "\ufeffbom",
    "e\u0301 \u00e9",
    "\U0001f600" * 8,
    "yes",
    "null",
    "~",
    "1e3",
    "!!python/object:os.system",
    "- a\n- b: [c",
    "x" * 4096,
)
"""Texts that break programs which paste values into text."""


@dataclass(slots=True)
class Stage:
    """What one test works with."""

    backend: Backend
    catalog: Catalog
    folder: Path
    reporter: RecordingReporter = field(default_factory=RecordingReporter)
    outcomes: list[Outcome | None] = field(default_factory=list["Outcome | None"])
    """Of the attempts that ran in the background and ended."""
    mark: str = field(default_factory=lambda: secrets.token_hex(4))
    """Ends the ids of the test's runs: a platform may keep what an earlier test left."""

    async def execute(self, attempt: Attempt) -> Outcome:
        """Run an attempt to its end, with a reporter of its own."""
        return await self.backend.execute(attempt, RecordingReporter())

    async def run(self, attempt: Attempt) -> None:
        """In the background: run an attempt and keep its outcome."""
        self.outcomes.append(await self.execute(attempt))

    async def rejoin(self, attempt: Attempt) -> None:
        """In the background: recover an attempt and keep its outcome."""
        self.outcomes.append(await self.backend.recover(attempt, RecordingReporter()))


class BackendSuite:
    """Subclass it in a test module and override `open_backend`; the rest where it does not fit."""

    pytestmark: ClassVar[list[pytest.MarkDecorator]] = [pytest.mark.anyio]

    same_host: bool = True
    """Attempts run on this machine: their files and processes can be seen from here."""
    many: int = 20
    """Attempts at once, where many are tried."""
    patience: float = 50.0
    """Seconds after which a test gives up waiting for the backend."""
    grace: float = 0.5
    """The grace of cancelled attempts, in seconds."""
    python: str = sys.executable
    """The Python to start where attempts run; it has onready."""

    # --- what an author says of the backend ---------------------------------------------------

    def open_backend(self, folder: Path) -> AbstractAsyncContextManager[Backend]:
        """A new instance of the backend; `folder` is the test's own.

        Where the backend can adopt, two instances that are open at once share the platform.
        """
        raise NotImplementedError

    def open_catalog(self, folder: Path) -> AbstractAsyncContextManager[Catalog]:
        """A catalog that attempts can reach."""
        return create(CATALOGS, f"file:{folder / 'catalog'}").open()

    def foreign_job(self) -> AbstractAsyncContextManager[Callable[[], Awaitable[bool]]] | None:
        """Something on the platform that is not ours; it yields "is it still there?".

        Override it where there is such a thing: `sweep` must not touch it.
        """
        return None

    # --- helpers for tests ---------------------------------------------------------------------

    @asynccontextmanager
    async def stage(self, folder: Path) -> AsyncGenerator[Stage]:
        """An open backend and catalog, within the suite's patience."""
        with anyio.fail_after(self.patience):
            # In a thread: finding and importing a plug-in reads files.
            catalogs = await anyio.to_thread.run_sync(self.open_catalog, folder)
            backends = await anyio.to_thread.run_sync(self.open_backend, folder)
            async with catalogs as catalog, backends as backend:
                yield Stage(backend, catalog, folder)

    async def attempt(
        self,
        stage: Stage,
        what: Work | Callable[..., object],
        *,
        run: str = "suite",
        node: str = "node",
        number: int = 1,
        inputs: Mapping[str, object] | None = None,
    ) -> Attempt:
        """An attempt of this work, as the engine would make it."""
        stored: dict[str, Stored] = {}
        for name, value in (inputs or {}).items():
            # In a thread: codecs are plug-ins too.
            stored[name] = await anyio.to_thread.run_sync(ValueType.any().encode, value)
        for name, value in stored.items():
            if needs_settling(value):
                stored[name] = await settle(value, stage.catalog)
        run = f"{run}-{stage.mark}"
        key = NodeKey.parse(node)
        name = dispatch_name(run, key, number)
        if isinstance(what, Call | Shell):
            task, function = what, None
        else:
            task, function = Call(f"{what.__module__}:{what.__qualname__}"), what
        return Attempt(
            run=run,
            key=key,
            number=number,
            epoch=1,
            name=name,
            backend="suite",
            work=task,
            inputs=stored,
            resources=Resources(),
            catalog=stage.catalog,
            folder=stage.folder / "scratch" / name,
            grace=self.grace,
            function=function,
        )

    def program(self, name: str, *arguments: str) -> Shell:
        """The work `name` as a program, with constant arguments."""
        return Shell((self.python, "-m", "onready.engine.testing.work", name, *arguments))

    async def value(self, stage: Stage, outcome: Outcome) -> object:
        """The value of an outcome that must be `Succeeded`."""
        assert isinstance(outcome, Succeeded), outcome
        stored = outcome.value
        if needs_bringing(stored):
            stored = await bring(stored, stage.catalog, stage.folder)
        return ValueType.any().decode(stored)

    @staticmethod
    def needs(stage: Stage, *claims: Literal["python", "shell", "logs", "adopt"]) -> None:
        """Skip the test where the backend does not claim these capabilities."""
        for claim in claims:
            if not getattr(stage.backend.capabilities, claim):
                pytest.skip(f"the backend does not claim {claim!r}")

    def needs_processes(self, stage: Stage) -> None:
        """Skip the test where attempts have no processes that can be seen from here."""
        if stage.backend.capabilities.in_process or not self.same_host:
            pytest.skip("attempts have no process of their own on this machine")

    # --- outcomes ------------------------------------------------------------------------------

    async def test_success_gives_the_value(self, tmp_path: Path) -> None:
        async with self.stage(tmp_path) as stage:
            self.needs(stage, "python")
            attempt = await self.attempt(stage, work.echo, inputs={"value": {"a": [1, 2.5, None]}})
            outcome = await stage.backend.execute(attempt, stage.reporter)
            assert await self.value(stage, outcome) == {"a": [1, 2.5, None]}
            assert len(stage.reporter.handles) == 1

    async def test_user_failure_is_an_outcome(self, tmp_path: Path) -> None:
        async with self.stage(tmp_path) as stage:
            self.needs(stage, "python")
            attempt = await self.attempt(stage, work.fail, inputs={"message": "no good"})
            outcome = await stage.backend.execute(attempt, stage.reporter)
            assert isinstance(outcome, Failed)
            failure = outcome.failure
            assert (failure.kind, failure.message) == ("error", "no good")
            assert failure.type.endswith("ValueError")
            assert "builtins.ValueError" in failure.bases

    async def test_a_death_has_its_cause_and_the_backend_goes_on(self, tmp_path: Path) -> None:
        async with self.stage(tmp_path) as stage:
            self.needs(stage, "python")
            self.needs_processes(stage)
            left = await stage.backend.execute(
                await self.attempt(stage, work.leave, node="left", inputs={"code": 7}),
                stage.reporter,
            )
            assert isinstance(left, Failed)
            assert (left.failure.kind, left.failure.exit_code) == ("exit", 7)
            crashed = await stage.backend.execute(
                await self.attempt(stage, work.crash, node="crashed"), RecordingReporter()
            )
            assert isinstance(crashed, Failed | Lost)
            assert crashed.failure.kind in {"exit", "oom", "lost"}
            after = await self.attempt(stage, work.echo, node="after", inputs={"value": "alive"})
            outcome = await stage.execute(after)
            assert await self.value(stage, outcome) == "alive"

    async def test_program_result_and_exit_code(self, tmp_path: Path) -> None:
        async with self.stage(tmp_path) as stage:
            self.needs(stage, "shell")
            attempt = await self.attempt(stage, self.program("echo", "a b", "c"), node="good")
            outcome = await stage.backend.execute(attempt, stage.reporter)
            assert await self.value(stage, outcome) == "a b\0c"
            attempt = await self.attempt(stage, self.program("leave", "7"), node="bad")
            outcome = await stage.execute(attempt)
            assert isinstance(outcome, Failed)
            assert (outcome.failure.kind, outcome.failure.exit_code) == ("exit", 7)

    async def test_many_attempts_at_once(self, tmp_path: Path) -> None:
        count = self.many
        async with self.stage(tmp_path) as stage:
            self.needs(stage, "python")
            values: dict[int, object] = {}

            async def run(index: int) -> None:
                attempt = await self.attempt(
                    stage, work.echo, node=f"node[{index}]", inputs={"value": index}
                )
                outcome = await stage.execute(attempt)
                values[index] = await self.value(stage, outcome)

            async with anyio.create_task_group() as tasks:
                for index in range(count):
                    tasks.start_soon(run, index)
            assert values == {index: index for index in range(count)}

    # --- what goes in and what comes out ---------------------------------------------------------

    async def test_hostile_values_arrive_unchanged(self, tmp_path: Path) -> None:
        chance = random.Random(25)  # noqa: S311 - a seed, not a secret
        fuzz = ["".join(map(chr, chance.choices(range(1, 0xD800), k=6))) for _ in range(50_000)]
        async with self.stage(tmp_path) as stage:
            self.needs(stage, "python")
            inputs = {"value": {"texts": [*HOSTILE, "\0", "a\0b"], "fuzz": fuzz}}
            attempt = await self.attempt(stage, work.echo, inputs=inputs)
            outcome = await stage.backend.execute(attempt, stage.reporter)
            assert await self.value(stage, outcome) == inputs["value"]
            assert not await anyio.Path("canary").exists()

    async def test_numbers_that_json_lacks_arrive_unchanged(self, tmp_path: Path) -> None:
        numbers = [float("inf"), float("-inf"), float("nan"), -0.0, 5e-324, 2**63, -(2**70), True]
        async with self.stage(tmp_path) as stage:
            self.needs(stage, "python")
            # By themselves and inside others: the way they are kept is another.
            for index, number in enumerate((numbers[0], numbers[6], numbers)):
                attempt = await self.attempt(
                    stage, work.echo, node=f"node[{index}]", inputs={"value": number}
                )
                value = await self.value(stage, await stage.execute(attempt))
                assert (type(value), repr(value)) == (type(number), repr(number))

    async def test_hostile_arguments_reach_programs_unchanged(self, tmp_path: Path) -> None:
        async with self.stage(tmp_path) as stage:
            self.needs(stage, "shell")
            inputs = {f"v{index}": text for index, text in enumerate(HOSTILE)}
            program = self.program("echo", *(f"{{{name}}}" for name in inputs))
            shell = Shell(program.argv, inputs=tuple(inputs))
            attempt = await self.attempt(stage, shell, inputs=inputs)
            outcome = await stage.backend.execute(attempt, stage.reporter)
            # The result drops the last newline, and no text of HOSTILE is last with one.
            assert await self.value(stage, outcome) == "\0".join(HOSTILE)
            assert not await anyio.Path("canary").exists()

    async def test_output_is_complete_and_in_order(self, tmp_path: Path) -> None:
        async with self.stage(tmp_path) as stage:
            self.needs(stage, "logs")
            count = 2000
            if stage.backend.capabilities.python:
                attempt = await self.attempt(stage, work.write, inputs={"count": count})
            else:
                attempt = await self.attempt(stage, self.program("write", str(count)))
            outcome = await stage.backend.execute(attempt, stage.reporter)
            if stage.backend.capabilities.python:  # A program's result must be text: this is none.
                assert isinstance(outcome, Succeeded), outcome
            assert stage.reporter.output("stdout") == work.written("stdout", count)
            assert stage.reporter.output("stderr") == work.written("stderr", count)

    # --- cancellation -----------------------------------------------------------------------------

    async def test_cancellation_is_passed_on(self, tmp_path: Path) -> None:
        async with self.stage(tmp_path) as stage:
            ledger, gate = tmp_path / "ledger", tmp_path / "gate"
            await self._cancelled(stage, "node", ledger, gate)
            assert not stage.outcomes, "execute returned where it was cancelled"

    async def test_cancel_before_anything_happened(self, tmp_path: Path) -> None:
        async with self.stage(tmp_path) as stage:
            ledger, gate = tmp_path / "ledger", tmp_path / "gate"
            attempt = await self._waiting(stage, "node", ledger, gate)
            with anyio.CancelScope() as scope:
                scope.cancel()
                await stage.backend.execute(attempt, stage.reporter)
            assert scope.cancelled_caught
            await anyio.Path(gate).touch()

    async def test_cancel_kills_the_whole_group(self, tmp_path: Path) -> None:
        async with self.stage(tmp_path) as stage:
            self.needs_processes(stage)
            pids = tmp_path / "pids"
            if stage.backend.capabilities.python:
                attempt = await self.attempt(stage, work.hang, inputs={"pids": str(pids)})
            else:
                attempt = await self.attempt(stage, self.program("hang", str(pids)))
            started: list[str] = []
            cancelled = 0.0
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stage.run, attempt)
                started = await self._until(lambda: _lines(pids, 2))
                cancelled = anyio.current_time()
                tasks.cancel_scope.cancel()
            took = anyio.current_time() - cancelled
            alive = await anyio.to_thread.run_sync(_alive, started)
            assert not alive, f"survived the cancellation: {alive}"
            assert took <= self.grace + 5.0, f"stopping took {took:.1f} s"

    async def test_the_backend_goes_on_after_a_cancellation(self, tmp_path: Path) -> None:
        async with self.stage(tmp_path) as stage:
            ledger, gate = tmp_path / "ledger", tmp_path / "gate"
            await self._cancelled(stage, "node", ledger, gate)
            attempt = await self._waiting(stage, "after", ledger, gate)
            outcome = await stage.execute(attempt)
            assert isinstance(outcome, Succeeded), outcome

    # --- nothing left behind ------------------------------------------------------------------

    async def test_leaves_nothing_behind(self, tmp_path: Path) -> None:
        # The second time round: the first may start what a process has only one of.
        catalogs = await anyio.to_thread.run_sync(self.open_catalog, tmp_path)
        async with catalogs as catalog:
            await self._round(tmp_path / "first", catalog)
            before = await anyio.to_thread.run_sync(_traces)
            await self._round(tmp_path / "second", catalog)
            await self._until(lambda: not (_traces() - before))

    async def _round(self, folder: Path, catalog: Catalog) -> None:
        await anyio.Path(folder).mkdir()
        with anyio.fail_after(self.patience):
            async with self.open_backend(folder) as backend:
                stage = Stage(backend, catalog, folder)
                attempt = await self._waiting(stage, "ended", folder / "a", folder)
                assert isinstance(await backend.execute(attempt, stage.reporter), Succeeded)
                await self._cancelled(stage, "stopped", folder / "b", folder / "gate")

    # --- adoption -----------------------------------------------------------------------------

    async def test_what_never_started_is_not_recovered(self, tmp_path: Path) -> None:
        async with self.stage(tmp_path) as stage:
            attempt = await self._waiting(stage, "node", tmp_path / "ledger", tmp_path / "gate")
            assert await stage.backend.recover(attempt, stage.reporter) is None
            assert not await anyio.to_thread.run_sync(_lines, tmp_path / "ledger")

    async def test_one_name_runs_once(self, tmp_path: Path) -> None:
        async with self.stage(tmp_path) as stage:
            self.needs(stage, "adopt")
            ledger, gate = tmp_path / "ledger", tmp_path / "gate"
            attempt = await self._waiting(stage, "node", ledger, gate)
            async with self.open_backend(tmp_path) as other, anyio.create_task_group() as tasks:
                twin = Stage(other, stage.catalog, tmp_path, outcomes=stage.outcomes)
                tasks.start_soon(stage.run, attempt)
                await self._until(lambda: _lines(ledger))
                tasks.start_soon(stage.run, attempt)
                tasks.start_soon(twin.run, attempt)
                tasks.start_soon(twin.rejoin, attempt)
                await anyio.sleep(0.2)
                await anyio.Path(gate).touch()
            values = [await self.value(stage, found) for found in stage.outcomes if found]
            assert len(values) == 4
            assert len(set(map(repr, values))) == 1
            lines = await anyio.to_thread.run_sync(_lines, ledger)
            assert len(lines) == 1, "the same attempt ran more than once"

    async def test_what_another_driver_has_is_left_alone(self, tmp_path: Path) -> None:
        async with self.stage(tmp_path) as stage:
            self.needs(stage, "adopt")
            ledger, gate = tmp_path / "ledger", tmp_path / "gate"
            attempt = await self._waiting(stage, "node", ledger, gate)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stage.run, attempt)
                await self._until(lambda: _lines(ledger))
                attempt.fenced = True
                tasks.cancel_scope.cancel()
            async with self.open_backend(tmp_path) as other:
                twin = Stage(other, stage.catalog, tmp_path)
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(twin.rejoin, replace(attempt, fenced=False))
                    await anyio.Path(gate).touch()
                assert [await self.value(stage, found) for found in twin.outcomes if found]
            lines = await anyio.to_thread.run_sync(_lines, ledger)
            assert len(lines) == 1, "the attempt that was adopted did not go on"

    async def test_sweep_removes_the_unwanted_and_nothing_else(self, tmp_path: Path) -> None:
        async with self.stage(tmp_path) as stage:
            gate = tmp_path / "gate"
            kept = await self._waiting(stage, "node", tmp_path / "kept", gate, run="kept")
            doomed = await self._waiting(stage, "node", tmp_path / "doomed", gate, run="doomed")
            background = Stage(stage.backend, stage.catalog, tmp_path)
            async with self.open_backend(tmp_path) as other, anyio.create_task_group() as tasks:
                tasks.start_soon(stage.run, kept)
                await self._until(lambda: _lines(tmp_path / "kept"))
                assert await other.sweep(lambda _: True) == 0
                if stage.backend.capabilities.adopt:
                    tasks.start_soon(background.run, doomed)
                    await self._until(lambda: _lines(tmp_path / "doomed"))
                    assert await other.sweep(lambda labels: labels.run != doomed.run) == 1
                await anyio.Path(gate).touch()
                await self._until(lambda: stage.outcomes)
                tasks.cancel_scope.cancel()
            assert isinstance(stage.outcomes[0], Succeeded), stage.outcomes

    async def test_sweep_leaves_foreign_jobs_alone(self, tmp_path: Path) -> None:
        foreign = self.foreign_job()
        if foreign is None:
            pytest.skip("no foreign job is known for this backend")
        async with self.stage(tmp_path) as stage, foreign as is_there:
            # All that is kept is what says of which run it is: a foreign job does not.
            await stage.backend.sweep(lambda labels: bool(labels.run))
            assert await is_there()

    # --- inside -------------------------------------------------------------------------------

    async def _waiting(
        self, stage: Stage, node: str, ledger: Path, gate: Path, *, run: str = "suite"
    ) -> Attempt:
        """An attempt that leaves a line in `ledger` and waits for `gate`."""
        if not self.same_host:
            pytest.skip("attempts cannot see files of this machine")
        if stage.backend.capabilities.python:
            inputs = {"ledger": str(ledger), "gate": str(gate)}
            return await self.attempt(stage, work.note, run=run, node=node, inputs=inputs)
        program = self.program("note", str(ledger), str(gate))
        return await self.attempt(stage, program, run=run, node=node)

    async def _cancelled(self, stage: Stage, node: str, ledger: Path, gate: Path) -> None:
        """Run an attempt that waits, and cancel it when it has begun."""
        attempt = await self._waiting(stage, node, ledger, gate)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(stage.run, attempt)
            await self._until(lambda: _lines(ledger))
            tasks.cancel_scope.cancel()
        # A thread cannot be killed: what is in one ends now.
        await anyio.Path(gate).touch()

    async def _until(self, condition: Callable[[], T]) -> T:
        """Wait until the condition holds, within the suite's patience; what it gave."""
        with anyio.fail_after(self.patience):
            while True:
                found = await anyio.to_thread.run_sync(condition)
                if found:
                    return found
                await anyio.sleep(0.02)


def _lines(path: Path, least: int = 1) -> list[str]:
    """The lines of a file once it has that many, else none."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return lines if len(lines) >= least else []


def _alive(pids: Sequence[str]) -> list[str]:
    """Those of these processes that have not ended."""
    return [pid for pid in pids if _is_alive(int(pid))]


def _is_alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _traces() -> set[str]:
    """Children and descriptors of this process; shared worker threads are not the backend's."""
    me = psutil.Process()
    children = {f"process {child.pid}" for child in me.children(recursive=True)}
    return children | {f"a descriptor beyond {n}" for n in range(me.num_fds())}
