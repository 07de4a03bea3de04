"""`onready verify`: a run's record is checked; what is wrong is said by event and rule."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import anyio
import pytest

from onready.engine.events import AnyEvent, NodeStarted, NodeSucceeded, RunStarted, RunSucceeded
from onready.engine.names import NodeKey
from onready.storage.sqlite import SqliteRunLog
from tests.cli.conftest import Cli
from tests.cli.interrupting import interrupt

pytestmark = pytest.mark.may_block("the command line owns its loop, and writes to the terminal")


def test_runs_that_went_well_and_badly(cli: Cli, pipeline: Path) -> None:
    cli("run", "hello", "-q")
    said = cli("verify", "last")
    assert said.code == 0
    assert re.fullmatch(r"ok: \d+ events, 9 nodes, 1 epoch\n", said.out)
    cli("run", "pipeline.py", "--url", "x", "--name", "one", "-q")
    cli("retry", "one", "-q")
    data = json.loads(cli("verify", "one", "--format", "json").out)
    assert (data["nodes"], data["epochs"], data["violations"], data["plan"]) == (6, 2, [], True)


def test_a_run_that_was_killed_and_resumed(command: Cli, folder: Path) -> None:
    interrupt(folder, "one")
    assert command("verify", "one").code == 0, "also before it is resumed"
    (folder / "go").touch()
    assert command("resume", "one", "-q").code == 0
    said = command("verify", "one")
    assert said.code == 0
    assert re.fullmatch(r"ok: \d+ events, 5 nodes, 2 epochs\n", said.out)


def test_without_its_plan_less_is_checked(cli: Cli, folder: Path) -> None:
    cli("run", "hello", "-q")
    shutil.rmtree(folder / ".onready" / "catalog" / "records" / "plans")
    said = cli("verify", "last")
    assert said.code == 0
    assert "the catalog has no plan" in said.err


def test_a_record_that_cannot_have_happened(cli: Cli, folder: Path) -> None:
    node = NodeKey("a")
    story: list[AnyEvent] = [
        RunStarted(1, 1.0, "g", "one", "f" * 64, {}),
        NodeStarted(2, 2.0, node, 1),
        NodeSucceeded(3, 3.0, node, 1, 1),
        NodeStarted(4, 4.0, node, 2),
        NodeSucceeded(5, 5.0, node, 2, 1),
        RunSucceeded(6, 6.0),
    ]

    async def write() -> None:
        async with SqliteRunLog(folder / ".onready" / "runs.db") as log:
            lease = await log.lease("r1", "test", 60.0)
            await log.append("r1", lease.epoch, story)
            await log.release(lease)

    anyio.run(write)
    said = cli("verify", "one")
    assert said.code == 1
    assert re.match(r"x one: \d rules? broken\n", said.out)
    assert "  event 4 a: " in said.out
    data = json.loads(cli("verify", "one", "--format", "json").out)
    assert data["violations"][0]["node"] == "a"


def test_no_such_run(cli: Cli) -> None:
    assert cli("verify", "last").code == 2
