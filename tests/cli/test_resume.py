"""`onready resume` and `onready retry`: runs that were killed, failed, cancelled; drift; refusals."""

from __future__ import annotations

import json
import re
import signal
from pathlib import Path

import pytest

from tests.cli.conftest import Cli
from tests.cli.interrupting import Driver, interrupt

pytestmark = pytest.mark.may_block("the command line owns its loop, and writes to the terminal")

TIME = r"(<1 ms|\d+ ms|\d+(\.\d)? s)"


@pytest.fixture
def interrupted(folder: Path) -> Path:
    """A folder with the run `one` of slow.py, whose driver was killed."""
    interrupt(folder, "one")
    return folder


def ledger(folder: Path) -> list[str]:
    return (folder / "ledger").read_text().splitlines()


def test_what_has_succeeded_is_kept(command: Cli, interrupted: Path) -> None:
    (interrupted / "go").touch()
    said = command("resume", "one")
    assert (said.code, said.out) == (0, "5\n"), said
    lines = said.err.splitlines()
    assert lines[0] == "slow  run one"
    assert lines[1] == "  kept: 3 nodes"
    assert re.fullmatch(rf"  ✓ square .3 +{TIME}  run again", lines[2])
    assert re.fullmatch(rf"  ✓ total +{TIME}", lines[3])
    assert lines[4].startswith("✓ one succeeded: 5 nodes in ")
    assert ", 3 kept" in lines[4]
    assert sorted(ledger(interrupted)) == [
        "load", "square 0", "square 1", "square 2", "square 2", "total",
    ]  # fmt: skip
    shown = command("show", "one").out
    assert "  resumed  " in shown
    assert "5 succeeded" in shown
    assert re.search(r"✓  square .3 .* run again", shown)
    # And it is over: there is nothing to resume any more.
    again = command("resume", "one")
    assert again.code == 2
    assert again.err.startswith("error: run one has ended; ")
    assert "it succeeded" in again.err
    assert "onready show one" in again.err
    assert command("retry", "one").code == 2


def test_an_interrupted_run_as_people_see_it(command: Cli, interrupted: Path) -> None:
    (interrupted / "go").touch()
    retry = command("retry", "one")
    assert retry.code == 2
    assert "resume it (onready resume one)" in retry.err
    # Sweeping takes the dead driver's lease away: from then on the run is seen to be interrupted.
    (interrupted / ".onready" / "work" / json_id(command)).mkdir(parents=True)
    assert command("gc").out.startswith("removed 1 work folder")
    assert re.search(r"^one +slow +interrupted ", command("runs").out, re.MULTILINE)
    shown = command("show", "one").out
    assert shown.splitlines()[0] == "one  interrupted"
    assert re.search(r"^  -  square .3 .*was running$", shown, re.MULTILINE)
    assert re.search(r"^     total +thread +not started$", shown, re.MULTILINE)
    assert shown.splitlines()[-1] == "  next: onready resume one"
    assert json.loads(command("resume", "one", "-q", "--format", "json").out)["value"] == 5


def json_id(command: Cli) -> str:
    run = json.loads(command("runs", "--format", "json").out)[0]["run"]
    assert isinstance(run, str)
    return run


def test_code_that_changed_is_shown_and_refused(command: Cli, interrupted: Path) -> None:
    (interrupted / "go").touch()
    path = interrupted / "slow.py"
    path.write_text(path.read_text().replace("return i * i", "return i * i * i"))
    for words in ((), ("--target", "slow.py:slow")):
        said = command("resume", "one", *words)
        assert said.code == 2
        assert said.err.splitlines() == [
            "error: one would go on with another graph than it had:",
            "  ~ square: its code changed (slow.py:19)",
            "  go on all the same: onready resume one --accept-drift",
        ]
    assert "  ~ square: its code changed (slow.py:19)" in command("diff", "one").out
    going = command("resume", "one", "--accept-drift", "-q")
    assert (going.code, going.out) == (0, "9\n"), "two squares of before, and a cube"
    assert command("diff", "one").out.startswith("no difference between one and the code of")


def test_a_function_that_is_gone(command: Cli, interrupted: Path) -> None:
    path = interrupted / "slow.py"
    path.write_text(path.read_text().replace("total", "summed"))
    said = command("resume", "one")
    assert said.code == 2
    assert "G062: slow.py has no 'total'" in said.err.replace(f"{interrupted}/", "")
    assert "one cannot go on without it; see: onready diff one" in said.err
    assert "Traceback" not in said.err


def test_a_run_that_somebody_drives(command: Cli, interrupted: Path) -> None:
    with Driver(interrupted, "resume", "one") as driver:
        driver.until(lambda: driver.ledger().count("square 2") == 2)
        other = command("resume", "one")
        assert other.code == 3
        assert "is driven by" in other.err
        # Ctrl-C is a cancellation in order, as it is for `run`.
        driver.process.send_signal(signal.SIGTERM)
        (interrupted / "go").touch()
        code, said = driver.wait()
    assert code == 143, said
    assert "one cancelled after" in said
    retried = command("retry", "one")
    assert (retried.code, retried.out) == (0, "5\n")
    assert ledger(interrupted).count("load") == 1
    shown = command("show", "one").out
    assert "  resumed  " in shown
    assert "  retried  " in shown


def test_a_failed_run_is_tried_again(cli: Cli, folder: Path) -> None:
    from tests.cli.interrupting import SLOW

    (folder / "slow.py").write_text(SLOW)
    (folder / "go").touch()
    (folder / "bad").touch()
    failed = cli("run", "slow.py", "--name", "one")
    assert failed.code == 1
    assert failed.err.splitlines()[-1].endswith("onready retry last")
    still = cli("retry", "last")
    assert still.code == 1
    assert "x square[1]  i=1  failed after 2 attempts" in still.err
    assert still.err.count("ValueError: a bad day") == 1
    (folder / "bad").unlink()
    data = json.loads(cli("retry", "one", "--format", "json", "-q").out)
    assert (data["status"], data["value"], data["nodes"]["failed"]) == ("succeeded", 5, 0)
    assert [ledger(folder).count(f"square {i}") for i in range(3)] == [1, 3, 1]
    shown = json.loads(cli("show", "one", "--format", "json").out)
    assert [one["retry"] for one in shown["segments"]] == [True, True]
    assert shown["failures"] == []
    # Of a run that succeeded, from one node on.
    again = cli("retry", "one", "--from", "square[2]")
    assert (again.code, again.out) == (0, "5\n")
    assert [ledger(folder).count(f"square {i}") for i in range(3)] == [1, 3, 2]
    assert ledger(folder).count("total") == 2
    assert "  kept: 3 nodes" in again.err
    assert re.search(r"✓ total .* run again", again.err)
    wrong = cli("retry", "one", "--from", "sqare")
    assert wrong.code == 2
    assert "has no node sqare" in wrong.err


@pytest.mark.parametrize("verb", ["resume", "retry"])
def test_no_such_run(cli: Cli, verb: str) -> None:
    assert cli(verb, "nope").code == 2
    cli("run", "hello", "-q", "--name", "one")
    said = cli(verb, "nope")
    assert said.code == 2
    assert "no run is called 'nope'" in said.err
    ended = cli(verb, "one")
    assert ended.code == 2
    assert ended.err.startswith("error: run one ")
