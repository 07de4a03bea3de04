"""`onready cancel`: from another process, waiting or not; runs that have ended, or have no driver."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.cli.interrupting import SLOW, Driver, interrupt

pytestmark = pytest.mark.may_block("the command line owns its loop, and writes to the terminal")


@pytest.fixture
def slow(folder: Path) -> Path:
    """A folder with slow.py, whose `square[2]` waits for the file `go`."""
    (folder / "slow.py").write_text(
        SLOW.replace("@task\ndef square", "@task(backend='process')\ndef square")
    )
    return folder


def test_a_run_of_another_process(command: Cli, slow: Path) -> None:
    with Driver(slow, "run", "slow.py", "--name", "one") as driver:
        driver.until(lambda: "square 2" in driver.ledger())
        said = command("cancel", "one", "--reason", "wrong data", "--grace", "0.1")
        assert (said.code, said.out) == (0, "one cancelled\n"), said
        assert said.err == "one is asked to cancel; waiting until it has ended\n"
        code, out = driver.wait()
    assert code == 130
    assert "- one cancelled after" in out
    shown = command("show", "one").out
    assert shown.startswith("one  cancelled\n")
    assert "wrong data" in command("events", "one").out
    again = command("cancel", "one")
    assert (again.code, again.out) == (0, "one was cancelled already\n")


def test_without_waiting_and_with_a_limit(command: Cli, folder: Path) -> None:
    # In a thread, which cannot be stopped: it has all of its grace.
    (folder / "slow.py").write_text(SLOW)
    with Driver(folder, "run", "slow.py", "--name", "one") as driver:
        driver.until(lambda: "square 2" in driver.ledger())
        late = command("cancel", "one", "--timeout", "0", "--grace", "30")
        assert late.code == 3
        assert "one has not ended within" in late.err
        said = command("cancel", "one", "--no-wait", "--grace", "0.1")
        assert (said.code, said.out, said.err) == (0, "one is asked to cancel\n", "")
        assert driver.wait()[0] == 130


def test_a_run_that_nobody_drives(command: Cli, folder: Path) -> None:
    interrupt(folder, "one")
    # Somebody looks for what is left, and by that the run is known to have no driver.
    run = json.loads(command("runs", "--format", "json").out)[0]["run"]
    (folder / ".onready" / "work" / run).mkdir(parents=True, exist_ok=True)
    assert command("gc").code == 0
    said = command("cancel", "one")
    assert (said.code, said.out) == (
        0,
        "one: nobody drives it; it is cancelled once it is resumed\n",
    )
    assert said.err.endswith("  next: onready resume one\n")
    resumed = command("resume", "one")
    assert resumed.code == 130
    assert "one cancelled after" in resumed.err
    assert (folder / "ledger").read_text().count("total") == 0


def test_a_run_that_has_ended_or_never_was(cli: Cli) -> None:
    cli("run", "hello", "-q", "--name", "one")
    said = cli("cancel", "one")
    assert (said.code, said.out) == (2, "")
    assert said.err == "error: one has ended: it succeeded\n"
    unknown = cli("cancel", "nope")
    assert unknown.code == 2
    assert "no run is called 'nope'" in unknown.err
