"""F2 and F18 for the run log in files: its driver ends at every crash point, or is killed.

What it was told was durable is there, in order; the next driver goes on in a file of its own.
(The same for whole runs on SQLite is in `test_crash_points.py`.)
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from onready.engine.crashpoints import CODE, VARIABLE
from onready.engine.spi import RunFilter
from onready.engine.testing.run_log_suite import read_all
from onready.engine.testing.samples import started, steps
from onready.storage.files import FilesRunLog
from tests.faults.sizes import size

EFFECTS = (
    "append",
    "commit",
    "file.create",
    "file.sync",
    "folder.sync",
    "record.link",
    "blob.rename",
    "lease.take",
    "lease.renew",
    "lease.release",
)
POINTS = [f"{effect}.{moment}" for effect in EFFECTS for moment in ("before", "after")]
ONCE = ("lease.take", "lease.renew", "lease.release")

DRIVER = """
import asyncio, sys
from onready.engine.testing.samples import started, steps
from onready.storage.files import FilesRunLog

async def main():
    async with FilesRunLog(sys.argv[1], segment_size=4096) as log:
        lease = await log.lease("r1", "driver", 60.0)
        await log.append("r1", lease.epoch, [started()])
        print(1, flush=True)
        last = 1
        while last < int(sys.argv[2]):
            await log.append("r1", lease.epoch, steps(last + 1, last + 9))
            last += 9
            print(last, flush=True)
        await log.renew(lease)
        await log.release(lease)

asyncio.run(main())
"""


def command(path: Path, last: int) -> list[str]:
    return [sys.executable, "-c", DRIVER, str(path), str(last)]


async def judge(path: Path, told: int) -> None:
    """All that was reported is there; another driver takes over, and what it adds follows."""
    async with FilesRunLog(path) as log:
        events = await read_all(log, "r1")
        assert len(events) >= told
        assert events == [started(), *steps(2, len(events))][: len(events)]
        assert sum(record.last_seq for record in await log.runs(RunFilter())) == len(events)
        before = {name: name.read_bytes() for name in path.rglob("*.log")}
        lease = await log.lease("r1", "next", 60.0, "driver")
        last = len(events)
        added = steps(last + 1, last + 3) if last else [started(), *steps(2, 3)]
        await log.append("r1", lease.epoch, added)
        assert await read_all(log, "r1") == [*events, *added]
        assert {name: name.read_bytes() for name in before} == before


@pytest.mark.parametrize("point", POINTS[:: size(3, 1)])
def test_whatever_point_it_ends_at(tmp_path: Path, point: str) -> None:
    for passed in range(1, 1 + size(1, 12)):
        path = tmp_path / str(passed)
        ended = subprocess.run(
            command(path, 400),
            capture_output=True,
            text=True,
            env=os.environ | {VARIABLE: f"{point}:{passed if passed > 1 else _first(point)}"},
            timeout=50,
            check=False,
        )
        if ended.returncode == 0:
            assert passed > 1
            return
        assert ended.returncode == CODE, ended.stderr
        anyio.run(judge, path, int((ended.stdout.split() or ["0"])[-1]))


def _first(point: str) -> int:
    """In the small size: somewhere in the middle, but for what happens once."""
    return 1 if point.rpartition(".")[0] in ONCE else 3


@pytest.mark.parametrize("kill", range(size(2, 100)))
def test_a_killed_driver_lost_nothing_that_it_was_told_was_durable(
    tmp_path: Path, kill: int
) -> None:
    path = tmp_path / "runs"
    with subprocess.Popen(command(path, 10**6), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        told = 0
        for _ in range(1 + kill * 7 % 60):
            told = int(process.stdout.readline())
        process.kill()
        rest = [line for line in process.stdout if line.endswith("\n")]
    anyio.run(judge, path, int(rest[-1]) if rest else told)
