"""A driver whose nodes outlive it: a function in a process of its own, and a program.

`python -m tests.faults.abandoned FOLDER RUN` runs until it is killed.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import anyio

from onready import Engine, GraphBuilder, task
from onready.engine.graph import Bound


@task(backend="subprocess")
def linger(mark: str) -> None:
    """Hears no SIGTERM and stays."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(mark).write_text(str(os.getpid()))
    time.sleep(600)


def build(folder: Path) -> Bound[object]:
    """Two nodes that stay, and leave their process ids in `folder`."""
    g = GraphBuilder("abandoned")
    g.add(linger, str(folder / "function"))
    script = 'echo data > work.txt; trap "" TERM; echo $$ > "$1"; while :; do sleep 600; done'
    g.shell(["sh", "-c", script, "sh", str(folder / "program")], name="program")
    return g.build(result=None)


async def main(folder: str, run: str) -> None:
    """Run it on the stores in `folder`; then wait, to be killed."""
    marks = Path(folder) / f"marks-{run}"
    marks.mkdir()
    async with Engine(folder=folder) as engine:
        await engine.start(build(marks), id=run)
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2])
