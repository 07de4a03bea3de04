"""The cache and SIGKILL: it never knows more than the run log, and never less than is right.

Not in the fault table: the cache is no part of a run's truth.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pytest

from onready.engine.events import NodeCached, NodeSucceeded
from onready.engine.values.stored import Stored
from tests.engine.caching import warnings
from tests.faults.caching import WIDTH, flow, open_engine
from tests.faults.sizes import size

pytestmark = pytest.mark.anyio

RIGHT = sum(len(str(x)) * (20_000 if x % 10 == 0 else 1) for x in range(WIDTH))


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Asyncio alone: what is looked at are files that another process left."""
    return "asyncio"


@contextmanager
def running(folder: Path, run: str, how: str) -> Generator[subprocess.Popen[str]]:
    """The program, killed at the end."""
    program = [sys.executable, "-m", "tests.faults.caching", str(folder), run, how]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def kill_after(folder: Path, run: str, successes: int, how: str = "") -> None:
    """Run the graph, and kill its driver once so many successes are durable."""
    with running(folder, run, how) as process:
        assert process.stdout is not None
        for _ in range(successes):
            assert process.stdout.readline()


async def successes_of(folder: Path, run: str) -> dict[str, Stored]:
    async with open_engine(folder) as engine:
        return {
            str(event.node): event.value
            async for event in engine.history(run)
            if isinstance(event, (NodeSucceeded, NodeCached))
        }


async def test_between_a_success_and_its_record(tmp_path: Path) -> None:
    kill_after(tmp_path, "r1", WIDTH + 1, "stuck")
    assert len(await successes_of(tmp_path, "r1")) == WIDTH + 1
    async with open_engine(tmp_path) as engine:
        assert await engine.cache.entries() == []
        for hits in (0, WIDTH + 1):
            run = await engine.start(flow.bind())
            assert await run.result() == RIGHT
            events = [event async for event in run.events()]
            assert sum(isinstance(event, NodeCached) for event in events) == hits


async def test_at_any_moment(tmp_path: Path) -> None:
    source = Random(11)
    for round_ in range(size(2, 30)):
        folder = tmp_path / str(round_)
        run = f"r{round_}"
        kill_after(folder, run, source.randrange(1, WIDTH))
        logged = await successes_of(folder, run)
        async with open_engine(folder) as engine:
            for listed in await engine.cache.entries():
                entry = listed.entry
                assert entry is not None, "half a record"
                assert (entry.run, entry.value) == (run, logged[entry.node])
            again = await engine.start(flow.bind())
            assert await again.result() == RIGHT
            assert await warnings(again) == []
            # What the dead driver had begun goes on, and finds what the other run made.
            resumed = await engine.resume(run, flow.bind())
            assert await resumed.result() == RIGHT
