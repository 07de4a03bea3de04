"""`onready doctor`: one line per check, the cure where something is wrong, the exit code."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import pytest

from onready.cli.doctor import CHECKS
from onready.config import Config
from tests.cli.conftest import Cli

pytestmark = pytest.mark.may_block("the command line owns its loop, and writes to the terminal")


def test_all_is_well_and_nothing_is_left(command: Cli, folder: Path) -> None:
    said = command("doctor")
    assert (said.code, said.err) == (0, "")
    lines = said.out.splitlines()
    assert [line.split()[1] for line in lines] == ["configuration", *CHECKS]
    assert {line.split()[0] for line in lines} == {"ok"}
    assert re.search(r"ok +processes +a worker process answered in \d", said.out)
    assert re.search(r"ok +folder +.onready \(is made by the first run\)", said.out)
    assert list(folder.iterdir()) == []


def test_after_a_run(cli: Cli, folder: Path) -> None:
    cli("run", "hello", "-q")
    said = cli("doctor", "run-log", "catalog", "folder", "--format", "json")
    found = {finding["check"]: finding for finding in json.loads(said.out)}
    assert {finding["level"] for finding in found.values()} == {"ok"}
    assert found["run-log"]["text"].startswith("sqlite:.onready/runs.db: 1 run (SQLite 3")
    assert found["catalog"]["text"].startswith("file:.onready/catalog: 15 bytes")
    assert found["folder"]["text"] == ".onready, mode 0700"


def test_what_is_wrong_is_said_with_its_cure(cli: Cli, folder: Path) -> None:
    (folder / ".onready").mkdir(mode=0o755)
    (folder / ".onready").chmod(0o755)
    open_to_all = cli("doctor", "folder")
    assert open_to_all.code == 0, "a warning only"
    assert open_to_all.out.startswith("warn  folder  .onready has mode 0755")
    assert "-> chmod 700 .onready" in open_to_all.out

    (folder / ".onready" / "runs.db").write_bytes(b"no database at all" * 100)
    broken = cli("doctor", "run-log", "catalog")
    assert broken.code == 3
    assert re.search(r"^fail +run-log +.*runs.db", broken.out, re.MULTILINE)
    assert re.search(r"^ok +catalog", broken.out, re.MULTILINE)
    assert broken.err == "x not well: run-log\n"


def test_a_configuration_that_is_wrong_is_the_only_finding(cli: Cli, folder: Path) -> None:
    (folder / "onready.toml").write_text("grase = 1\n")
    said = cli("doctor")
    assert said.code == 3
    assert said.out.startswith("fail  configuration  onready.toml")
    assert "did you mean 'grace'?" in said.out
    (folder / "onready.toml").write_text("folder = 'x.txt'\n")
    (folder / "x.txt").write_text("")
    no_folder = cli("doctor", "folder", "clock")
    assert no_folder.code == 3
    assert "x.txt is no folder" in no_folder.out


def test_an_unknown_check(cli: Cli) -> None:
    said = cli("doctor", "runlog")
    assert said.code == 2
    assert "no check 'runlog'; did you mean 'run-log'?" in said.err


def test_a_check_that_hangs_is_given_up(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    import anyio

    from onready.cli import doctor

    async def hang(config: Config) -> str:
        await anyio.sleep_forever()
        return config.folder

    monkeypatch.setattr(doctor, "PATIENCE", 0.05)
    monkeypatch.setitem(doctor.CHECKS, "hang", doctor.Check(hang, always=False))
    said = cli("doctor", "hang")
    assert said.code == 3
    assert "fail  hang  no answer within 0.05 s" in said.out


@pytest.mark.skipif(os.getuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_ours(cli: Cli, folder: Path) -> None:
    (folder / ".onready").mkdir(mode=0o500)
    said = cli("doctor", "folder")
    assert said.code == 3
    assert "cannot be written to" in said.out


def test_docker_is_looked_at_where_somebody_asks(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{folder}/none.sock")
    said = cli("doctor", "docker", "python")
    assert said.code == 3
    assert re.search(r"^fail +docker ", said.out, re.MULTILINE)
    assert "none.sock" in said.out
    assert re.search(r"^ok +python", said.out, re.MULTILINE)
