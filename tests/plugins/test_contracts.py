"""The contract suites of the kit: good backends of each kind pass, and faulty ones do not."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, ExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import anyio
import pytest

from onready.backends.local.subprocess import SubprocessConfig
from onready.backends.local.thread import ThreadConfig
from onready.engine.failure import failure_from
from onready.engine.spi import (
    Attempt,
    Backend,
    BulkBackend,
    Capabilities,
    Failed,
    Labels,
    Outcome,
    Reporter,
    Succeeded,
)
from onready.engine.testing.backend_suite import BackendSuite
from onready.engine.testing.bulk_suite import BulkBackendSuite
from onready.engine.values import ValueType, bring, needs_bringing, needs_settling, settle


class InThread:
    """A third party's backend in the driver's process: each attempt in a thread."""

    capabilities = Capabilities(in_process=True, barrier=False)

    async def execute(self, attempt: Attempt, report: Reporter) -> Outcome:
        assert attempt.function is not None
        report.started(attempt.name)
        values: dict[str, object] = {}
        for name, stored in attempt.inputs.items():
            near = needs_bringing(stored)
            here = await bring(stored, attempt.catalog, attempt.folder) if near else stored
            values[name] = ValueType.any().decode(here)
        call = partial(attempt.function, **values)
        try:
            value = await anyio.to_thread.run_sync(call, abandon_on_cancel=True)
        except Exception as error:  # noqa: BLE001 - whatever the work raises is its failure
            return Failed(failure_from(error))
        result = ValueType.any().encode(value)
        return Succeeded(
            await settle(result, attempt.catalog) if needs_settling(result) else result
        )

    async def recover(self, attempt: Attempt, report: Reporter) -> Outcome | None:
        return None

    async def sweep(self, keep: Callable[[Labels], bool]) -> int:
        return 0


class Programs:
    """A backend that takes programs and no Python: the built-in one, but half of it."""

    def __init__(self, inner: Backend) -> None:
        self._inner = inner
        self.capabilities = replace(inner.capabilities, python=False)
        self.execute = inner.execute
        self.recover = inner.recover
        self.sweep = inner.sweep


# --- good ones ------------------------------------------------------------------------------------


class TestThreads(BulkBackendSuite):
    def open_backend(self, folder: Path) -> AbstractAsyncContextManager[BulkBackend]:
        return ThreadConfig(limit=4).open()


class TestInThread(BackendSuite):
    @asynccontextmanager
    async def open_backend(self, folder: Path) -> AsyncGenerator[Backend]:
        yield InThread()


class TestElsewhere(TestInThread):
    """What would run on another machine: what cannot be seen from here is not asked for."""

    same_host = False


class TestPrograms(BackendSuite):
    @pytest.fixture(scope="module", params=["asyncio"])
    @classmethod
    def anyio_backend(cls, request: pytest.FixtureRequest) -> str:
        # The backend itself is tested on both loops; this is a test of the suite.
        return str(request.param)

    @asynccontextmanager
    async def open_backend(self, folder: Path) -> AsyncGenerator[Backend]:
        async with SubprocessConfig().open() as backend:
            yield Programs(backend)


# --- faulty ones ----------------------------------------------------------------------------------


class Swallows(InThread):
    async def execute(self, attempt: Attempt, report: Reporter) -> Outcome:
        try:
            return await super().execute(attempt, report)
        except anyio.get_cancelled_exc_class():
            return Succeeded()


class Raises(InThread):
    async def execute(self, attempt: Attempt, report: Reporter) -> Outcome:
        outcome = await super().execute(attempt, report)
        if isinstance(outcome, Failed):
            raise ValueError(outcome.failure.message)  # noqa: TRY004 - what the work raised
        return outcome


class RunsTwice(InThread):
    capabilities = Capabilities(in_process=True, adopt=True)

    async def recover(self, attempt: Attempt, report: Reporter) -> Outcome | None:
        return await self.execute(attempt, report)


class LosesOutput(InThread):
    capabilities = Capabilities(in_process=True, logs=True)


class SweepsAll(InThread):
    async def sweep(self, keep: Callable[[Labels], bool]) -> int:
        return 1


class Rounds(InThread):
    """Keeps infinity as null, as JSON by itself does."""

    async def execute(self, attempt: Attempt, report: Reporter) -> Outcome:
        outcome = await super().execute(attempt, report)
        value = outcome.value if isinstance(outcome, Succeeded) else None
        return Succeeded() if isinstance(value, float) and math.isinf(value) else outcome


class Keeps(InThread):
    """Leaves a file open for each attempt."""

    def __init__(self) -> None:
        self.files = ExitStack()
        self.close = self.files.close

    async def execute(self, attempt: Attempt, report: Reporter) -> Outcome:
        self.files.enter_context(open("/dev/null", "rb"))  # noqa: PTH123, SIM115
        return await super().execute(attempt, report)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("backend", "test"),
    [
        (Swallows(), "test_cancellation_is_passed_on"),
        (Swallows(), "test_cancel_before_anything_happened"),
        (Raises(), "test_user_failure_is_an_outcome"),
        (RunsTwice(), "test_what_never_started_is_not_recovered"),
        (RunsTwice(), "test_one_name_runs_once"),
        (LosesOutput(), "test_output_is_complete_and_in_order"),
        (SweepsAll(), "test_sweep_removes_the_unwanted_and_nothing_else"),
        (Rounds(), "test_numbers_that_json_lacks_arrive_unchanged"),
        (Keeps(), "test_leaves_nothing_behind"),
    ],
)
async def test_the_suite_catches(backend: Backend, test: str, tmp_path: Path) -> None:
    class Suite(BackendSuite):
        patience = 3.0

        @asynccontextmanager
        async def open_backend(self, folder: Path) -> AsyncGenerator[Backend]:
            yield backend

    try:
        with pytest.raises((AssertionError, TimeoutError, ValueError, ExceptionGroup)):
            await getattr(Suite(), test)(tmp_path)
    finally:
        for folder in (tmp_path, tmp_path / "first", tmp_path / "second"):
            if await anyio.Path(folder).exists():
                await anyio.Path(folder / "gate").touch()
        if isinstance(backend, Keeps):
            backend.close()


def test_a_suite_must_be_told_what_it_tests(tmp_path: Path) -> None:
    for suite in (BackendSuite(), BulkBackendSuite()):
        with pytest.raises(NotImplementedError):
            suite.open_backend(tmp_path)
