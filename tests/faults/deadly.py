"""A node that takes its driver with it each time, and a program that drives it.

Rule of this room: no test; the program is started, again and again, as a process of its own.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Final

import anyio

from onready import Engine, GraphBuilder, NodeContext, Provided, task
from onready.engine.graph import Bound
from tests.faults.killed import note

RUN: Final = "deadly"
"""The run's id."""


def kill(folder: str, context: NodeContext) -> int:
    """End the driver, unless there is mercy."""
    note(f"{folder}/ledger", context)
    if not Path(folder, "mercy").exists():
        os.kill(int(Path(folder, "driver").read_text()), signal.SIGKILL)
        # Dead by then: it or, where that is another process, whoever waits for this one.
        signal.pause()
    return 7


@task
async def inline(folder: str, context: NodeContext = Provided(NodeContext)) -> int:
    return kill(folder, context)


@task
def thread(folder: str, context: NodeContext = Provided(NodeContext)) -> int:
    return kill(folder, context)


@task(backend="process")
def process(folder: str, context: NodeContext = Provided(NodeContext)) -> int:
    return kill(folder, context)


@task(backend="subprocess")
def subprocess(folder: str, context: NodeContext = Provided(NodeContext)) -> int:
    return kill(folder, context)


@task
async def harmless(folder: str, x: int, context: NodeContext = Provided(NodeContext)) -> int:
    note(f"{folder}/ledger", context)
    return x + 1


NODES: Final = {"inline": inline, "thread": thread, "process": process, "subprocess": subprocess}


def build(folder: Path, kind: str) -> Bound[object]:
    """Something before it, something after it, something that has nothing to do with it."""
    g = GraphBuilder("deadly")
    before = g.add(harmless, str(folder), 0, name="before")
    g.add(harmless, str(folder), 1, name="beside")
    fatal = g.add(NODES[kind], str(folder), after=[before], name="fatal")
    return g.build(result=g.add(harmless, str(folder), fatal, name="behind"))


async def main(folder: Path, kind: str) -> None:
    """Start the run, or go on with it."""
    (folder / "driver").write_text(str(os.getpid()))
    async with Engine(folder=folder / "state", grace=0.5) as engine:
        run = await engine.start(build(folder, kind), id=RUN)
        print((await run.wait()).status)


if __name__ == "__main__":
    anyio.run(main, Path(sys.argv[1]), sys.argv[2])
