"""The benchmarks run at a tiny size and say what they measured; no figure is judged here."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from benchmarks.__main__ import main
from benchmarks.floors import run_pool, run_programs, run_tasks
from benchmarks.measure import Sample
from benchmarks.replay import measure_replay
from benchmarks.report import MARK, Report, growth, record, row_line, tail_lines, this_machine
from benchmarks.scenarios import Scenario, scenarios
from benchmarks.shapes import SHAPES, feeds_of
from benchmarks.sides import true_program
from benchmarks.startup import measure_startup, spawn
from benchmarks.suite import Pair, Row, run_scenario

ROOT = Path(__file__).parents[2]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("size", [1, 2, 250])
def test_shapes_are_graphs_of_their_size(shape: str, size: int) -> None:
    needs = SHAPES[shape](size)
    assert len(needs) == size
    for at, wanted in enumerate(needs):
        assert len(wanted) <= 3
        assert len(set(wanted)) == len(wanted)
        assert all(0 <= need < at for need in wanted)


@pytest.mark.parametrize("shape", SHAPES)
def test_floors_run_every_node_once(shape: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    async def counted(*values: int) -> int:
        calls.append(len(values))
        return 1

    def counted_here(*values: int) -> int:
        calls.append(len(values))
        return 1

    monkeypatch.setattr("benchmarks.floors.ASYNC", [counted] * 4)
    monkeypatch.setattr("benchmarks.floors.SYNC", [counted_here] * 4)
    needs = SHAPES[shape](250)
    asyncio.run(run_tasks(needs, feeds_of(needs)))
    assert sorted(calls) == sorted(map(len, needs))
    calls.clear()
    with ThreadPoolExecutor(2) as pool:
        run_pool(pool, needs, feeds_of(needs))
    assert sorted(calls) == sorted(map(len, needs))


def test_a_floor_fails_with_its_nodes(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: int) -> int:
        raise ValueError("node")

    monkeypatch.setattr("benchmarks.floors.ASYNC", [broken] * 4)
    needs = SHAPES["chain"](3)
    with pytest.raises(ValueError, match="node"):
        asyncio.run(run_tasks(needs, feeds_of(needs)))


def test_the_program_floor_sees_a_bad_end() -> None:
    run_programs(true_program(), 5, 2)
    with pytest.raises(RuntimeError, match="status"):
        run_programs(true_program().replace("true", "false"), 1, 2)


def test_every_required_scenario_is_there() -> None:
    names = {one.name for one in scenarios([1_000, 10_000, 100_000])}
    for shape in SHAPES:
        for log in ("memory", "sqlite"):
            for size in (1_000, 10_000, 100_000):
                assert f"async/{log}/{shape}/{size}" in names
            assert f"thread/{log}/{shape}/10000" in names
    for name in (
        "async/memory/layered/10000/x100",
        "async/sqlite/layered/10000/x100",
        "process/memory/wide/1000",
        "process/memory/wide/10000",
        "shell/memory/flat/1000",
        "sleep/memory/flat/1000",
    ):
        assert name in names


@pytest.mark.parametrize(
    "scenario",
    [
        Scenario("async", "memory", "layered", 120),
        Scenario("async", "sqlite", "chain", 20),
        Scenario("async", "memory", "random", 200, runs=4),
        Scenario("thread", "memory", "wide", 30),
        Scenario("process", "memory", "wide", 10),
        Scenario("shell", "memory", "flat", 10),
        Scenario("sleep", "memory", "flat", 10),
    ],
    ids=lambda scenario: scenario.name,
)
def test_a_scenario_is_measured_on_both_sides(scenario: Scenario) -> None:
    row = run_scenario(scenario, 2)
    assert row.error == ""
    assert len(row.pairs) == 2
    assert row.ratio > 0
    assert row.wall_ratio > 0
    assert set(row.setup) == {"build", "compile"}


def test_a_side_that_dies_makes_a_row_that_says_so() -> None:
    row = run_scenario(Scenario("async", "memory", "no such shape", 10), 1)
    assert "no such shape" in row.error
    assert not row.good
    assert "no such shape" in row_line(row)


def test_the_table() -> None:
    done = run("--only", "async/memory/wide", "--sizes", "50", "--pairs", "1")
    assert done.stderr == ""
    assert "floor us" in done.stdout
    assert "\nasync/memory/wide/50 " in done.stdout


def test_the_json(tmp_path: Path) -> None:
    file = tmp_path / "found.json"
    only = ("--only", "async/memory/wide,map/memory", "--sizes", "50", "--map-size", "50")
    done = run(*only, "--pairs", "2", "--format", "json", "--output", str(file))
    found = json.loads(done.stdout)
    assert json.loads(file.read_text()) == found
    assert [row["name"] for row in found["rows"]] == ["async/memory/wide/50"]
    assert len(found["rows"][0]["pairs"]) == 2
    assert found["rows"][0]["ratio"] > 0
    assert found["bounds"][0]["nodes"] == 50
    assert found["machine"]["cores"] > 0


def test_a_record_replaces_the_one_before(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"# Head\n{MARK}\nold figures\n")
    report = Report(this_machine(), 1, [row(10, 1.0, 2.0)])
    record(report, page)
    record(report, page)
    text = page.read_text()
    assert text.startswith("# Head\n")
    assert "old figures" not in text
    assert text.count("async/memory/wide/10 ") == 1
    page.write_text("no mark")
    with pytest.raises(ValueError, match="no line"):
        record(report, page)


def test_a_profile(tmp_path: Path) -> None:
    file = tmp_path / "profile.txt"
    done = run("profile", "--size", "100", "--shape", "wide", "--output", str(file))
    assert "tottime" in done.stdout
    assert file.read_text().strip() == done.stdout.strip()


def test_going_on_with_a_run_is_measured() -> None:
    found = measure_replay(300)
    assert found.nodes == 300
    assert found.first.cpu > 0.0
    assert found.first.wall > 0.0
    report = Report(this_machine(), 1, replay=found)
    assert any("300 nodes" in line for line in tail_lines(report))
    assert len(found.verdicts()) == 2


def test_startup_is_measured() -> None:
    found = measure_startup(1)
    assert all(sample.cpu > 0 for sample in (found.bare, found.imported, found.node, found.hello))
    report = Report(this_machine(), 1, startup=found)
    assert any("one node in a process" in line for line in tail_lines(report))


def test_what_fails_is_not_measured(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="ended with 1"):
        spawn([sys.executable, "-c", "raise SystemExit(1)"], str(tmp_path))


def test_an_unknown_name_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--only", "asinc"]) == 2
    assert "--list" in capsys.readouterr().err


def test_names_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--list", "--only", "async/memory/*/1000,startup"]) == 0
    assert capsys.readouterr().out.split() == [
        *(f"async/memory/{shape}/1000" for shape in SHAPES),
        "startup",
    ]


def row(size: int, floor: float, engine: float, limit: float = 2.0) -> Row:
    pair = Pair(Sample(floor, floor), Sample(engine, engine))
    return Row(Scenario("async", "memory", "wide", size, limit=limit), [pair])


def test_rows_know_whether_they_are_good() -> None:
    assert row(10, 1.0, 2.0).good
    assert not row(10, 1.0, 2.1).good
    assert row(10, 1.0, 9.0, limit=0.0).good
    assert "OVER" in row_line(row(10, 1.0, 2.1))


def test_growth_compares_the_largest_with_ten_thousand() -> None:
    ((name, value, most, _),) = growth([row(10_000, 1.0, 1.0), row(100_000, 10.0, 15.0)])
    assert name.startswith("async/memory/wide")
    assert (value, most) == (1.5, 1.3)
