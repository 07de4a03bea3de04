"""Nodes that make it hard to stop them, or that die: importable, so that any backend can run them.

Rule of this room: what nodes do. Which fault is tried, and what must come of it, is the tests'.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

import anyio

from onready import Retry, graph, shell, task

STUBBORN: Final = """\
trap "" TERM
sh -c 'touch "$1/$$"; exec sleep 600' sh "$1" >/dev/null 2>&1 &
(exec >&- 2>&- </dev/null; sh -c 'touch "$1/$$"; exec sleep 600' sh "$1" &)
touch "$1/$$"
exec >&- 2>&-
sleep 600
sleep 600
"""
"""Ignores TERM; so do a child, and a grandchild that nobody is the parent of. Each says who it is."""

FAMILY: Final = 3
"""Processes that `STUBBORN` leaves the number of."""


@task(backend="process")
def stubborn(folder: str) -> None:
    """Ignores TERM, closes its output, and has children: one in a group of its own."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    command = ["sh", "-c", STUBBORN, "sh", folder]
    with (
        subprocess.Popen(command),
        subprocess.Popen(command, process_group=0),
    ):
        (Path(folder) / str(os.getpid())).touch()
        os.close(1)
        os.close(2)
        while True:
            time.sleep(600)


@task
async def patient(folder: str) -> None:
    """Waits in the loop, and says so when it is cancelled."""
    await anyio.Path(folder, "patient").touch()
    try:
        await anyio.sleep_forever()
    finally:
        Path(folder, "patient.ended").touch()


@task
def deaf(folder: str) -> None:
    """A thread that nobody can stop."""
    Path(folder, "deaf").touch()
    time.sleep(600)


@task
def short(seconds: float) -> float:
    """A thread that ends soon."""
    time.sleep(seconds)
    return seconds


@task(backend="process")
def busy(seconds: float) -> float:
    """A process that takes its time."""
    time.sleep(seconds)
    return seconds


@task
async def endless() -> None:
    """Never ends by itself."""
    await anyio.sleep_forever()


@graph
def program(folder: str) -> None:
    """A program that is hard to stop."""
    command = ["sh", "-c", STUBBORN, "sh", "{folder}"]
    shell(command, inputs={"folder": folder}, name="program")


@graph
def everything() -> None:
    """Something of every local kind is alive, and it never ends."""
    endless()
    short(0.05)
    later = short.with_options(name="later")
    later(short.with_options(name="sooner")(0.05))
    busy(30.0)
    shell(["sleep", "30"], name="sleeping")


@graph
def willing(folder: str) -> None:
    """What one signal to the command line has to end."""
    patient(folder)
    stubborn(folder)
    stubborn.with_options(backend="subprocess", name="alone")(folder)


@graph
def hard(folder: str) -> None:
    """What signals to the command line have to end; a thread among it, which nobody can end."""
    deaf(folder)
    willing(folder)


# --- nodes that die -----------------------------------------------------------------------------


@task(retry=Retry(1))
def victim(folder: str) -> int:
    """Waits to be killed at its first try; its second one ends well."""
    tries = len(list(Path(folder).glob("try.*")))
    Path(folder, f"try.{tries}").write_text(str(os.getpid()))
    if not tries:
        print("last words", flush=True)
        time.sleep(600)
    return tries
