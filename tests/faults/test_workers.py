"""Workers that die under the engine (F6): seen, told with the cause, tried again by the rule."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import anyio
import pytest

from onready import Engine, GraphBuilder, each, graph
from onready.engine.events import NodeRetrying, NodeStarted, NodeSucceeded
from tests.faults import nodes
from tests.faults.sizes import size

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """One loop: that children are watched on both is tried by tests/engine/test_out_of_process."""
    return "asyncio"


CAUSES = {
    signal.SIGKILL: {"exit", "oom"},  # the kernel's own killer, where it was at work meanwhile
    signal.SIGSEGV: {"exit"},
}


async def said(path: Path) -> int:
    """The process that leaves its number there."""
    with anyio.fail_after(30):
        while not path.exists() or not path.read_text():
            await anyio.sleep(0.01)
    return int(path.read_text())


@pytest.mark.parametrize("backend", ["process", "subprocess"])
@pytest.mark.parametrize("number", CAUSES)
async def test_a_worker_that_is_killed_is_seen_and_replaced(
    tmp_path: Path, backend: str, number: signal.Signals
) -> None:
    async with Engine(folder=tmp_path / "state", grace=0.5) as engine:
        for round_ in range(size(1, 20)):
            folder = tmp_path / f"{round_}"
            folder.mkdir()
            run = await engine.start(nodes.victim.bind(str(folder)), backend=backend)
            os.kill(await said(folder / "try.0"), number)
            assert await run.result() == 1
            events = [event async for event in run.events()]
            (retry,) = [e for e in events if isinstance(e, NodeRetrying)]
            assert retry.failure.kind in CAUSES[number]
            assert retry.failure.exit_code == 128 + number
            assert number.name in retry.failure.message
            assert retry.failure.log == ("last words",)
            starts = [e.attempt for e in events if isinstance(e, NodeStarted)]
            ends = [e.attempt for e in events if isinstance(e, NodeSucceeded)]
            assert (starts, ends) == ([1, 2], [2])


async def test_a_program_that_is_killed(tmp_path: Path) -> None:
    script = 'echo $$ > "$0"; echo last words; exec sleep 600'
    g = GraphBuilder("killed")
    g.shell(["sh", "-c", script, str(tmp_path / "pid")], name="program")
    async with Engine(folder=tmp_path, grace=0.5) as engine:
        run = await engine.start(g.build(result=None))
        os.kill(await said(tmp_path / "pid"), signal.SIGKILL)
        failure = (await run.wait()).failures[0]
        assert failure.kind in {"exit", "oom"}
        assert (failure.exit_code, failure.reason) == (137, "SIGKILL")
        assert failure.log == ("last words",)


async def test_the_others_live_on_when_workers_die(tmp_path: Path) -> None:
    @graph
    def crowd(folders: list[str]) -> list[int]:
        return nodes.victim.map(each(folders))

    folders = [tmp_path / f"{number}" for number in range(size(4, 40))]
    for folder in folders:
        folder.mkdir()
    async with Engine(
        folder=tmp_path / "state", backends={"process": {"type": "process", "limit": 4}}
    ) as engine:
        run = await engine.start(crowd.bind([str(folder) for folder in folders]), backend="process")
        async with anyio.create_task_group() as group:

            async def kill(folder: Path) -> None:
                os.kill(await said(folder / "try.0"), signal.SIGKILL)

            for folder in folders:
                group.start_soon(kill, folder)
        assert await run.result() == [1] * len(folders)
        events = [event async for event in run.events()]
        retried = {str(e.node) for e in events if isinstance(e, NodeRetrying)}
        assert len(retried) == len(folders)
