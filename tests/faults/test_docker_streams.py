"""A daemon behind a bad line (F7), one that never answers (F8), and much output (F16).

The line is a relay between the backend and a real engine: it cuts connections where it likes, holds
them up, or swallows what comes. Whatever it does, verdicts and output are those of a good line.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import psutil
import pytest

from onready.backends.docker.backend import DockerBackend, DockerConfig
from onready.backends.docker.client import Unreachable, open_client
from onready.engine.errors import BackendError, Failure
from onready.engine.spi import Attempt, Shell
from onready.engine.testing.fakes import RecordingReporter
from tests.backends.kit import Bench, directory, failure
from tests.docker import engines
from tests.docker.engines import SHELL
from tests.faults.sizes import NIGHTLY, size

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(1800 if NIGHTLY else 180)]


@pytest.fixture
def anyio_backend() -> str:
    """Asyncio alone: as aiodocker is."""
    return "asyncio"


class Line:
    """A relay to the engine that breaks connections. `cut` is the chance of each to be cut."""

    def __init__(self, engine: str, seed: int) -> None:
        self._engine = engine.removeprefix("unix://")
        self._chance = random.Random(seed)
        self._tasks: set[asyncio.Task[None]] = set()
        self.cut = 0.0
        self.dead = False
        """Connections are taken, and nothing comes back."""
        self.silenced: set[asyncio.Task[None]] = set()
        """Connections that stay open, and on which nothing comes any more."""
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
            if asyncio.current_task() in self.silenced:
                await asyncio.sleep(3600)
            writer.write(data)
            await writer.drain()

    def silence(self) -> None:
        """Say nothing more on the connections that there are."""
        self.silenced |= self._tasks

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


STREAMS = size(10, 500)


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
        for number in range(STREAMS // 2):  # each follows its output, and reads what is left
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
        assert anew <= STREAMS // 4
    left = await anyio.to_thread.run_sync(engines.docker, engine, "ps", "-aq")
    assert not left


async def test_a_connection_that_falls_silent_hides_no_end(
    engine: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    gate = tmp_path / "gate"
    text = f"echo begun; while [ ! -e {gate} ]; do sleep 0.05; done; echo ended; exit 3"
    async with (
        directory(tmp_path) as catalog,
        line_to(engine, tmp_path) as (line, host),
        DockerConfig(host=host, image=SHELL).open() as backend,
    ):
        attempt = script(Bench(catalog, tmp_path), text)
        attempt.options = {"mounts": [f"{tmp_path}:{tmp_path}"]}
        report = RecordingReporter()
        ends: list[Failure] = []

        async def run() -> None:
            ends.append(failure(await backend.execute(attempt, report)))

        begun = 0.0
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            with anyio.fail_after(60):
                while not report.output("stdout"):
                    await anyio.sleep(0.05)
            line.silence()
            gate.touch()
            begun = time.monotonic()
        record_property("seconds_until_seen", round(time.monotonic() - begun, 2))
    assert (ends[0].kind, ends[0].exit_code) == ("exit", 3)
    assert report.output("stdout") == b"begun\nended\n"


async def test_a_daemon_that_never_answers_is_left_at_the_deadline(
    engine: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    deadline = size(1, 10)
    async with (
        directory(tmp_path) as catalog,
        line_to(engine, tmp_path) as (line, host),
        DockerConfig(
            host=host, image=SHELL, deadline=deadline, start_deadline=deadline, patience=2
        ).open() as backend,
    ):
        bench = Bench(catalog, tmp_path)
        line.dead = True
        begun = time.monotonic()
        with pytest.raises(Unreachable, match=f"took more than {deadline} s"):
            await greet(host, deadline)
        record_property("seconds_until_left", round(time.monotonic() - begun, 2))
        line.dead = False
        assert await bench.value(await backend.execute(script(bench, "echo back"), _said()))


async def greet(host: str, deadline: float) -> None:
    async with open_client(host, deadline):
        pass


def _said() -> RecordingReporter:
    return RecordingReporter()


class Counting(RecordingReporter):
    """Counts, and keeps nothing."""

    size = 0

    def log(self, stream: object, data: bytes) -> None:
        del stream
        self.size += len(data)


class Watch:
    """How this process does meanwhile: the lag of its loop, the growth of its memory."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._before = self._process.memory_info().rss
        self._most = self._before
        self._lags: list[float] = []
        psutil.cpu_percent()
        self._spent = time.process_time()
        self._begun = time.monotonic()

    async def run(self) -> None:
        while True:
            before = time.perf_counter()
            await anyio.sleep(0.005)
            self._lags.append(time.perf_counter() - before - 0.005)
            if len(self._lags) % 20 == 0:
                self._most = max(self._most, self._process.memory_info().rss)

    @property
    def grown(self) -> int:
        """Bytes, at most."""
        return self._most - self._before

    def told(self) -> dict[str, float]:
        """The figures; of the machine, too, for a busy one delays everybody."""
        lags = sorted(self._lags)
        took = time.monotonic() - self._begun
        return {
            "lag_worst_ms": round(lags[-1] * 1000, 1),
            "lag_p99.9_ms": round(lags[len(lags) * 999 // 1000] * 1000, 1),
            "lag_p99_ms": round(lags[len(lags) * 99 // 100] * 1000, 1),
            "growth_mib": round(self.grown / MIB, 1),
            "seconds": round(took, 1),
            "own_cpu_percent": round(100 * (time.process_time() - self._spent) / took),
            "machine_cpu_percent": psutil.cpu_percent(),
        }


MIB = 1 << 20
CONTAINERS = 16
FAST = f"yes {'z' * 200} | head -c {size(4, 64) * MIB} >&2"
STEADY = f"""
n=0
while [ $n -lt {size(4, 100)} ]; do
    yes {"z" * 100} | head -c {MIB} >&2
    sleep 0.1
    n=$((n + 1))
done
"""
"""10 MiB/s at most."""
TALK = {"fast": (FAST, size(4, 64)), "steady": (STEADY, size(4, 100))}


@pytest.mark.parametrize("how", ["fast", "steady"][: size(1, 2)])
async def test_much_output_moves_neither_the_loop_nor_the_memory(
    engine: str, tmp_path: Path, how: str, record_property: Callable[[str, object], None]
) -> None:
    text, amount = TALK[how]
    async with (
        directory(tmp_path) as catalog,
        DockerConfig(host=engine, image=SHELL, limit=CONTAINERS).open() as backend,
    ):
        bench = Bench(catalog, tmp_path)
        await backend.execute(script(bench, "true"), _said())
        reports = [Counting() for _ in range(CONTAINERS)]
        watch = Watch()
        async with anyio.create_task_group() as outer:
            outer.start_soon(watch.run)
            async with anyio.create_task_group() as tasks:
                for report in reports:
                    tasks.start_soon(backend.execute, script(bench, text), report)
            outer.cancel_scope.cancel()
    assert [report.size for report in reports] == [amount * MIB] * CONTAINERS
    assert watch.grown <= 32 * MIB, f"memory grew by {watch.grown // MIB} MiB"
    figures = watch.told()
    record_property("figures", figures)
    print(f"\n{how}: {figures}")


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
    assert not (tmp_path / "work").exists()
