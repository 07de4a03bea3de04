"""What going on with a long run costs: from `Engine.resume` to the first node that begins.

A process runs a layered graph on SQLite and dies when all nodes but the last are recorded; another
one, in a fresh process, resumes it. `python -m benchmarks.replay write|resume FOLDER SIZE`.

Rule of this room: real processes and a real log; nothing is warm that would not be after a crash.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from typing import Any, Final

import msgspec

from benchmarks import nodes
from benchmarks.measure import Sample, cpu_seconds
from benchmarks.shapes import SHAPES
from onready import Engine, GraphBuilder, Run, task
from onready.engine.graph import Bound

RUN: Final = "replayed"
MOST_RESUME: Final = 5.0
"""Seconds until the first dispatch."""


class Replay(msgspec.Struct, frozen=True):
    """`first` is until the first dispatch after a log of `nodes` nodes."""

    nodes: int
    first: Sample

    def verdicts(self) -> list[tuple[str, float, float, str]]:
        """(what, measured, most or 0, unit)."""
        return [
            ("from resume to the first dispatch", self.first.wall, MOST_RESUME, "s"),
            ("from resume to the first dispatch, CPU", self.first.cpu, 0.0, "s"),
        ]


def build(size: int) -> Bound[int]:
    """Layers of nodes, and a last one that needs one of them."""
    builder = GraphBuilder("replay")
    functions = [task(function) for function in nodes.ASYNC]
    refs: list[Any] = []  # refs stand for values of any type
    for wanted in SHAPES["layered"](size - 1):
        refs.append(builder.add(functions[len(wanted)], *(refs[need] for need in wanted)))
    return builder.build(result=builder.add(task(nodes.last), after=refs, name="last"))


async def write(folder: str, size: int) -> None:
    """Run all but the last node; then die."""
    nodes.holding = asyncio.Event()
    async with Engine(folder=folder) as engine:
        run = await engine.start(build(size), id=RUN)
        await nodes.holding.wait()
        # The start of the last node comes after everything else: it is durable once it is seen.
        async for event in run.events():  # pragma: no branch - it dies inside
            if str(getattr(event, "node", "")) == "last":
                os._exit(0)


async def resume(folder: str, size: int) -> None:
    """Go on with it; one line of JSON."""
    async with Engine(folder=folder) as engine:
        wall, cpu = time.perf_counter(), cpu_seconds(processes=False)
        run: Run[object] = await engine.resume(RUN)
        await run.result()
        began, used = nodes.began[0]
    found = Replay(size, Sample(used - cpu, began - wall))
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")


def measure_replay(size: int) -> Replay:
    """Write and resume, in fresh processes."""
    with tempfile.TemporaryDirectory(prefix="onready-bench-") as folder:
        command = [sys.executable, "-m", "benchmarks.replay"]
        subprocess.run([*command, "write", folder, str(size)], check=True, timeout=600)
        done = subprocess.run(
            [*command, "resume", folder, str(size)],
            stdout=subprocess.PIPE,
            check=True,
            timeout=600,
        )
    return msgspec.json.decode(done.stdout, type=Replay)


def main() -> None:
    """One of the two processes."""
    how, folder, size = sys.argv[1:]
    asyncio.run((write if how == "write" else resume)(folder, int(size)))


if __name__ == "__main__":
    main()
