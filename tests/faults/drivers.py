"""Programs that drive runs, for tests that stop, race and resume them: `python -m` this module.

Rule of this room: what a driver does between its faults. The faults are the tests'.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.to_thread

from onready import Engine, Run, graph, task
from onready.engine.errors import RunLeaseHeld
from onready.engine.graph import Bound

DEADLINE = 40.0


def mark(path: str, word: str) -> None:
    """One line for a ledger, with the number of this process, in one write."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, f"{word} {os.getpid()}\n".encode())
    finally:
        os.close(file)


@task
async def first(ledger: str, gate: str) -> str:
    """Leaves a mark, and waits for the gate to open."""
    mark(ledger, "first")
    while not await anyio.Path(gate).exists():
        await anyio.sleep(0.005)
    return ledger


@task
async def second(ledger: str) -> str:
    """Leaves a mark."""
    mark(ledger, "second")
    await anyio.sleep(0.01)
    return ledger


@task
async def third(ledger: str) -> str:
    """Leaves a mark, some time after what came before was recorded."""
    mark(ledger, "third")
    return "done"


@graph
def chain(ledger: str, gate: str) -> str:
    """Three nodes, each of which says who ran it."""
    return third(second(first(ledger, gate)))


@task
async def block(ledger: str, seconds: float) -> str:
    """Holds up the whole loop, as a host that is badly written does."""
    mark(ledger, "block")
    time.sleep(seconds)
    mark(ledger, "blocked")
    return ledger


@graph
def blocking(ledger: str, seconds: float) -> str:
    """A node that blocks, and nodes after it."""
    return third(second(block(ledger, seconds)))


def bound_of(folder: Path, run: str) -> Bound[str]:
    """The chain of a run in `folder`."""
    return chain.bind(f"{folder}/{run}.ledger", f"{folder}/{run}.gate")


def marks(folder: Path, run: str) -> list[list[str]]:
    """What ran so far: the node, and the process that ran it."""
    path = folder / f"{run}.ledger"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def until(happened: object, what: str = "") -> None:
    """Wait until the callable `happened` says so."""
    assert callable(happened)
    end = time.monotonic() + DEADLINE
    while not happened():
        assert time.monotonic() < end, what
        time.sleep(0.005)


@contextmanager
def program(*words: str) -> Generator[subprocess.Popen[str]]:
    """A process of its own that runs this module with these arguments; killed in the end."""
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.faults.drivers", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        try:
            yield child
        finally:
            child.kill()


def answer(child: subprocess.Popen[str]) -> str:
    """The next line that it says."""
    assert child.stdout is not None
    return child.stdout.readline().strip()


def tell(child: subprocess.Popen[str], line: str) -> None:
    """Say a line to it."""
    assert child.stdin is not None
    child.stdin.write(line + "\n")
    child.stdin.flush()


async def drive(folder: Path, run: str, lease: float) -> str:
    """Start a run and wait for its end: what became of it."""
    async with Engine(folder=folder, lease=lease, grace=0.2) as engine:
        bound = bound_of(folder, run)
        if run.startswith("block"):
            bound = blocking.bind(f"{folder}/{run}.ledger", float(run.split("-")[1]))
        outcome = await (await engine.start(bound, id=run)).wait()
        return f"{outcome.status} {type(outcome.error).__name__}"


async def begin(folder: Path, count: int) -> None:
    """Start so many runs, and wait to be killed in the middle of them all."""
    async with Engine(folder=folder) as engine:
        for number in range(count):
            await engine.start(bound_of(folder, f"r{number}"), id=f"r{number}")
        print("begun", flush=True)
        await anyio.sleep_forever()


async def race(folder: Path) -> None:
    """Resume each run whose id comes on standard input; say whether this process drives it."""
    async with Engine(folder=folder) as engine:
        print("ready", flush=True)
        while line := await anyio.to_thread.run_sync(sys.stdin.readline):
            try:
                run: Run[object] = await engine.resume(line.strip())
            except RunLeaseHeld:
                print("held", flush=True)
            else:
                print("drives", flush=True)
                outcome = await run.wait()
                print(outcome.status, flush=True)


def main(words: list[str]) -> None:
    """The program: `drive FOLDER RUN LEASE`, `begin FOLDER COUNT` or `race FOLDER`."""
    folder = Path(words[1])
    if words[0] == "drive":
        print(anyio.run(drive, folder, words[2], float(words[3])), flush=True)
    elif words[0] == "begin":
        anyio.run(begin, folder, int(words[2]))
    else:
        anyio.run(race, folder)


if __name__ == "__main__":
    main(sys.argv[1:])
