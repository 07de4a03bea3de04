"""Containers that die under the engine (F6): seen, told with the cause, tried again by the rule."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from onready import Engine, GraphBuilder
from onready.engine.errors import FailureKind
from onready.engine.events import NodeRetrying
from onready.engine.graph import Bound
from onready.engine.options import Resources, Retry
from tests.docker import engines
from tests.docker.engines import SHELL
from tests.faults.sizes import NIGHTLY, size

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(900 if NIGHTLY else 120)]


@pytest.fixture
def anyio_backend() -> str:
    """Asyncio alone: as aiodocker is."""
    return "asyncio"


@dataclass(frozen=True)
class Death:
    """A way to die: what the program does (`wait`: until it is killed), and what is told of it."""

    text: str
    kind: FailureKind
    code: int
    said: str
    signal: signal.Signals | None = None


OURS = ("ps", "-aq", "--filter")
WAIT = "sleep 600"
DEATHS = {
    "killed": Death(WAIT, "exit", 137, "killed by signal 9", signal.SIGKILL),
    "crashed": Death("kill -11 $$; sleep 1", "exit", 139, "killed by signal 11"),
    # It lives on for a while: Docker may miss a want of memory that is a container's end.
    "memory": Death(
        "sh -c 'x=$(yes | head -c 200000000)'; sleep 2; exit 137", "oom", 137, "limit 16Mi"
    ),
}
SCRIPT = """
if mkdir /marks/tried; then
    echo last words
    touch /marks/dies
    %s
fi
echo survived
"""


def mortal(folder: Path, death: Death) -> Bound[object]:
    """A container that dies at its first try."""
    g = GraphBuilder("mortal")
    said = g.container(
        SHELL,
        ["sh", "-c", SCRIPT % death.text],
        name="mortal",
        options={"mounts": [f"{folder}:/marks"]},
        resources=Resources(memory="16Mi"),
        retry=Retry(1),
    )
    return g.build(said)


async def kill(host: str, run: str, folder: Path, number: signal.Signals) -> None:
    """Kill its first process from outside, once it is at its place; `dies` tells when that was."""
    with anyio.fail_after(60):
        while not (folder / "dies").exists():
            await anyio.sleep(0.01)
    container = await anyio.to_thread.run_sync(
        engines.docker, host, *OURS, f"label=onready.run={run}"
    )
    form = "--format={{.State.Pid}}"
    pid = await anyio.to_thread.run_sync(engines.docker, host, "inspect", form, container)
    os.kill(int(pid), number)
    (folder / "dies").touch()


@pytest.mark.parametrize("way", DEATHS)
async def test_a_container_that_dies_is_seen_and_replaced(
    engine: str, tmp_path: Path, way: str, record_property: Callable[[str, object], None]
) -> None:
    death = DEATHS[way]
    waited: list[float] = []
    runs: list[str] = []
    settings = {"docker": {"type": "docker", "host": engine}}
    async with Engine(folder=tmp_path / "state", grace=0.5, backends=settings) as made:
        for round_ in range(size(1, 20)):
            folder = tmp_path / f"{round_}"
            folder.mkdir()
            run = await made.start(mortal(folder, death))
            if death.signal is not None:
                await kill(engine, run.id, folder, death.signal)
            assert await run.result() == "survived"
            events = [event async for event in run.events()]
            (retry,) = [event for event in events if isinstance(event, NodeRetrying)]
            assert (retry.failure.kind, retry.failure.exit_code) == (death.kind, death.code)
            assert death.said in retry.failure.message
            assert retry.failure.log[0] == "last words"  # the shell may say more
            waited.append(retry.at - (folder / "dies").stat().st_mtime)
            runs.append(run.id)
    for one in runs:
        left = await anyio.to_thread.run_sync(
            engines.docker, engine, *OURS, f"label=onready.run={one}"
        )
        assert not left
    record_property("worst_seconds_until_seen", round(max(waited), 2))
    print(f"\n{way}: seen after {max(waited):.2f} s at worst of {len(waited)}")
