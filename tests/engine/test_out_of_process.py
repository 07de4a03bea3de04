"""Graphs on backends that leave the process: warm processes, subprocesses, programs."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import anyio
import anyio.to_thread
import psutil
import pytest

from onready import (
    Engine,
    File,
    GraphBuilder,
    GraphError,
    Retry,
    RunFailed,
    each,
    graph,
    shell,
    task,
)
from onready.engine.events import AttemptPlanned, NodeLog, NodeStarted, NodeSucceeded
from onready.engine.names import NodeKey, dispatch_name
from onready.engine.run import Run
from tests.engine import work

pytestmark = pytest.mark.anyio

BACKENDS = ["process", "subprocess"]


@task
def pid_of(x: int) -> int:
    return os.getpid()


@task
def speak(x: int) -> int:
    print(f"out {x}", flush=True)
    print(f"err {x}", file=sys.stderr, flush=True)
    return x


@task
def die(how: str) -> None:
    print("last words", flush=True)
    if how == "exit":
        os._exit(7)
    os.kill(os.getpid(), getattr(signal, how))


@task
def die_once(path: str) -> str:
    mark = Path(path)
    if not mark.exists():
        mark.touch()
        os._exit(1)
    return "alive"


@task
def sleep_long(path: str) -> None:
    Path(path).write_text(str(os.getpid()))
    time.sleep(60)


@graph
def spread(xs: list[int]) -> int:
    return work.total(work.double.map(each(xs)))


async def output(engine: Engine, run: Run[object], node: str) -> dict[str, bytes]:
    name = dispatch_name(run.id, NodeKey.parse(node), 1)
    frames = await anyio.to_thread.run_sync(lambda: list(engine.logs.read(run.id, name)))
    found: dict[str, bytes] = {}
    for frame in frames:
        found[frame.stream] = found.get(frame.stream, b"") + frame.data
    return found


async def pid_in(path: Path) -> int:
    with anyio.fail_after(30):
        while not path.exists() or not path.read_text():
            await anyio.sleep(0.01)
    return int(path.read_text())


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_graph_runs_there(engine: Engine, backend: str) -> None:
    run = await engine.start(spread.bind([1, 2, 3]), backend=backend)
    assert await run.result() == 12
    events = [event async for event in run.events()]
    planned = [e for e in events if isinstance(e, AttemptPlanned)]
    assert {e.backend for e in planned} == {backend}
    assert len(planned) == 4
    for event in planned:
        assert event.dispatch == dispatch_name(run.id, event.node, 1)
    order = [type(e) for e in events if getattr(e, "node", None) == NodeKey.parse("total")]
    assert order == [AttemptPlanned, NodeStarted, NodeSucceeded]


async def test_warm_processes_stay_and_are_not_this_one(memory: Engine) -> None:
    first = await memory.run(pid_of.bind(1), backend="process")
    second = await memory.run(pid_of.bind(2), backend="process")
    assert first == second != os.getpid()


@pytest.mark.parametrize("backend", BACKENDS)
async def test_output_is_kept_by_attempt(engine: Engine, backend: str) -> None:
    run = await engine.start(speak.bind(5), backend=backend)
    await run.result()
    assert await output(engine, run, "speak") == {"stdout": b"out 5\n", "stderr": b"err 5\n"}
    sizes = {e.stream: e.size async for e in run.events() if isinstance(e, NodeLog)}
    assert sizes == {"stdout": 6, "stderr": 6}


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("how", "kind"), [("exit", "exit"), ("SIGSEGV", "exit"), ("SIGKILL", "oom")]
)
async def test_a_crash_fails_that_attempt_with_its_cause(
    memory: Engine, backend: str, how: str, kind: str
) -> None:
    run = await memory.start(die.bind(how), backend=backend)
    outcome = await run.wait()
    failure = outcome.failures[0]
    assert failure.kind in {kind, "exit"}
    assert "last words" in failure.log
    # And the pool heals.
    assert await memory.run(work.double.bind(4), backend=backend) == 8


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_crash_is_retried(memory: Engine, backend: str, tmp_path: Path) -> None:
    bound = die_once.with_options(retry=Retry(1)).bind(str(tmp_path / "mark"))
    assert await memory.run(bound, backend=backend) == "alive"


@pytest.mark.timeout(180)
@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_timeout_really_kills(memory: Engine, backend: str, tmp_path: Path) -> None:
    if backend == "process":
        await memory.run(pid_of.bind(1), backend=backend)
    path = tmp_path / "pid"
    for timeout in (1.5, 6.0, 24.0, 48.0):
        bound = sleep_long.with_options(timeout=timeout).bind(str(path))
        outcome = await (await memory.start(bound, backend=backend)).wait()
        assert outcome.failures[0].kind == "timeout"
        if path.exists():
            break  # else the machine is so busy that the process had not begun by then
    assert not psutil.pid_exists(int(path.read_text()))


@pytest.mark.parametrize("backend", BACKENDS)
async def test_cancel_really_kills(engine: Engine, backend: str, tmp_path: Path) -> None:
    path = tmp_path / "pid"
    run = await engine.start(sleep_long.bind(str(path)), backend=backend)
    pid = await pid_in(path)
    await run.cancel(grace=0.2)
    assert (await run.wait()).status == "cancelled"
    assert not psutil.pid_exists(pid)


@pytest.mark.parametrize("backend", BACKENDS)
async def test_failures_tell_the_same_as_in_process(memory: Engine, backend: str) -> None:
    with pytest.raises(RunFailed) as caught:
        await memory.run(work.boom.bind(7), backend=backend)
    failure = caught.value.failures[0]
    assert (failure.kind, failure.type, failure.message) == ("error", "ValueError", "no 7")
    assert (failure.node, failure.attempt) == ("boom", 1)
    assert [frame.function for frame in failure.frames] == ["boom"]


@pytest.mark.parametrize("backend", BACKENDS)
async def test_the_context_works_there(engine: Engine, backend: str) -> None:
    run = await engine.start(work.context_of.bind(1), backend=backend)
    node, attempt, existed, folder = await run.result()
    assert (node, attempt, existed) == ("context_of", 1, True)
    assert not Path(str(folder)).exists()
    assert await output(engine, run, "context_of") == {"stdout": b"hello\n"}


@pytest.mark.parametrize("backend", BACKENDS)
async def test_large_values_and_files_travel(engine: Engine, backend: str, tmp_path: Path) -> None:
    @graph
    def large() -> int:
        return measure(make(1 << 20))

    assert await engine.run(large.bind(), backend=backend) == 1 << 20
    path = tmp_path / "in.txt"
    path.write_text("hello")
    assert await engine.run(read_file.bind(File(path)), backend=backend) == "HELLO"


@task
def make(size: int) -> bytes:
    return b"x" * size


@task
def measure(data: bytes) -> int:
    return len(data)


@task
def read_file(file: File) -> str:
    return Path(file).read_text().upper()


async def test_local_functions_are_refused(memory: Engine) -> None:
    @task
    def local() -> int:
        return 1

    with pytest.raises(GraphError, match="G052"):
        await memory.start(local.bind(), backend="process")


async def test_programs(engine: Engine) -> None:
    @graph
    def pipeline(name: str) -> list[str]:
        hello = shell(["printf", "%s", "hello {name}; $(rm -rf /)"], inputs={"name": name})
        length = shell("wc -c", inputs={"text": hello})
        loud = shell(["sh", "-c", "echo $ONREADY_INPUT_TEXT | tr a-z A-Z"], inputs={"text": hello})
        return [hello, loud, length]

    hello, loud, _ = await engine.run(pipeline.bind("'; exit 1"))
    assert hello == "hello '; exit 1; $(rm -rf /)"
    assert loud.startswith("HELLO '; EXIT 1")


async def test_a_program_s_files_and_failures(engine: Engine) -> None:
    g = GraphBuilder("files")
    made = g.shell(["sh", "-c", "printf hello > out.txt"], outputs="out.txt", name="made")
    result = g.add(read_file, made)
    assert await engine.run(g.build(result=result)) == "HELLO"

    @graph
    def bad() -> str:
        return shell(["sh", "-c", "echo oops >&2; exit 3"], name="bad")

    outcome = await (await engine.start(bad.bind())).wait()
    failure = outcome.failures[0]
    assert (failure.kind, failure.exit_code) == ("exit", 3)
    assert "oops" in failure.log


async def test_a_missing_program(engine: Engine) -> None:
    @graph
    def missing() -> str:
        return shell(["no-such-program-here"], name="missing")

    outcome = await (await engine.start(missing.bind())).wait()
    assert outcome.failures[0].kind == "config"
    assert "no-such-program-here" in outcome.failures[0].message


async def test_planned_rows_end_when_the_run_is_cancelled(engine: Engine, tmp_path: Path) -> None:
    @graph
    def many() -> list[None]:
        return sleep_long.map(each([str(tmp_path / f"{n}") for n in range(100)]))

    run = await engine.start(many.bind(), backend="process")
    await pid_in(tmp_path / "0")
    await run.cancel(grace=0.2)
    assert (await run.wait()).status == "cancelled"
    assert len(list(tmp_path.iterdir())) < 20
