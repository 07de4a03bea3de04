"""A small graph with nodes of every local kind, and a program that runs or resumes it.

Every node leaves a line in a ledger: an effect that nobody can take back. The program prints the
run's value as JSON. A test ends it at a crash point, by way of the environment.

Rule of this room: no test; it is started as a process of its own.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import anyio

from onready import Engine, File, GraphBuilder, NodeContext, Provided, Retry, task
from onready.engine.graph import Bound
from onready.engine.spi import Lease

RUN = "crashed"
"""The run's id."""

LARGE = 40_000
"""Characters of a text that is too large for an event: it goes to the catalog."""


def leave(ledger: str, name: str) -> None:
    """Write down that `name` ran."""
    file = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, f"{name}\n".encode())
    finally:
        os.close(file)


@task
async def first(ledger: str) -> str:
    """Inline; its value is large."""
    leave(ledger, "first")
    return "x" * LARGE


@task
def in_thread(ledger: str, text: str, context: NodeContext = Provided(NodeContext)) -> File:
    """In a thread; its value is a file."""
    leave(ledger, "in_thread")
    path = Path(context.folder) / "kept.txt"
    path.write_text(text)
    return File(path)


@task(backend="subprocess", retry=Retry(2, backoff=0.01))
def in_subprocess(ledger: str, kept: File) -> str:
    """In a process of its own; takes a file, gives a large text."""
    leave(ledger, "in_subprocess")
    return kept.path.read_text() + "y"


@task(backend="process", retry=Retry(2, backoff=0.01))
def in_process(ledger: str, text: str) -> str:
    """In a warm worker; takes and gives a large text."""
    leave(ledger, "in_process")
    return text + "z"


@task
async def last(ledger: str, kept: File, texts: list[str], size: str) -> list[object]:
    """Inline; takes a file."""
    leave(ledger, "last")
    return [len(kept.path.read_text()), *(len(text) for text in texts), size.strip()]


def build(folder: Path, *, away: bool = True) -> Bound[object]:
    """The graph; without its nodes outside of this process where not `away`."""
    ledger = str(folder / "ledger")
    g = GraphBuilder("crashing")
    text = g.add(first, ledger)
    kept = g.add(in_thread, ledger, text)
    if not away:
        return g.build(result=g.add(last, ledger, kept, [text], "0"))
    size = g.shell(
        ["sh", "-c", 'echo shell >> "$1"; wc -c < "$2"', "sh", "{ledger}", "{kept}"],
        inputs={"ledger": ledger, "kept": kept},
        name="shell",
    )
    far = g.add(in_subprocess, ledger, kept)
    warm = g.add(in_process, ledger, text)
    return g.build(result=g.add(last, ledger, kept, [far, warm], size))


def run_log_of(how: str, folder: Path) -> str:
    """The address of the run log for `near`, `away` and `files`."""
    state = folder / "state"
    return f"files:{state / 'log'}" if how == "files" else f"sqlite:{state / 'runs.db'}"


async def main(how: str, folder: Path) -> None:
    """Run the graph on the stores in `folder`; print its value."""
    run_log = run_log_of(how, folder)
    async with Engine(folder=folder / "state", run_log=run_log, grace=0.5) as engine:
        run = await engine.start(build(folder, away=how == "away"), id=RUN)
        # So that it is renewed while the graph runs: a lease lasts half a minute.
        await engine.run_log.renew(Lease(RUN, 1, 30.0, engine._owner))
        print(json.dumps(await run.result()))


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], Path(sys.argv[2]))
