"""A daemon behind a bad line (F7), one that never answers (F8), and much output (F16).

The line is a relay between the backend and a real engine: it cuts connections where it likes, holds
them up, or swallows what comes. Whatever it does, verdicts and output are those of a good line.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import psutil
import pytest

from onready.backends.docker.backend import DockerBackend, DockerConfig
from onready.backends.docker.client import Unreachable, open_client
from onready.engine.errors import BackendError, Failure
from onready.engine.options import Resources
from onready.engine.spi import Attempt, Shell
from onready.engine.testing.fakes import RecordingReporter
from tests.backends.kit import Bench, directory, failure
from tests.docker import engines
from tests.docker.engines import SHELL
from tests.faults.sizes import NIGHTLY, size

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(1800 if NIGHTLY else 180)]

LACK = engines.lack()
if LACK and not engines.REQUIRED:
    pytestmark.append(pytest.mark.skip(reason=f"NO DOCKER ENGINE, its faults do not run: {LACK}"))


@pytest.fixture
def anyio_backend() -> str:
    """Asyncio alone: as aiodocker is."""
    return "asyncio"


@pytest.fixture(scope="module")
def engine() -> Iterator[str]:
    """An engine for this file."""
    with engines.daemon() as made:
        yield made.host


class Line:
    """A relay to the engine that breaks connections. `cut` is the chance of each to be cut."""

    def __init__(self, engine: str, seed: int) -> None:
        self._engine = engine.removeprefix("unix://")
        self._chance = random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self.cut = 0.0
        self.dead = False
        """Connections are taken, and nothing comes back."""
        self.cuts = 0
        self.asked = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.asked += 1
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if self.dead:
                await asyncio.sleep(3600)
            most = self._chance.choice((300, 3_000, 60_000))
            left = self._chance.randint(0, most) if self._chance.random() < self.cut else -1
            there, back = await asyncio.open_unix_connection(self._engine)
            try:
                sending = asyncio.create_task(self._send(reader, back))
                await self._answer(there, writer, left)
                sending.cancel()
                with suppress(asyncio.CancelledError):
                    await sending
            finally:
                back.close()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _send(self, reader: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(65_536):
                back.write(data)
                await back.drain()

    async def _answer(
        self, there: asyncio.StreamReader, writer: asyncio.StreamWriter, left: int
    ) -> None:
        while data := await there.read(65_536):
            if 0 <= left <= len(data):
                writer.write(data[:left])
                self.cuts += 1
                writer.transport.abort() if self._chance.random() < 0.5 else None
                return
            left -= len(data) if left >= 0 else 0
            writer.write(data)
            await writer.drain()

    async def close(self) -> None:
        """Nothing is left of it."""
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


@asynccontextmanager
async def line_to(engine: str, folder: Path, seed: int = 0) -> AsyncGenerator[tuple[Line, str]]:
    """A bad line, and its address."""
    line = Line(engine, seed)
    path = folder / "line.sock"
    server = await asyncio.start_unix_server(line.serve, path)
    try:
        yield line, f"unix://{path}"
    finally:
        server.close()
        await line.close()
        await server.wait_closed()


def script(bench: Bench, text: str) -> Attempt:
    return bench.attempt(Shell(("sh", "-c", text), image=SHELL))


CHATTY = """
n=0
while [ $n -lt 400 ]; do
    echo "out $n $(head -c 100 /dev/zero | tr '\\0' x)"; echo "err $n" >&2
    n=$((n + 1))
done
head -c 50000 /dev/zero | tr '\\0' y
exit 3
"""


async def fate(
    backend: DockerBackend, attempt: Attempt, report: RecordingReporter
) -> Failure | None:
    """How it failed; None where its start was cut off and it is to be made anew."""
    try:
        return failure(await backend.execute(attempt, report))
    except BackendError as error:
        if not error.retryable:
            raise
        return None


async def test_a_bad_line_changes_neither_verdict_nor_output(engine: str, tmp_path: Path) -> None:
    expected = b"".join(b"out %d %b\n" % (n, b"x" * 100) for n in range(400)) + b"y" * 50_000
    errors = b"".join(b"err %d\n" % n for n in range(400))
    digest = hashlib.sha256(expected).hexdigest()
    async with (
        directory(tmp_path) as catalog,
        line_to(engine, tmp_path) as (line, host),
        DockerConfig(host=host, image=SHELL, deadline=5, patience=60).open() as backend,
    ):
        bench = Bench(catalog, tmp_path)
        line.cut = 0.5
        anew = 0
        for number in range(size(5, 200)):
            report = RecordingReporter()
            found = await fate(backend, script(bench, CHATTY), report)
            if found is None:
                anew += 1
                continue
            assert (found.kind, found.exit_code) == ("exit", 3), number
            output = report.output("stdout")
            # The last line has no newline: with its length one is taken to belong to it.
            assert hashlib.sha256(output.removesuffix(b"\n")).hexdigest() == digest, number
            assert report.output("stderr") == errors
        assert line.cuts
        assert anew <= size(5, 200) // 2
    left = await anyio.to_thread.run_sync(engines.docker, engine, "ps", "-aq")
    assert not left


async def test_a_daemon_that_never_answers_is_left_at_the_deadline(
    engine: str, tmp_path: Path
) -> None:
    deadline = 1.0
    async with (
        directory(tmp_path) as catalog,
        line_to(engine, tmp_path) as (line, host),
        DockerConfig(
            host=host, image=SHELL, deadline=deadline, start_deadline=deadline, patience=2
        ).open() as backend,
    ):
        bench = Bench(catalog, tmp_path)
        line.dead = True
        with pytest.raises(Unreachable, match="took more than 1 s"):
            await greet(host, deadline)
        line.dead = False
        assert await bench.value(await backend.execute(script(bench, "echo back"), _said()))


async def greet(host: str, deadline: float) -> None:
    async with open_client(host, deadline):
        pass


def _said() -> RecordingReporter:
    return RecordingReporter()


async def test_much_output_moves_neither_the_loop_nor_the_memory(
    engine: str, tmp_path: Path
) -> None:
    amount, containers = size(4 << 20, 64 << 20), 16
    lags: list[float] = []

    async def watch() -> None:
        while True:
            before = time.perf_counter()
            await anyio.sleep(0.005)
            lags.append(time.perf_counter() - before - 0.005)

    class Counting(RecordingReporter):
        """Counts, and keeps nothing."""

        size = 0

        def log(self, stream: object, data: bytes) -> None:
            del stream
            self.size += len(data)

    async with (
        directory(tmp_path) as catalog,
        DockerConfig(host=engine, image=SHELL, limit=containers).open() as backend,
    ):
        bench = Bench(catalog, tmp_path)
        text = f"yes {'z' * 200} | head -c {amount} >&2"
        await backend.execute(script(bench, "true"), _said())
        before = psutil.Process().memory_info().rss
        reports = [Counting() for _ in range(containers)]
        async with anyio.create_task_group() as outer:
            outer.start_soon(watch)
            async with anyio.create_task_group() as tasks:
                for report in reports:
                    attempt = script(bench, text)
                    attempt.resources = Resources(cpu=1)
                    tasks.start_soon(backend.execute, attempt, report)
            outer.cancel_scope.cancel()
        grown = psutil.Process().memory_info().rss - before
    assert [report.size for report in reports] == [amount] * containers
    assert grown <= 96 << 20, f"memory grew by {grown >> 20} MiB"
    lags.sort()
    print(
        f"\nlag of the loop: worst {lags[-1] * 1000:.0f} ms, p99 {lags[-len(lags) // 100] * 1000:.0f} ms"
    )


async def test_many_containers_in_a_row_leave_nothing(engine: str, tmp_path: Path) -> None:
    # Tasks, threads and processes are watched over by every test; here what the engine holds.
    me = psutil.Process()
    async with (
        directory(tmp_path) as catalog,
        DockerConfig(host=engine, image=SHELL).open() as backend,
    ):
        bench = Bench(catalog, tmp_path)
        await backend.execute(script(bench, "true"), _said())
        descriptors = me.num_fds()
        for number in range(size(15, 300)):
            assert await bench.value(
                await backend.execute(script(bench, f"echo {number}"), _said())
            )
        assert me.num_fds() <= descriptors + 1
    for things in (("ps", "-aq"), ("volume", "ls", "-q")):
        assert not await anyio.to_thread.run_sync(engines.docker, engine, *things)
    assert not list((tmp_path / "work").iterdir())
