"""F31: a node that takes its driver with it each time is left alone after five takeovers.

The run then fails, and says which node it was; a retry goes on with it.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from onready import Engine
from onready.engine.events import AnyEvent, NodeLost, NodeRetrying, NodeSucceeded
from onready.engine.history import check_history
from onready.engine.scheduler.retry import DRIVER, TAKEOVERS
from tests.faults import deadly
from tests.faults.sizes import size

UNSEEN = 1
"""Drivers that may die before a node of theirs is known to have begun: the first one alone."""


def drive(folder: Path, kind: str) -> subprocess.CompletedProcess[str]:
    """One driver, to its end."""
    command = [sys.executable, "-m", "tests.faults.deadly", str(folder), kind]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def ran(folder: Path, node: str) -> list[int]:
    """The attempts that the node made, in order."""
    lines = [line.split() for line in (folder / "ledger").read_text().splitlines()]
    return [int(attempt) for name, attempt, _ in lines if name == node]


async def recorded(folder: Path) -> list[AnyEvent]:
    async with Engine(folder=folder / "state") as engine:
        return [event async for event in engine.history(deadly.RUN)]


@pytest.mark.timeout(200)
@pytest.mark.may_block("the nodes write to their ledger, in the loop too")
@pytest.mark.parametrize("kind", list(deadly.NODES)[:: size(2, 1)])
def test_a_deadly_node_is_left_alone_after_five_takeovers(kind: str, tmp_path: Path) -> None:
    deaths = 0
    while (ended := drive(tmp_path, kind)).returncode == -signal.SIGKILL:
        deaths += 1
        assert deaths <= 1 + TAKEOVERS + UNSEEN
    assert (ended.returncode, ended.stdout) == (0, "failed\n"), ended.stderr
    events = anyio.run(recorded, tmp_path)
    assert check_history(events) == []
    (lost,) = [event for event in events if isinstance(event, NodeLost)]
    assert str(lost.node) == lost.failure.node == "fatal"
    assert (lost.failure.kind, lost.failure.reason) == ("lost", DRIVER)
    assert lost.failure.message == "its driver died 6 times while it ran"
    again = [event.attempt for event in events if isinstance(event, NodeRetrying)]
    assert again == list(range(1, 1 + TAKEOVERS)), "exactly five were made again"
    assert lost.attempt == 1 + TAKEOVERS
    tries = ran(tmp_path, "fatal")
    assert sorted(set(tries)) == list(range(1, 2 + TAKEOVERS))
    assert len(tries) == deaths
    assert deaths - (1 + TAKEOVERS) in range(UNSEEN + 1)
    assert ran(tmp_path, "behind") == []
    # What was beside it is kept; a retry has its attempts anew, and takes its numbers on.
    (tmp_path / "mercy").touch()
    kept = len(ran(tmp_path, "beside"))
    assert anyio.run(retried, tmp_path) == 8
    assert ran(tmp_path, "fatal") == [*tries, 2 + TAKEOVERS]
    assert len(ran(tmp_path, "beside")) == kept
    events = anyio.run(recorded, tmp_path)
    assert check_history(events) == []
    assert sum(isinstance(event, NodeSucceeded) for event in events) == 4


async def retried(folder: Path) -> object:
    async with Engine(folder=folder / "state") as engine:
        return await (await engine.retry(deadly.RUN)).result()
