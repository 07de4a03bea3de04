"""`onready gc`: what it says, and old output where asked. What goes is in tests/faults/test_gc.py."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from onready.cli.words import amount
from tests.cli.conftest import Cli

pytestmark = pytest.mark.may_block("the command line owns its loop, and writes to the terminal")


def test_nothing_to_remove(cli: Cli, folder: Path) -> None:
    said = cli("gc")
    assert (said.code, said.out, said.err) == (0, "nothing to remove\n", "")
    assert list(folder.iterdir()) == [], "looking makes nothing"


def test_old_output_goes_and_the_run_stays(cli: Cli, pipeline: Path, folder: Path) -> None:
    cli("run", "pipeline.py", "--url", "x", "--alphas", "0.1", "--name", "one", "-q")
    assert cli("logs", "one", "clean").out == "cleaning 943\n"
    assert cli("gc", "--older-than", "30d").out == "nothing to remove\n"
    dry = cli("gc", "--older-than", "0m", "--dry-run")
    assert re.fullmatch(r"would remove the output of 1 run: \d+ bytes\n", dry.out)
    assert cli("logs", "one", "clean").out == "cleaning 943\n"
    data = json.loads(cli("gc", "--older-than", "0m", "--format", "json").out)
    assert (data["outputs"], data["runs"], data["dry_run"]) == (1, [], False)
    assert list((folder / ".onready" / "logs").iterdir()) == []
    assert cli("logs", "one", "clean").out == ""
    assert "succeeded" in cli("show", "one").out


def test_an_age_that_is_none(cli: Cli) -> None:
    said = cli("gc", "--older-than", "3")
    assert said.code == 2
    assert "write a number and m, h, d or w" in said.err


def test_a_backend_that_cannot_be_asked_is_named(cli: Cli, folder: Path) -> None:
    (folder / "onready.toml").write_text("[backends.mine]\ntype = 'nowhere'\n")
    said = cli("gc")
    assert said.code == 3
    assert said.out == "nothing to remove\n"
    assert said.err.startswith("warning: mine was not asked: the plug-in 'nowhere'") or (
        "warning: mine was not asked: no plug-in 'nowhere'" in said.err
    )


def test_amounts() -> None:
    assert [amount(n) for n in (1, 1000, 1024, 10_000, 5_000_000, 7 << 40)] == [
        "1 byte",
        "1,000 bytes",
        "1.0 KiB",
        "9.8 KiB",
        "4.8 MiB",
        "7,168 GiB",
    ]
