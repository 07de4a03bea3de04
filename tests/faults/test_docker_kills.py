"""Containers whose driver or daemon is killed (F6, F8, F12): nothing is lost, nothing runs twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from onready.engine.events import AnyEvent, AttemptPlanned, NodeFailed, NodeLost
from onready.engine.testing.run_log_suite import read_all
from onready.storage.sqlite import SqliteRunLog
from tests.docker import engines
from tests.faults.sizes import NIGHTLY, size

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(1200 if NIGHTLY else 240)]

LACK = engines.lack()
if LACK and not engines.REQUIRED:
    pytestmark.append(pytest.mark.skip(reason=f"NO DOCKER ENGINE, its faults do not run: {LACK}"))


@pytest.fixture
def anyio_backend() -> str:
    """Asyncio alone: as aiodocker is."""
    return "asyncio"


@contextmanager
def driver(folder: Path, host: str, count: int, pause: float) -> Generator[subprocess.Popen[str]]:
    """A driver of its own process; killed in the end."""
    words = (str(folder), host, str(count), str(pause))
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.docker.driver", *words],
        stdout=subprocess.PIPE,
        text=True,
    )
    with child:
        try:
            yield child
        finally:
            child.kill()


def lines(folder: Path) -> list[tuple[int, str]]:
    """Which node each container ran, and the container."""
    path = folder / "ledger" / "lines"
    found = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [(int(number), container) for number, container in found]


async def planned(folder: Path) -> Counter[int]:
    """How many attempts each node had."""
    async with SqliteRunLog(folder / "runs.db") as log:
        events: list[AnyEvent] = list(await read_all(log, "r"))
    nodes = [str(event.node) for event in events if isinstance(event, AttemptPlanned)]
    return Counter(int(name.removeprefix("n")) for name in nodes)


async def failures(folder: Path) -> list[str]:
    """What failed for good."""
    async with SqliteRunLog(folder / "runs.db") as log:
        events: list[AnyEvent] = list(await read_all(log, "r"))
    return [repr(event) for event in events if isinstance(event, NodeFailed | NodeLost)]


@pytest.mark.parametrize("live", [False, True][: size(1, 2)])
async def test_killed_drivers_and_daemons_change_nothing(tmp_path: Path, live: bool) -> None:
    count, kills, pause = size(8, 50), size(2, 20), size(1, 2)
    chance = random.Random(8)
    arguments = ("--live-restore",) if live else ()
    expected = "succeeded " + " ".join(str(number * number) for number in range(count))
    with engines.daemon(*arguments) as daemon:
        said = ""
        done = 0
        while not said:
            with driver(tmp_path, daemon.host, count, pause) as child:
                assert child.stdout is not None
                first = child.stdout.readline().strip()
                assert first == "drives", (first, await failures(tmp_path), done)
                while done < kills:
                    time.sleep(chance.uniform(0.1, 1.0))
                    done += 1
                    if done % 2:
                        daemon.kill()
                        daemon.serve(*arguments)
                    else:
                        os.kill(child.pid, signal.SIGKILL)
                        break
                else:
                    (tmp_path / "ledger" / "gate").touch()
                    said = child.stdout.readline().strip()
                child.wait()
        assert said == expected
        left = daemon.docker("ps", "-aq")
        assert not left
    ran = lines(tmp_path)
    assert len({container for _, container in ran}) == len(ran), "a container was started twice"
    attempts = await planned(tmp_path)
    for number, times in Counter(number for number, _ in ran).items():
        assert times <= attempts[number], f"an attempt of n{number} ran twice"
