"""A process per attempt: the one-node command, and what a dead driver leaves behind."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import msgspec
import pytest

from onready.backends.local.subprocess import SubprocessBackend, SubprocessConfig
from onready.engine.errors import BackendError, StoreError
from onready.engine.spi import Outcome, ResultRecord, Shell, Succeeded, result_name
from onready.engine.testing.fakes import RecordingReporter
from onready.engine.worker.record import encode_record
from tests.backends import nodes
from tests.backends.kit import PATIENCE, RUN, Bench, directory, failure, is_alive, memory, until

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def opened() -> AsyncGenerator[SubprocessBackend]:
    with anyio.fail_after(PATIENCE):
        async with SubprocessConfig(limit=4).open() as backend:
            yield backend


@pytest.mark.parametrize("kind", ["memory", "directory"])
async def test_values_and_files_travel_through_any_catalog(tmp_path: Path, kind: str) -> None:
    async with directory(tmp_path) as catalog, opened() as backend:
        bench = Bench(catalog, tmp_path) if kind == "directory" else memory(tmp_path)
        made = await backend.execute(
            bench.attempt(nodes.large, {"size": 99_999}), RecordingReporter()
        )
        assert isinstance(made, Succeeded)
        counted = await backend.execute(
            bench.attempt(nodes.length, {"data": made.value}), RecordingReporter()
        )
        assert await bench.value(counted) == 99_999
        written = await backend.execute(bench.attempt(nodes.make_file), RecordingReporter())
        assert isinstance(written, Succeeded)
        read = await backend.execute(
            bench.attempt(nodes.read_file, {"file": written.value}), RecordingReporter()
        )
        assert await bench.value(read) == "content"
        left = [path async for path in anyio.Path(tmp_path / "work").rglob("*")]
        assert not left


async def test_context_progress_and_output(tmp_path: Path) -> None:
    bench = memory(tmp_path)
    async with opened() as backend:
        report = RecordingReporter()
        attempt = bench.attempt(nodes.context)
        found = await bench.value(await backend.execute(attempt, report))
        scratch = str(attempt.folder / "scratch")
        assert found == [RUN, str(attempt.key), 1, 0o700, scratch, True]
        assert report.progresses == [(0.5, "half")]
        await backend.execute(bench.attempt(nodes.speak, {"lines": 2}), report)
        assert report.output("stdout") == b"out 0\nout 1\ngrandchild\n"


async def test_modules_are_found_where_the_driver_finds_them(tmp_path: Path) -> None:
    bench = memory(tmp_path)
    async with opened() as backend:
        outcome = await backend.execute(bench.attempt(nodes.path_and_folder), RecordingReporter())
        folder = str(await anyio.Path.cwd())
        assert await bench.value(outcome) == ([entry or folder for entry in sys.path], folder)


async def test_not_a_number_comes_back(tmp_path: Path) -> None:
    bench = memory(tmp_path)
    async with opened() as backend:
        outcome = await backend.execute(bench.attempt(nodes.not_a_number), RecordingReporter())
        assert repr(await bench.value(outcome)) == "nan"


async def test_not_a_number_goes_in(tmp_path: Path) -> None:
    bench = memory(tmp_path)
    async with opened() as backend:
        attempt = bench.attempt(nodes.shown, {"x": float("nan")})
        assert await bench.value(await backend.execute(attempt, RecordingReporter())) == "nan"


async def test_the_record_is_believed_and_not_the_exit_code(tmp_path: Path) -> None:
    async with directory(tmp_path) as catalog, opened() as backend:
        bench = Bench(catalog, tmp_path)
        attempt = bench.attempt(nodes.segfault)
        record = ResultRecord(RUN, str(attempt.key), 1, 1, Succeeded(5), 0.0, 0.0)
        name = result_name(RUN, attempt.name)
        assert await catalog.put_if_absent(name, encode_record(record))
        assert await backend.execute(attempt, RecordingReporter()) == Succeeded(5)


async def test_a_record_of_another_node_is_refused(tmp_path: Path) -> None:
    async with directory(tmp_path) as catalog, opened() as backend:
        bench = Bench(catalog, tmp_path)
        attempt = bench.attempt(nodes.double, {"x": 1})
        record = ResultRecord(RUN, "other", 1, 1, Succeeded(5), 0.0, 0.0)
        assert await catalog.put_if_absent(
            result_name(RUN, attempt.name), msgspec.json.encode(record)
        )
        with pytest.raises(BackendError, match="belongs to"):
            await backend.execute(attempt, RecordingReporter())


async def test_a_missing_blob_is_told(tmp_path: Path) -> None:
    async with directory(tmp_path) as catalog, opened() as backend:
        bench = Bench(catalog, tmp_path)
        made = await backend.execute(
            bench.attempt(nodes.large, {"size": 99_999}), RecordingReporter()
        )
        assert isinstance(made, Succeeded)
        other = memory(tmp_path / "other")
        with pytest.raises(StoreError, match="has no blob"):
            await backend.execute(
                other.attempt(nodes.length, {"data": made.value}), RecordingReporter()
            )


async def test_the_same_attempt_twice_at_once_is_refused(tmp_path: Path) -> None:
    bench = memory(tmp_path)
    attempt = bench.attempt(Shell(("sleep", "600")))
    report = RecordingReporter()
    async with opened() as backend, anyio.create_task_group() as tasks:
        tasks.start_soon(backend.execute, attempt, report)
        await until(lambda: report.handles)
        with pytest.raises(BackendError, match="runs already"):
            await backend.execute(attempt, RecordingReporter())
        tasks.cancel_scope.cancel()


DRIVER = """
import sys
from pathlib import Path
import anyio
from onready.backends.local.subprocess import SubprocessConfig
from onready.engine.spi import Shell
from onready.engine.testing.fakes import RecordingReporter
from tests.backends import nodes
from tests.backends.kit import Bench, directory

async def main():
    folder = Path(sys.argv[1])
    async with directory(folder) as catalog, SubprocessConfig().open() as backend:
        bench = Bench(catalog, folder)
        async with anyio.create_task_group() as tasks:
            waiting = bench.attempt(nodes.wait_for, {"path": str(folder / "gate")})
            sleeping = bench.attempt(Shell(("sh", "-c", "echo $$ > $0; sleep 600", str(folder / "pid"))))
            for attempt in (waiting, sleeping):
                tasks.start_soon(backend.execute, attempt, RecordingReporter())

anyio.run(main)
"""


@asynccontextmanager
async def dead_driver(folder: Path) -> AsyncGenerator[int]:
    """A driver that was killed while two attempts ran; the process id of the program."""
    driver = await anyio.open_process(
        [sys.executable, "-c", DRIVER, str(folder)], stdout=None, stderr=None
    )
    async with driver:
        pid_file = folder / "pid"
        await until(lambda: pid_file.exists() and pid_file.read_text().strip())
        driver.kill()
        await driver.wait()
    yield int(await anyio.Path(pid_file).read_text())


async def test_recover_ends_what_is_left_and_believes_the_record(tmp_path: Path) -> None:
    async with directory(tmp_path) as catalog, opened() as backend, dead_driver(tmp_path) as pid:
        assert is_alive(pid)
        bench = Bench(catalog, tmp_path)
        waiting = bench.attempt(nodes.wait_for, {"path": str(tmp_path / "gate")})
        sleeping = bench.attempt(Shell(("sleep", "600")))
        assert await backend.recover(sleeping, RecordingReporter()) is None
        assert not is_alive(pid)
        name = result_name(RUN, waiting.name)
        await anyio.Path(tmp_path / "gate").touch()

        async def committed() -> Outcome | None:
            while name not in await catalog.list("runs/"):
                await anyio.sleep(0.01)
            return await backend.recover(waiting, RecordingReporter())

        assert isinstance(await committed(), Succeeded)


async def test_sweep_ends_leftovers_of_dead_drivers_alone(tmp_path: Path) -> None:
    bench = memory(tmp_path / "mine")
    mine = bench.attempt(Shell(("sleep", "600")))
    report = RecordingReporter()
    async with (
        opened() as backend,
        dead_driver(tmp_path) as pid,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(backend.execute, mine, report)
        await until(lambda: report.handles)
        assert await backend.sweep(lambda labels: labels.run == RUN) == 0
        assert is_alive(pid)
        assert await backend.sweep(lambda labels: labels.run != RUN) == 2
        await until(lambda: not is_alive(pid))
        assert is_alive(int(report.handles[0].removeprefix("pid ")))
        tasks.cancel_scope.cancel()


async def test_the_worker_dies_of_a_signal(tmp_path: Path) -> None:
    bench = memory(tmp_path)
    ledger = tmp_path / "ledger"
    outcomes: list[Outcome] = []
    async with opened() as backend, anyio.create_task_group() as tasks:

        async def run() -> None:
            attempt = bench.attempt(nodes.ignore_term, {"ledger": str(ledger)})
            outcomes.append(await backend.execute(attempt, RecordingReporter()))

        tasks.start_soon(run)
        await until(lambda: ledger.exists() and ledger.read_text())
        os.kill(int(await anyio.Path(ledger).read_text()), signal.SIGKILL)
    found = failure(outcomes[0])
    assert (found.kind, found.reason, found.exit_code) == ("exit", "SIGKILL", 137)
