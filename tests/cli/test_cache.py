"""`onready cache` and `run --no-cache`: what is in the cache, why not, and away with it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.cli.conftest import Cli

FLOW = """\
from onready import each, graph, task


@task(cache=True)
def count(text: str) -> int:
    return len(text.split())


@task
def total(counts: list[int]) -> int:
    return sum(counts)


@graph
def flow(texts: list[str] = ["a b", "c"]) -> int:
    return total(count.map(each(texts)))
"""


@pytest.fixture
def flow(folder: Path) -> Path:
    path = folder / "flow.py"
    path.write_text(FLOW)
    return path


def run(command: Cli, *words: str) -> tuple[str, str]:
    """Runs it; the id of the run, and what was said."""
    said = command("run", "flow.py", "--format", "json", *words)
    assert said.code == 0, said
    return str(json.loads(said.out)["run"]), said.err


def test_nothing_is_made_where_nothing_is(cli: Cli, command: Cli, folder: Path) -> None:
    said = cli("cache", "ls")
    assert (said.code, said.out, said.err) == (0, "", "the cache is empty\n")
    assert json.loads(cli("cache", "ls", "--format", "json").out) == []
    assert cli("cache", "clear").out == "forgot 0 values\n"
    assert command("cache", "why", "count").code == 2
    assert list(folder.iterdir()) == []


def test_a_second_run_says_what_came_from_the_cache(command: Cli, flow: Path) -> None:
    first, _ = run(command)
    again = command("run", "flow.py")
    assert again.out == "3\n"
    assert "2 cached" in again.err
    assert "2 from the cache" in again.err
    shown = command("show", "last").out
    assert re.search(r"nodes +1 succeeded, 2 cached", shown)
    why = command("cache", "why", "count[1]").out
    assert why == f"count[1]  from the cache: the value of run {first}\n"
    folder = flow.parent
    assert command("run", "flow.py", "--no-cache").err.count("cached") == 0
    other = folder / "elsewhere"
    other.mkdir()
    flow.rename(other / "flow.py")
    moved = command("run", "elsewhere/flow.py")
    assert "2 from the cache" in moved.err


def test_the_list(command: Cli, flow: Path) -> None:
    first, _ = run(command)
    out = command("cache", "ls").out.splitlines()
    assert out[0].split() == ["TASK", "NODE", "RUN", "WHEN", "SIZE"]
    # By age, and the items of a map are about as old as each other.
    row = min(out[1:])
    assert re.fullmatch(rf"count +count\[0\] +{first} +(just now|\d+ s ago) +1 byte", row)
    entries = json.loads(command("cache", "ls", "count", "--format", "json").out)
    entries.sort(key=lambda entry: str(entry["node"]))
    assert [entry["node"] for entry in entries] == ["count[0]", "count[1]"]
    entry = entries[0]
    assert (entry["task"], entry["reference"], entry["version"]) == ("count", "flow.py:count", "1")
    assert (entry["run"], entry["attempt"], entry["readable"]) == (first, 1, True)
    assert command("cache", "ls", "total").err == "the cache has no value of total\n"


def test_why(command: Cli, flow: Path) -> None:
    first, _ = run(command)
    second, _ = run(command, "--texts", '["a b c"]')
    said = command("cache", "why", "count[0]").out.splitlines()
    assert re.fullmatch(r"count\[0\]  not in the cache in run [a-z-]+-\d+", said[0])
    assert said[1] == "  input text changed"
    assert re.fullmatch(rf"  nearest: count\[[01]\] of run {first}, .*", said[2])
    assert (
        "no value of this task was in the cache" in command("cache", "why", "count[0]", first).out
    )
    answer = json.loads(command("cache", "why", "count[0]", second, "--format", "json").out)
    assert (answer["status"], answer["reasons"]) == ("missed", ["input text changed"])
    assert (answer["run"], answer["origin"]) == (second, None)
    assert answer["nearest"]["run"] == first
    flow.write_text(FLOW.replace("len(text.split())", "len(text.split()) + 1"))
    run(command)
    assert "the code of the function changed" in command("cache", "why", "count[0]").out
    assert "its task has no cache=" in command("cache", "why", "total").out


def test_why_of_no_such_node_or_run(command: Cli, flow: Path) -> None:
    run(command)
    said = command("cache", "why", "totl")
    assert said.code == 2
    assert "has nothing of a node 'totl'. Did you mean 'total'?" in said.err
    assert command("cache", "why", "a//b").code == 2
    assert "not a node key: 'a//b'" in command("cache", "why", "a//b").err
    assert command("cache", "why", "total", "no-such-run").code == 2


def test_clear(command: Cli, flow: Path) -> None:
    run(command)
    assert command("cache", "clear", "total").out == "forgot 0 values of total\n"
    assert command("cache", "clear", "count").out == "forgot 2 values of count\n"
    assert command("cache", "ls").err == "the cache is empty\n"
    run(command)
    assert command("cache", "clear").out == "forgot 2 values\n"


def test_a_damaged_record_is_listed(command: Cli, cli: Cli, flow: Path) -> None:
    run(command)
    records = flow.parent / ".onready" / "catalog" / "records" / "cache"
    record = min(path for path in records.rglob("*.json") if path.is_file())
    record.write_bytes(b"?")
    assert f"(cannot be read)  {record.name}" in cli("cache", "ls").out
    entries = json.loads(cli("cache", "ls", "--format", "json").out)
    assert [entry["readable"] for entry in entries] == [False, True]


def test_a_catalog_by_its_address(command: Cli, cli: Cli, flow: Path) -> None:
    address = f"file:{flow.parent}/other"
    run(command, "--catalog", address)
    assert cli("cache", "ls").err == "the cache is empty\n"
    assert "count[0]" in cli("cache", "ls", "--catalog", address).out
    assert cli("cache", "clear", "--catalog", address).out == "forgot 2 values\n"


def test_the_verbs_are_listed(cli: Cli) -> None:
    said = cli("cache")
    assert said.code == 0
    for verb in ("ls", "why", "clear"):
        assert re.search(rf"{verb} ", said.out)
