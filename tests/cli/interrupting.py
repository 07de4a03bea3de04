"""Runs that are interrupted by SIGKILL: a graph that waits for files, and its driver."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

SLOW = """\
import time
from pathlib import Path

from onready import each, graph, task


def note(text: str) -> None:
    with Path("ledger").open("a") as file:
        file.write(text + "\\n")


@task
def load(n: int) -> list[int]:
    print("loading", n)
    note("load")
    return list(range(n))


@task
def square(i: int) -> int:
    note(f"square {i}")
    if Path("bad").exists() and i == 1:
        raise ValueError("a bad day")
    while i == 2 and not Path("go").exists():
        time.sleep(0.01)
    return i * i


@task
def total(xs: list[int]) -> int:
    note("total")
    return sum(xs)


@graph
def slow(n: int = 3) -> int:
    return total(square.map(each(load(n))))
"""

PATIENCE = 40.0


class Driver:
    """`onready WORDS` in a process of its own, which is killed at the latest on the way out."""

    def __init__(self, folder: Path, *words: str) -> None:
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-m", "onready", *words],
            cwd=folder,
            env=os.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for it while the driver runs."""
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, "it did not come about"
            assert self.process.poll() is None, self.process.communicate()
            time.sleep(0.01)

    def ledger(self) -> list[str]:
        """What the nodes noted so far."""
        path = self.folder / "ledger"
        return path.read_text().splitlines() if path.exists() else []

    def wait(self) -> tuple[int, str]:
        """The exit code, and all that it said."""
        out, _ = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out


def succeeded(folder: Path, run: str, least: int) -> bool:
    """Whether so many nodes of the run have succeeded, durably."""
    import sqlite3

    path = folder / ".onready" / "runs.db"
    if not path.exists():
        return False
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute(
            "SELECT batch FROM events JOIN runs USING (run) WHERE runs.name = ?", [run]
        ).fetchall()
    except sqlite3.Error:  # it is being made
        return False
    finally:
        connection.close()
    return sum(bytes(batch).count(b"node.succeeded") for (batch,) in rows) >= least


def interrupt(folder: Path, name: str) -> None:
    """Run slow.py and kill its driver while `square[2]` waits; `load` and two squares are done."""
    (folder / "slow.py").write_text(SLOW)
    with Driver(folder, "run", "slow.py", "--name", name) as driver:
        driver.until(lambda: "square 2" in driver.ledger() and succeeded(folder, name, 3))
