"""`onready run`: what a newcomer sees, flags, selections, results, failures, exit codes."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from onready.cli.words import TIMES
from tests.cli.conftest import Cli

pytestmark = pytest.mark.may_block("the command line owns its loop, and writes to the terminal")

RESULT = "hello, bonjour, hola, jambo, hei, aloha, world! (6 languages, 5 letters)"
TIME = r"(<1 ms|\d+ ms|\d+\.\d s)"


def test_hello_as_a_newcomer_sees_it(command: Cli, folder: Path) -> None:
    said = command("run", "hello")
    assert said.code == 0
    assert said.out == RESULT + "\n"
    patterns = [
        r"hello  run [a-z-]+-\d+",
        rf"  ✓ choose +{TIME}",
        rf"  ✓ measure +{TIME}",
        rf"  ✓ greet {TIMES}6 +{TIME}",
        rf"  ✓ write +{TIME}",
        rf"✓ [a-z-]+-\d+ succeeded: 9 nodes in {TIME}, {TIME} of work",
    ]
    lines = said.err.splitlines()
    assert len(lines) + len(said.out.splitlines()) <= 12
    assert len(lines) == len(patterns), said.err
    # Rows come as they end; the first and the last line have their places.
    assert re.fullmatch(patterns[0], lines[0])
    assert re.fullmatch(patterns[-1], lines[-1])
    for pattern in patterns[1:-1]:
        assert any(re.fullmatch(pattern, line) for line in lines), (pattern, said.err)
    assert (folder / ".onready" / "runs.db").exists()


def test_memory_leaves_nothing_behind(cli: Cli, folder: Path) -> None:
    assert cli("run", "hello", "--memory", "--quiet").out == RESULT + "\n"
    assert list(folder.iterdir()) == []


def test_flags_of_the_graph(cli: Cli) -> None:
    said = cli("run", "hello", "--memory", "-q", "--languages", "French", "Klingon")
    assert said.out == "bonjour, hello (Klingon), world! (2 languages, 5 letters)\n"
    # `--name` is an option of the command; behind `--` it is the graph's.
    said = cli("run", "hello", "--memory", "--name", "mine", "--", "--name", "Ada")
    assert said.err.startswith("hello  run mine\n")
    assert said.out == RESULT.replace("world", "Ada").replace("5", "3") + "\n"


def test_parameters_from_a_file(cli: Cli, folder: Path) -> None:
    (folder / "p.yaml").write_text("name: Ada\nlanguages: [Finnish]\n")
    assert cli("run", "hello", "-q", "--memory", "--params", "p.yaml").out.startswith("hei, Ada!")


def test_json(cli: Cli) -> None:
    said = cli("run", "hello", "--memory", "--format", "json")
    data = json.loads(said.out)
    assert data["status"] == "succeeded"
    assert data["graph"] == "hello"
    assert data["value"] == RESULT
    assert data["nodes"]["succeeded"] == 9


def test_a_failure_is_told_once(command: Cli, pipeline: Path) -> None:
    said = command("run", "pipeline.py", "--url", "x", "--name", "brisk-heron-41")
    assert said.code == 1
    assert said.out == ""
    lines = said.err.splitlines()
    assert lines[0] == "pipeline  run brisk-heron-41"
    assert said.err.count("ValueError: ") == 1
    block = lines[next(i for i, line in enumerate(lines) if line.startswith("x ")) :]
    head = (
        rf"x train\[1\]  alpha=0\.5  failed after 2 attempts \(thread, {TIME}\) +run brisk-heron-41"
    )
    assert re.fullmatch(head, block[0]), block[0]
    assert len(block[0]) == 100
    assert block[1] == "  ValueError: singular matrix for alpha=0.5"
    code = 'raise ValueError(f"singular matrix for alpha={alpha}")'
    assert block[2] == f"    pipeline.py:19 in train     {code}"
    assert block[3] == "  inputs  data=[0, 1, 2, ... 943 ints]  alpha=0.5"
    assert block[4].startswith("  not run: evaluate (needs train[1]); kept: download, clean")
    assert block[5] == "  next: onready logs last train[1] | onready retry last"
    assert len(block) == 6


def test_several_failures_and_shell_output(cli: Cli, folder: Path) -> None:
    (folder / "many.py").write_text(
        "from onready import each, graph, task\n"
        "@task\n"
        "def f(i: int) -> int:\n"
        "    raise RuntimeError(f'bad {i}\\nmore')\n"
        "@task\n"
        "def last(xs: list[int]) -> int:\n"
        "    return 1\n"
        "@graph\n"
        "def many() -> int:\n"
        "    return last(f.map(each([1, 2, 3, 4, 5])))\n"
    )
    said = cli("run", "many.py", "--on-error", "continue", "--memory")
    assert said.code == 1
    assert said.err.count("RuntimeError: ") == 3
    assert "  RuntimeError: bad 1\n  more\n" in said.err
    assert "  and 2 more nodes failed" in said.err
    assert "5 failed" in said.err
    # Nothing is kept: there is nothing to look at afterwards.
    assert "next:" not in said.err


def test_failure_as_json(cli: Cli, pipeline: Path) -> None:
    said = cli("run", "pipeline.py", "--url", "x", "--memory", "--format", "json", "-q")
    data = json.loads(said.out)
    assert said.code == 1
    assert data["status"] == "failed"
    assert "value" not in data
    (failure,) = data["failures"]
    assert failure["node"] == "train[1]"
    assert failure["message"] == "singular matrix for alpha=0.5"
    assert failure["frames"][-1]["function"] == "train"


def test_a_run_that_took_too_long(cli: Cli) -> None:
    said = cli("run", "hello", "--memory", "--timeout", "0.05")
    assert said.code == 1
    assert "x the run took longer than 0.05 s" in said.err
    assert "6 cancelled" in said.err


@pytest.mark.parametrize(
    ("select", "nodes", "value"),
    [
        (["measure"], {"measure": 1}, "5"),
        (["choose", "measure"], None, '{"choose": ['),
        (["+greet"], None, '["hello"'),
        (["+writ?"], None, RESULT),
        (["+greet+", "measure"], None, RESULT),
    ],
)
def test_selections(cli: Cli, select: list[str], nodes: object, value: str) -> None:
    said = cli("run", "hello", "--memory", "-q", "--select", *select)
    assert said.code == 0, said.err
    assert said.out.startswith(value)


def test_a_selection_needs_no_value_that_it_does_not_use(cli: Cli, folder: Path) -> None:
    (folder / "g.py").write_text(
        "from onready import graph, task\n"
        "@task\n"
        "def a(x: int) -> int:\n"
        "    return x\n"
        "@task\n"
        "def b(y: int) -> int:\n"
        "    return y\n"
        "@graph\n"
        "def g(x: int, y: int) -> int:\n"
        "    a.with_options(after=[b(y)])(x)\n"
        "    return a.with_options(name='c')(x)\n"
    )
    assert cli("run", "g.py", "-q", "--memory", "--select", "b", "--y", "3").out == "3\n"
    said = cli("run", "g.py", "-q", "--memory", "--select", "a", "c", "--x", "4")
    assert said.out == "4\n"
    said = cli("run", "g.py", "-q", "--memory", "--select", "a")
    assert said.code == 2
    assert "x" in said.err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["run", "hello", "--select", "greet"], 2, "G071: greet takes the value of choose"),
        (["run", "hello", "--select", "choos"], 2, "did you mean 'choose'?"),
        (["run", "hello", "--backend", "nope"], 2, "there is no backend 'nope'"),
        (["run", "hello", "--languages", "[1]", "--timeout", "x"], 2, 'unable to convert "x"'),
        (["run", "hello", "--langages", "a"], 2, "Did you mean --languages?"),
        (["run", "hello", "x"], 2, "'x' belongs to no flag"),
        (["run", "hello", "--on-error", "maybe"], 2, "Choose from"),
        (["run", "hello", "--run-log", "foo:bar"], 2, "installed: files, memory, sqlite"),
        (["run", "hello", "--run-log", "sqlite:/proc/nope/x.db"], 3, "/proc/nope/x.db"),
        (["run", "hello", "-n", "0"], 2, "max_parallel"),
        (["run", "hello", "--id", "a/b"], 2, "not a run id"),
        (["run", "hello", "--profile", "x"], 2, "no profile 'x'"),
        (["run", "hello", "--params", "none.json"], 2, "none.json"),
        (["run"], 2, "TARGET is missing"),
        (["run", "hello", "--name"], 2, "--name needs a value"),
        (["run", "pipeline.py"], 2, "pipeline needs --url STR"),
        (["run", "pipeline.py", "--url", "x", "--alphas", "a"], 2, 'unable to convert "a"'),
    ],
)
def test_exit_codes(cli: Cli, pipeline: Path, words: list[str], code: int, said: str) -> None:
    got = cli(*words)
    assert said in got.err
    assert got.code == code
    assert got.out == ""
    assert "Traceback" not in got.err


def test_the_same_id_attaches(cli: Cli) -> None:
    first = cli("run", "hello", "--id", "one", "--format", "json")
    again = cli("run", "hello", "--id", "one", "--format", "json")
    assert json.loads(first.out)["name"] == json.loads(again.out)["name"]
    other = cli("run", "hello", "--id", "one", "--languages", "French")
    assert other.code == 2
    assert "other inputs" in other.err


def test_results_of_other_types(cli: Cli, folder: Path) -> None:
    (folder / "g.py").write_text(
        "from dataclasses import dataclass\n"
        "from onready import graph, task\n"
        "@dataclass\n"
        "class Point:\n"
        "    x: int\n"
        "@task\n"
        "def point() -> Point: return Point(3)\n"
        "@task\n"
        "def nothing() -> None: return None\n"
        "@task\n"
        "def big() -> list[str]: return ['word' * 5] * 9\n"
        "@graph\n"
        "def p() -> Point: return point()\n"
        "@graph\n"
        "def n() -> None: return nothing()\n"
        "@graph\n"
        "def b() -> list[str]: return big()\n"
    )
    assert cli("run", "g.py:p", "-q", "--memory").out == '{"x": 3}\n'
    assert cli("run", "g.py:n", "-q", "--memory").out == ""
    assert len(cli("run", "g.py:b", "-q", "--memory").out.splitlines()) == 11
    # A task alone is a graph of one node.
    assert cli("run", "g.py:point", "-q", "--memory").out == '{"x": 3}\n'


def test_help_lists_the_parameters_of_the_target(cli: Cli, pipeline: Path) -> None:
    said = cli("run", "pipeline.py", "--help")
    assert said.code == 0
    assert "--max-parallel" in said.out
    assert "Parameters of pipeline" in said.out
    assert re.search(r"--url +STR +\[required\]", said.out)
    assert "[0.1, 0.5, 1.0]" in said.out
    assert "--max-parallel" in cli("run", "-h").out
    assert "--max-parallel" in cli("run", "nope.py", "--help").out


def test_output_of_nodes_is_kept_and_announced(cli: Cli, pipeline: Path) -> None:
    said = cli("run", "pipeline.py", "--url", "x", "--alphas", "0.1")
    assert said.code == 0
    assert said.out == "0.1\n"
    assert said.err.endswith("  output of 2 nodes: onready logs last\n")
