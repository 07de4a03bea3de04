"""F12: a driver is killed and its run never resumed: what it left is removed, and nothing else."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from onready import Engine
from onready.engine.resuming import take_over
from onready.engine.spi import Labels
from tests.project.tree import ROOT

pytestmark = pytest.mark.anyio

PATIENCE = 45.0


@pytest.fixture
def anyio_backend() -> str:
    """Asyncio alone: what is swept is the same on both, and the drivers are processes."""
    return "asyncio"


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come about"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1]
    except OSError:
        return False
    return state not in {b"Z", b"X"}


class Driver:
    """A driver in a process of its own, and the processes of its two nodes."""

    def __init__(self, folder: Path, run: str) -> None:
        self.run = run
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.faults.abandoned", str(folder), run],
            cwd=ROOT,
            start_new_session=True,
        )
        marks = [folder / f"marks-{run}" / name for name in ("function", "program")]
        until(lambda: all(mark.exists() and mark.read_text().strip() for mark in marks))
        self.nodes = [int(mark.read_text()) for mark in marks]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> None:
        self.kill()
        for pid in self.nodes:
            if alive(pid):
                os.killpg(pid, signal.SIGKILL)


@pytest.fixture
def drivers(tmp_path: Path) -> Iterator[Callable[[str], Driver]]:
    made: list[Driver] = []

    def start(run: str) -> Driver:
        made.append(Driver(tmp_path, run))
        return made[-1]

    yield start
    for driver in made:
        driver.end()


def decoy(run: str, driver: str = "1:1") -> subprocess.Popen[bytes]:
    """A process with our marks, of a run that this run log does not know; its driver is dead."""
    labels = msgspec.json.encode(Labels(run, "node", 1, 1)).decode()
    marks = {"ONREADY_ATTEMPT": "onready-00", "ONREADY_LABELS": labels, "ONREADY_DRIVER": driver}
    return subprocess.Popen(["sleep", "600"], env={**os.environ, **marks})


def work(folder: Path) -> set[str]:
    return {path.name for path in (folder / "work").iterdir()}


@pytest.mark.may_block("the test itself waits for processes")
async def test_what_a_dead_driver_left_goes_and_nothing_else(
    tmp_path: Path, drivers: Callable[[str], Driver]
) -> None:
    dead, living = drivers("dead"), drivers("living")
    dead.kill()
    assert all(map(alive, dead.nodes)), "they outlive their driver: else there is nothing to test"
    others = [decoy("unknown"), subprocess.Popen(["sleep", "600"])]
    foreign = tmp_path / "work" / "foreign"
    foreign.mkdir()
    (foreign / "file").write_text("kept")
    (tmp_path / "work" / "link").symlink_to(foreign)
    result = tmp_path / "results" / "dead"
    result.mkdir(parents=True)
    (result / "whole").write_text("kept")
    (result / "~draft").write_text("half")
    try:
        async with Engine(folder=tmp_path) as engine:
            dry = await engine.sweep(dry_run=True)
            assert all(map(alive, dead.nodes))
            assert work(tmp_path) == {"dead", "living", "foreign", "link"}

            swept = await engine.sweep()
            assert swept == dry
            assert (swept.runs, swept.attempts) == (("dead",), {"subprocess": 2})
            assert (swept.folders, swept.files, swept.problems) == (1, 1, {})
            assert swept.bytes >= len("half") + len("data\n")
            assert (await engine.find("dead")).status == "interrupted", "it can be resumed"
            assert (await engine.sweep()).runs == ()
        until(lambda: not any(map(alive, dead.nodes)))
        assert work(tmp_path) == {"living", "foreign", "link"}
        assert (foreign / "file").exists()
        assert [path.name for path in result.iterdir()] == ["whole"]
        assert all(map(alive, living.nodes))
        assert [other.poll() for other in others] == [None, None]
    finally:
        for other in others:
            other.kill()
            other.wait()


@pytest.mark.may_block("the test itself waits for processes")
async def test_a_run_that_somebody_resumes_meanwhile_is_left_alone(
    tmp_path: Path, drivers: Callable[[str], Driver]
) -> None:
    driver = drivers("taken")
    driver.kill()
    async with Engine(folder=tmp_path) as engine:
        lease = await take_over(engine.run_log, "taken", "somebody", 60.0)
        assert (await engine.sweep()).runs == ()
        assert (await engine.sweep(dry_run=True)).runs == ()
        assert all(map(alive, driver.nodes))
        await engine.run_log.release(lease)
        assert (await engine.sweep()).attempts == {"subprocess": 2}
        # And the run can be taken again at once, under a higher epoch.
        again = await engine.run_log.lease("taken", "somebody", 60.0)
        assert again.epoch > lease.epoch
    until(lambda: not any(map(alive, driver.nodes)))
