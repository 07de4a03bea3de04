"""What rarely happens: stores that fail, long silences, results without JSON, faults of ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from onready.cli import app, progress
from onready.cli.console import Console
from onready.cli.exits import INTERNAL, UNAVAILABLE, USAGE, code_of
from onready.engine.errors import (
    BackendError,
    ConfigError,
    InternalError,
    RunLeaseHeld,
    RunNotFound,
    StoreError,
)
from tests.cli.conftest import Cli

pytestmark = pytest.mark.may_block("the command line owns its loop, and writes to the terminal")


def test_a_store_that_fails_under_way(command: Cli, folder: Path) -> None:
    (folder / "g.py").write_text(
        "import sqlite3, time\n"
        "from onready import graph, task\n"
        "@task\n"
        "def sabotage() -> int:\n"
        "    time.sleep(0.2)\n"
        "    db = sqlite3.connect('.onready/runs.db')\n"
        "    names = db.execute(\"select name from sqlite_master where type = 'table' \"\n"
        "                       \"and name not like 'sqlite_%'\").fetchall()\n"
        "    for (name,) in names:\n"
        "        db.execute(f'drop table {name}')\n"
        "    db.commit()\n"
        "    db.close()\n"
        "    return 1\n"
        "@task\n"
        "async def after(x: int) -> int:\n"
        "    return x\n"
        "@graph\n"
        "def g() -> int:\n"
        "    return after(sabotage())\n"
    )
    said = command("run", "g.py")
    assert said.code == 3
    assert said.out == ""
    assert "was interrupted" in said.err
    assert "error: run log" in said.err
    assert "Traceback" not in said.err


def test_a_long_silence_in_a_pipe_is_broken(
    cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "QUIET_PERIOD", 0.0)
    (folder / "g.py").write_text(
        "import asyncio\n"
        "from onready import each, graph, task\n"
        "@task\n"
        "async def quick() -> list[int]:\n"
        "    return [1]\n"
        "@task\n"
        "async def slow(x: int) -> None:\n"
        "    await asyncio.sleep(1.5)\n"
        "@graph\n"
        "def g() -> None:\n"
        "    slow.map(each(quick()))\n"
    )
    said = cli("run", "g.py", "--memory")
    assert "  ... 1 of 2 nodes done; running: slow\n" in said.err


def test_a_wide_graph_does_not_flood(cli: Cli, folder: Path) -> None:
    (folder / "g.py").write_text(
        "from onready import graph, task\n"
        "@task\n"
        "async def f(x: int) -> int:\n"
        "    if x == 70: raise ValueError('x')\n"
        "    return x\n"
        "@graph\n"
        "def g() -> None:\n"
        "    for i in range(80): f(i)\n"
    )
    said = cli("run", "g.py", "--memory", "--on-error", "continue")
    assert said.code == 1
    assert "  79 nodes of the graph without trouble\n" in said.err
    assert len(said.err.splitlines()) < 12


def test_results_that_have_no_json(cli: Cli, folder: Path) -> None:
    (folder / "g.py").write_text(
        "import pydantic\n"
        "from onready import graph, task\n"
        "class Own:\n"
        "    def __repr__(self): return '<own>'\n"
        "class Model(pydantic.BaseModel):\n"
        "    x: int = 3\n"
        "@task\n"
        "def own(): return Own()\n"
        "@task\n"
        "def model() -> Model: return Model()\n"
    )
    assert cli("run", "g.py:own", "--memory", "-q").out == "<own>\n"
    assert cli("run", "g.py:model", "--memory", "-q").out == '{"x": 3}\n'
    assert '"value": "<own>"' in cli("run", "g.py:own", "--memory", "--format", "json").out


def test_programs_that_fail_show_their_last_words(cli: Cli, folder: Path) -> None:
    (folder / "g.py").write_text(
        "from onready import GraphBuilder\n"
        "b = GraphBuilder('build')\n"
        "b.shell(['sh', '-c', 'echo trying; echo no such thing >&2; exit 3'], name='make')\n"
        "ready = b.build()\n"
    )
    said = cli("run", "g.py")
    assert said.code == 1
    assert "x make  failed (subprocess" in said.err
    assert "    | no such thing\n" in said.err
    assert "next: onready logs last make | onready retry last" in said.err
    # In order within a stream; between two pipes nobody knows.
    assert sorted(cli("logs", "last", "make").out.splitlines()) == ["no such thing", "trying"]


def test_which_error_is_which_exit_code() -> None:
    assert code_of(StoreError("x")) == UNAVAILABLE
    assert code_of(BackendError("x")) == UNAVAILABLE
    assert code_of(RunLeaseHeld("x")) == UNAVAILABLE
    assert code_of(ConfigError("x")) == USAGE
    assert code_of(RunNotFound("x")) == USAGE
    assert code_of(InternalError("x")) == INTERNAL


def test_faults_of_ours_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    code = app._unexpected(KeyError("lost"), Console())
    said = capsys.readouterr().err
    assert code == INTERNAL
    assert "KeyError: 'lost'" in said
    assert "this is a fault of onready: please report it" in said
    wrapped = ExceptionGroup("group", [ExceptionGroup("group", [StoreError("full")])])
    assert app._unexpected(wrapped, Console()) == UNAVAILABLE
    assert capsys.readouterr().err == "error: full\n"
    assert "this is a fault of onready" in app.error_message(InternalError("story"), Console())


def test_the_shell_is_found_or_asked_for(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    said = cli("completion")
    assert said.code in {0, 2}
    assert ("onready" in said.out) == (said.code == 0)
    assert ("which shell?" in said.err) == (said.code == 2)
