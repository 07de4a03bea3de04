"""Graphs of every composite kind on every local backend, and a program that drives them.

Each node leaves one line in a ledger, in one write: its key, its attempt, the number of its process.
The program starts a run or resumes it, and prints its value as JSON; a test kills it meanwhile.

Rule of this room: no test, and no fault: nothing here knows that it is killed.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final

import anyio

from onready import (
    Engine,
    Failure,
    NodeContext,
    Provided,
    Run,
    branch,
    each,
    graph,
    repeat,
    rescue,
    shell,
    switch,
    task,
)
from onready.engine.errors import RunConflict, RunNotFound
from onready.engine.graph import Bound

RUN: Final = "killed"
"""The run's id."""
LARGE: Final = 40_000
"""Characters of a text that is too large for an event: it goes to the catalog."""
PAUSE: Final = 0.002
"""Seconds that a node takes, so that some are alive whenever the driver is killed."""


def append(path: str, line: str) -> None:
    """One line more in a file that others write to as well."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, f"{line}\n".encode())
    finally:
        os.close(file)


def note(ledger: str, context: NodeContext) -> None:
    """Write down that the attempt ran."""
    append(ledger, f"{context.node} {context.attempt} {os.getpid()}")


# --- nodes --------------------------------------------------------------------------------------


@task
async def numbers(
    ledger: str, count: int, context: NodeContext = Provided(NodeContext)
) -> list[int]:
    note(ledger, context)
    return list(range(count))


@task
async def half(ledger: str, x: int, context: NodeContext = Provided(NodeContext)) -> int:
    note(ledger, context)
    await anyio.sleep(PAUSE)
    return x // 2


@task
def grown(ledger: str, x: int, context: NodeContext = Provided(NodeContext)) -> int:
    note(ledger, context)
    time.sleep(PAUSE)
    return x * 3 + 1


@task
async def is_even(ledger: str, x: int, context: NodeContext = Provided(NodeContext)) -> bool:
    note(ledger, context)
    return x % 2 == 0


@task
def is_large(ledger: str, x: int, context: NodeContext = Provided(NodeContext)) -> bool:
    note(ledger, context)
    return x > 200


@task
async def remainder(ledger: str, x: int, context: NodeContext = Provided(NodeContext)) -> int:
    note(ledger, context)
    return x % 3


@task
async def total(
    ledger: str, xs: Sequence[int], context: NodeContext = Provided(NodeContext)
) -> int:
    note(ledger, context)
    return sum(xs)


@task
async def picky(ledger: str, x: int, context: NodeContext = Provided(NodeContext)) -> int:
    note(ledger, context)
    await anyio.sleep(PAUSE)
    if x % 2 == 0:
        message = f"not {x}"
        raise ValueError(message)
    return x


@task
async def told(
    ledger: str,
    x: int,
    failure: Failure = Provided(Failure),
    context: NodeContext = Provided(NodeContext),
) -> int:
    note(ledger, context)
    return x + len(failure.type)


@task
def tidy(ledger: str, context: NodeContext = Provided(NodeContext)) -> None:
    note(ledger, context)


@task
async def text(ledger: str, context: NodeContext = Provided(NodeContext)) -> str:
    note(ledger, context)
    return "x" * LARGE


@task(backend="process")
def warm(ledger: str, x: int, large: str, context: NodeContext = Provided(NodeContext)) -> int:
    note(ledger, context)
    time.sleep(PAUSE)
    return x + len(large)


@task(backend="subprocess")
def far(ledger: str, large: str, context: NodeContext = Provided(NodeContext)) -> str:
    note(ledger, context)
    return large + "y"


@task
def tolerated(ledger: str, x: int, context: NodeContext = Provided(NodeContext)) -> int:
    note(ledger, context)
    time.sleep(PAUSE)
    if x % 7 == 3:
        message = f"no {x}"
        raise ValueError(message)
    return x


@task
async def survivors(
    ledger: str,
    parts: Sequence[int | Failure],
    context: NodeContext = Provided(NodeContext),
) -> list[int]:
    note(ledger, context)
    return [part if isinstance(part, int) else -1 for part in parts]


# --- graphs -------------------------------------------------------------------------------------


@graph
def leaf(ledger: str, x: int) -> int:
    """Two nodes, one of them in an arm."""
    return branch(is_even(ledger, x), half.bind(ledger, x), grown.bind(ledger, x))


@graph
def fragile(ledger: str, x: int) -> int:
    """Fails for some."""
    return picky(ledger, grown.with_options(name="before")(ledger, half(ledger, x)))


@graph
def item(ledger: str, x: int) -> int:
    """One of every composite, about twenty nodes."""
    parts = leaf.map(ledger, each([x, 1, 2]))
    whole = total(ledger, parts)
    chosen = switch(
        remainder(ledger, whole),
        {0: grown.bind(ledger, whole), 1: half.bind(ledger, whole)},
        default=leaf.bind(ledger, whole),
    )
    climbed = repeat(
        partial(grown, ledger),
        chosen,
        until=partial(is_large, ledger),
        limit=3,
        on_limit="return",
    )
    kept = rescue(fragile.bind(ledger, climbed), told.bind(ledger, climbed))
    tidy.with_options(always=True, after=[kept])(ledger)
    return kept


def programs(ledger: str, count: int) -> list[str]:
    """So many commands, each after the one before."""
    said: list[str] = []
    for place in range(count):
        name = f"program{place}"
        script = 'echo "$1 0 $$" >> "$2"; sleep 0.01; echo "$1 after $3"'
        argv = ["sh", "-c", script, "sh", name, "{ledger}", "{before}"]
        before = said[-1] if said else "nothing"
        said.append(shell(argv, inputs={"ledger": ledger, "before": before}, name=name))
    return said


@graph
def everything(ledger: str) -> list[object]:
    """About 200 nodes, of every composite kind, on every local backend."""
    items = item.map(ledger, each(numbers(ledger, 10)))
    large = text(ledger)
    warmed = warm.map(ledger, each(items), large)
    away = far(ledger, far.with_options(name="farther")(ledger, large))
    whole = total(ledger, warmed)
    length = warm.with_options(name="length")(ledger, 0, away)
    return [items, warmed, whole, length, *programs(ledger, 3)]


@graph(on_error="continue")
def tolerant(ledger: str) -> list[object]:
    """Under `continue`, with a map some of whose items fail."""
    kept = survivors(ledger, tolerated.map(ledger, each(numbers(ledger, 40))))
    again = item.map(ledger, each(numbers.with_options(name="few")(ledger, 2)))
    large = text(ledger)
    warmed = warm.map(ledger, each(kept), large)
    return [kept, again, total(ledger, warmed), far(ledger, large), *programs(ledger, 2)]


SHAPES: Final = {"everything": everything, "tolerant": tolerant}


# --- the program --------------------------------------------------------------------------------


def open_engine(folder: Path, log: str) -> Engine:
    """On the stores in `folder`; `log` is `sqlite` or `files`."""
    run_log = f"files:{folder}/runs" if log == "files" else None
    return Engine(folder=folder / "state", run_log=run_log, grace=0.5)


async def drive(how: str, folder: Path, log: str, shape: str) -> object:
    """Start the run, by its id, or resume it with what its catalog knows; its value."""
    append(str(folder / "calls"), f"{time.time()}")
    async with open_engine(folder, log) as engine:
        bound: Bound[list[object]] = SHAPES[shape].bind(str(folder / "ledger"))
        if how == "start":
            return await engine.run(bound, id=RUN)
        try:
            run: Run[list[object]] = await engine.resume(RUN)
        except (RunNotFound, RunConflict):
            # Killed before its first event, or behind its last one: it then tells what it was.
            return await engine.run(bound, id=RUN)
        return await run.result()


def main() -> None:
    """The program: `start` or `resume`, FOLDER, LOG, SHAPE."""
    how, folder, log, shape = sys.argv[1:]
    print(json.dumps(anyio.run(drive, how, Path(folder), log, shape)))
