"""Warm workers: values, failures, deaths, cancellation, output, and what they leave behind."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from onready.backends.local.process import ProcessBackend, ProcessConfig
from onready.engine.errors import BackendError, NoCodec
from onready.engine.spi import Outcome, Shell
from onready.engine.testing.fakes import RecordingReporter
from onready.engine.values import ValueType
from onready.engine.values.stored import Live
from tests.backends import nodes
from tests.backends.kit import PATIENCE, RUN, Bench, directory, failure, is_alive, memory, until

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened(limit: int = 1) -> AsyncGenerator[ProcessBackend]:
    with anyio.fail_after(PATIENCE):
        async with ProcessConfig(limit=limit).open() as backend:
            yield backend


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return memory(tmp_path)


async def test_one_worker_serves_many_attempts(bench: Bench) -> None:
    async with opened() as backend:
        pids = set[object]()
        for _ in range(5):
            outcome = await backend.execute(bench.attempt(nodes.pid), RecordingReporter())
            pids.add(await bench.value(outcome))
        assert len(pids) == 1
        assert os.getpid() not in pids


async def test_no_more_workers_than_the_limit(bench: Bench) -> None:
    pids = set[object]()
    async with opened(2) as backend, anyio.create_task_group() as tasks:

        async def run() -> None:
            outcome = await backend.execute(bench.attempt(nodes.pid), RecordingReporter())
            pids.add(await bench.value(outcome))

        for _ in range(20):
            tasks.start_soon(run)
    assert 1 <= len(pids) <= 2


async def test_an_async_function_has_a_loop_of_its_own(bench: Bench) -> None:
    async with opened() as backend:
        attempt = bench.attempt(nodes.double_later, {"x": 21})
        assert await bench.value(await backend.execute(attempt, RecordingReporter())) == 42


async def test_a_misfit_shows_the_path_inside_the_value(bench: Bench) -> None:
    async with opened() as backend:
        outcome = await backend.execute(bench.attempt(nodes.misfit), RecordingReporter())
        assert failure(outcome).kind == "error"
        assert "[1]" in failure(outcome).message


@pytest.mark.parametrize(
    ("function", "words", "code"),
    [(nodes.leave_by_sys_exit, "sys.exit(4)", 4), (nodes.interrupt, "KeyboardInterrupt", None)],
)
async def test_leaving_a_node_is_a_failure_and_not_a_death(
    bench: Bench, function: object, words: str, code: int | None
) -> None:
    async with opened() as backend:
        first = await bench.value(
            await backend.execute(bench.attempt(nodes.pid), RecordingReporter())
        )
        assert callable(function)
        outcome = await backend.execute(bench.attempt(function), RecordingReporter())
        assert words in failure(outcome).message
        assert failure(outcome).exit_code == code
        again = await backend.execute(bench.attempt(nodes.pid), RecordingReporter())
        assert await bench.value(again) == first


async def test_memory_error_is_out_of_memory(bench: Bench) -> None:
    async with opened() as backend:
        outcome = await backend.execute(bench.attempt(nodes.out_of_memory), RecordingReporter())
        assert failure(outcome).kind == "oom"


async def test_a_segfault_fails_its_attempt_and_the_pool_heals(bench: Bench) -> None:
    async with opened() as backend:
        outcome = await backend.execute(bench.attempt(nodes.segfault), RecordingReporter())
        found = failure(outcome)
        assert (found.kind, found.reason, found.exit_code) == ("exit", "SIGSEGV", 139)
        after = await backend.execute(bench.attempt(nodes.double, {"x": 1}), RecordingReporter())
        assert await bench.value(after) == 2


async def test_what_was_printed_before_a_death_is_kept(bench: Bench) -> None:
    async with opened() as backend:
        report = RecordingReporter()
        outcome = await backend.execute(bench.attempt(nodes.print_and_die), report)
        assert report.output("stdout") == b"last words\n"
        assert report.output("stderr") == b"in red\n"
        assert set(failure(outcome).log) == {"last words", "in red"}


async def test_output_belongs_to_its_attempt(bench: Bench) -> None:
    async with opened() as backend:
        first, second = RecordingReporter(), RecordingReporter()
        await backend.execute(bench.attempt(nodes.speak, {"lines": 300}), first)
        await backend.execute(bench.attempt(nodes.speak, {"lines": 2}), second)
        expected = b"".join(b"out %d\n" % number for number in range(300)) + b"grandchild\n"
        assert first.output("stdout") == expected
        assert second.output("stdout") == b"out 0\nout 1\ngrandchild\n"


async def test_an_idle_worker_that_was_killed_is_replaced(bench: Bench) -> None:
    async with opened() as backend:
        outcome = await backend.execute(bench.attempt(nodes.pid), RecordingReporter())
        victim = await bench.value(outcome)
        assert isinstance(victim, int)
        os.kill(victim, signal.SIGKILL)
        await until(lambda: not is_alive(victim))
        outcome = await backend.execute(bench.attempt(nodes.pid), RecordingReporter())
        assert await bench.value(outcome) not in {victim, None}


async def test_cancelling_runs_the_functions_clean_up(bench: Bench, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    async with opened() as backend:
        attempt = bench.attempt(nodes.clean_up, {"ledger": str(ledger)}, grace=10)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(backend.execute, attempt, RecordingReporter())
            await until(lambda: ledger.exists() and ledger.read_text() == "begun")
            tasks.cancel_scope.cancel()
        assert await anyio.Path(ledger).read_text() == "cleaned"


async def test_cancelling_kills_what_ignores_term(bench: Bench, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    async with opened() as backend:
        attempt = bench.attempt(nodes.ignore_term, {"ledger": str(ledger)})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(backend.execute, attempt, RecordingReporter())
            await until(lambda: ledger.exists() and ledger.read_text())
            tasks.cancel_scope.cancel()
        assert not is_alive(int(await anyio.Path(ledger).read_text()))
        outcome = await backend.execute(bench.attempt(nodes.pid), RecordingReporter())
        assert await bench.value(outcome)


async def test_cancelling_one_that_waits_for_a_worker(bench: Bench, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    outcomes: list[Outcome] = []
    async with opened() as backend, anyio.create_task_group() as tasks:

        async def run() -> None:
            attempt = bench.attempt(nodes.wait_for, {"path": str(gate)})
            outcomes.append(await backend.execute(attempt, RecordingReporter()))

        tasks.start_soon(run)
        await anyio.sleep(0.05)
        with anyio.move_on_after(0.1):
            await backend.execute(bench.attempt(nodes.pid), RecordingReporter())
        tasks.start_soon(run)
        await anyio.Path(gate).touch()
    assert len({str(await bench.value(outcome)) for outcome in outcomes}) == 1


async def test_context_progress_and_scratch_folder(bench: Bench) -> None:
    async with opened() as backend:
        report = RecordingReporter()
        attempt = bench.attempt(nodes.context)
        found = await bench.value(await backend.execute(attempt, report))
        assert found == [RUN, str(attempt.key), 1, 0o700, str(attempt.folder), True]
        assert report.progresses == [(0.5, "half")]
        assert not await anyio.Path(attempt.folder).exists()


@pytest.mark.parametrize("kind", ["memory", "directory"])
async def test_blobs_and_files_travel_through_any_catalog(tmp_path: Path, kind: str) -> None:
    async with directory(tmp_path) as catalog, opened() as backend:
        bench = Bench(catalog, tmp_path) if kind == "directory" else memory(tmp_path)
        size = 300_000
        made = await backend.execute(
            bench.attempt(nodes.large, {"size": size}), RecordingReporter()
        )
        assert await bench.value(made) == b"x" * size
        inputs = {"data": made.value}  # type: ignore[union-attr] # it succeeded
        counted = await backend.execute(bench.attempt(nodes.length, inputs), RecordingReporter())
        assert await bench.value(counted) == size
        written = await backend.execute(bench.attempt(nodes.make_file), RecordingReporter())
        attempt = bench.attempt(nodes.read_file, {"file": written.value})  # type: ignore[union-attr] # as above
        read = await backend.execute(attempt, RecordingReporter())
        assert await bench.value(read) == "content"
        left = [path async for path in anyio.Path(tmp_path / "work").rglob("*")]
        assert not left


async def test_messages_larger_than_the_sockets_buffer(bench: Bench) -> None:
    size = 20_000_000
    async with opened() as backend:
        data = ValueType.any().encode(b"y" * size)
        outcome = await backend.execute(
            bench.attempt(nodes.length, {"data": data}), RecordingReporter()
        )
        assert await bench.value(outcome) == size


async def test_native_threads_share_the_machine(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    async with opened(1000) as backend:
        names = ValueType.any().encode(["OMP_NUM_THREADS", "MKL_NUM_THREADS"])
        attempt = bench.attempt(nodes.variables, {"names": names})
        found = await bench.value(await backend.execute(attempt, RecordingReporter()))
        assert found == {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "7"}


async def test_what_it_cannot_run_is_refused(bench: Bench) -> None:
    async with opened() as backend:
        with pytest.raises(BackendError, match="subprocess"):
            await backend.execute(bench.attempt(Shell(("true",))), RecordingReporter())
        attempt = bench.attempt(nodes.double, {"x": Live(object())})
        with pytest.raises(NoCodec, match="live object"):
            await backend.execute(attempt, RecordingReporter())
        outcome = await backend.execute(bench.attempt(nodes.pid), RecordingReporter())
        assert await bench.value(outcome)


async def test_a_function_that_is_not_there_is_a_fault_of_the_definition(bench: Bench) -> None:
    def local() -> None: ...

    async with opened() as backend:
        outcome = await backend.execute(bench.attempt(local), RecordingReporter())
        assert failure(outcome).kind == "config"
        assert "G062" in failure(outcome).message


async def test_nothing_is_recovered_and_nothing_swept(bench: Bench) -> None:
    async with opened() as backend:
        assert await backend.recover(bench.attempt(nodes.pid), RecordingReporter()) is None
        assert await backend.sweep(lambda _: False) == 0
