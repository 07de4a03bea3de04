"""Verbs that look: plan, graph, list, runs, show, logs, events, config, init, completion, help."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest

from onready.cli import main
from tests.cli.conftest import Cli, Said

pytestmark = pytest.mark.may_block("the command line owns its loop, and writes to the terminal")


@pytest.fixture
def failed(cli: Cli, pipeline: Path) -> Said:
    """A run of pipeline.py that failed, called `one`."""
    return cli("run", "pipeline.py", "--url", "x", "--name", "one", "-q")


# --- before a run -----------------------------------------------------------------------------


def test_plan(cli: Cli, pipeline: Path) -> None:
    said = cli("plan", "pipeline.py")
    assert said.code == 0
    assert said.err == ""
    lines = said.out.splitlines()
    assert lines[0] == "pipeline  (pipeline.py:28)"
    assert "  parameters   url: str, alphas: list[float] = ..." in lines
    assert "  NODE      BACKEND  NEEDS     OPTIONS" in lines
    assert "  train[*]  thread   clean     retry 1" in lines
    assert lines[-1] == "ok: 4 nodes, every check passed"


def test_plan_as_json_and_of_a_part(cli: Cli, pipeline: Path) -> None:
    data = json.loads(cli("plan", "pipeline.py", "--format", "json").out)
    assert [node["name"] for node in data["nodes"]] == ["download", "clean", "train", "evaluate"]
    part = json.loads(cli("plan", "pipeline.py", "--format", "json", "-s", "+clean").out)
    assert [node["name"] for node in part["nodes"]] == ["download", "clean"]
    assert part["fingerprint"] != data["fingerprint"]


def test_plan_shows_options(cli: Cli, folder: Path) -> None:
    (folder / "onready.toml").write_text("[pools]\ndb = 2\n[backends.mine]\ntype = 'thread'\n")
    (folder / "g.py").write_text(
        "from onready import Resources, graph, task, each\n"
        "@task(timeout=5, node_timeout=20, pool='db', backend='mine', codec='pickle',\n"
        "      resources=Resources(cpu=1, memory='1Gi'))\n"
        "def f(i: int) -> int: return i\n"
        "@graph\n"
        "def inner(i: int) -> int: return f(i)\n"
        "@graph(on_error='continue', timeout=60)\n"
        "def g() -> int:\n"
        "    f.with_options(limit=2).map(each([1]))\n"
        "    return inner(1)\n"
    )
    out = cli("plan", "g.py:g").out
    assert "on error     continue, timeout 60 s" in out
    options = "timeout 5 s, node timeout 20 s, pool db, cpu 1, memory 1Gi, codec pickle"
    assert re.search(rf"f\[\*\] +mine +- +limit 2, {options}", out)
    assert re.search(r"inner +- +sub-graph", out)
    assert re.search(rf"    f +mine +- +{options}", out)
    backend = cli("plan", "g.py:inner", "--backend", "process").out
    assert re.search(r"f +process", backend)


def test_graph(cli: Cli, pipeline: Path) -> None:
    drawn = cli("graph", "pipeline.py").out
    assert "pipeline(url, alphas=[0.1,0.5,1.0])" in drawn
    for name in ("download", "clean", "train[*]", "evaluate"):
        assert name in drawn
    mermaid = cli("graph", "pipeline.py", "--format", "mermaid").out
    assert mermaid.startswith("flowchart TD\n")
    assert "evaluate" not in cli("graph", "pipeline.py", "--select", "+train").out


def test_list(cli: Cli, pipeline: Path, folder: Path) -> None:
    (folder / "broken.py").write_text("import onready\nraise RuntimeError('no')\n")
    (folder / "other.py").write_text("x = 1\n")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "h.py").write_text("from onready import nothing\n")
    said = cli("list")
    assert said.code == 0
    assert said.out.splitlines() == [
        "pipeline.py:pipeline(url: str, alphas: list[float] = [0.1, 0.5, 1.0])",
        "    Train with several settings.",
    ]
    assert "broken.py: importing broken.py failed: RuntimeError: no" in said.err
    (entry,) = json.loads(cli("list", "pipeline.py", "--format", "json").out)
    assert entry["target"] == "pipeline.py:pipeline"
    assert entry["parameters"][0] == {"name": "url", "type": "str", "required": True}
    assert cli("list", "broken.py").code == 2
    assert cli("list", "nope").code == 2
    (folder / "empty").mkdir()
    nothing = cli("list", "empty")
    assert (nothing.code, nothing.out) == (0, "")
    assert "no graphs in empty" in nothing.err


def test_targets(cli: Cli, folder: Path, pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])
    (folder / "cli_pkg_x").mkdir()
    (folder / "cli_pkg_x" / "__init__.py").write_text("")
    text = "from onready import graph, task\n@task\ndef t() -> int: return 7\n"
    two = "@graph\ndef g() -> int: return t()\n@graph\ndef h() -> int: return t()\n"
    (folder / "cli_pkg_x" / "mod.py").write_text(text + two)
    (folder / "cli_pkg_x" / "one.py").write_text(
        text + "@graph\ndef g() -> int: return t()\nsame = g\nfrom cli_pkg_x.mod import h\n"
    )
    (folder / "built.py").write_text(
        text + "from onready import GraphBuilder\n"
        "b = GraphBuilder('made')\nready = b.build(result=b.add(t))\n"
    )
    (folder / "tasks.py").write_text(text)
    (folder / "plain.py").write_text("def f(): pass\n")
    run = ("run", "-q", "--memory")
    assert cli(*run, "cli_pkg_x.mod:h").out == "7\n"
    assert cli(*run, "cli_pkg_x.one").out == "7\n"
    assert cli(*run, "cli_pkg_x/one.py").out == "7\n"
    assert cli(*run, "built.py").out == "7\n"
    several = cli(*run, "cli_pkg_x.mod")
    assert several.code == 2
    assert "cli_pkg_x.mod has 2 graphs" in several.err
    assert "  cli_pkg_x.mod:h\n" in several.err
    cases = {
        "tasks.py": "its tasks can be named: tasks.py:t",
        "plain.py": "plain.py has no graph",
        "plain.py:f": "plain.py:f is a function, not a graph",
        "pipelin.py": "no file pipelin.py; did you mean 'pipeline.py'?",
        "pipeline.py:pipe": "did you mean 'pipeline'?",
        "helo": "did you mean 'hello'?",
        "cli_pkg_x": "cli_pkg_x is a folder",
        "cli_pkg_x.none": "no module named 'cli_pkg_x.none'",
        "nodir/x.py": "no file nodir/x.py",
    }
    for target, said in cases.items():
        got = cli(*run, target)
        assert said in got.err, got
        assert got.code == 2
        assert "Traceback" not in got.err


def test_errors_in_the_users_file_show_the_users_lines(cli: Cli, folder: Path) -> None:
    (folder / "bad.py").write_text("def helper():\n    return 1 / 0\nX = helper()\n")
    (folder / "syntax.py").write_text("x = 1\ndef f(:\n")
    (folder / "truth.py").write_text(
        "from onready import graph, task\n@task\ndef a() -> int: return 1\n"
        "@graph\ndef g() -> int:\n    if a():\n        return a()\n    return a()\n"
    )
    bad = cli("run", "bad.py")
    assert bad.code == 2
    assert "ZeroDivisionError: division by zero" in bad.err
    assert "    bad.py:2 in helper       return 1 / 0\n" in bad.err
    syntax = cli("plan", "syntax.py")
    assert "    syntax.py:2 in <module>     def f(:\n" in syntax.err
    truth = cli("plan", "truth.py")
    assert truth.code == 2
    assert "truth.py:6: G010" in truth.err


# --- after a run ------------------------------------------------------------------------------


def test_nothing_has_run(cli: Cli, folder: Path) -> None:
    said = cli("runs")
    assert (said.code, said.out) == (0, "")
    assert "no runs yet; try: onready run hello" in said.err
    assert json.loads(cli("runs", "--format", "json").out) == []
    for verb in ("show", "logs", "events"):
        assert cli(verb, "last").code == 2
    assert list(folder.iterdir()) == [], "looking makes nothing"


def test_runs(cli: Cli, failed: Said) -> None:
    cli("run", "hello", "--name", "two", "-q")
    lines = cli("runs").out.splitlines()
    assert re.fullmatch(r"NAME +GRAPH +STATUS +WHEN +TOOK +ID", lines[0])
    assert re.match(r"two +hello +succeeded +just now +\S+ m?s +\w+-\w+", lines[1])
    assert re.match(r"one +pipeline +failed +", lines[2])
    records = json.loads(cli("runs", "--status", "failed", "--format", "json").out)
    assert [record["name"] for record in records] == ["one"]
    assert len(cli("runs", "--limit", "1").out.splitlines()) == 2
    assert len(cli("runs", "--graph", "hello").out.splitlines()) == 2


def test_show_a_failed_run(cli: Cli, failed: Said) -> None:
    out = cli("show", "last").out
    lines = out.splitlines()
    assert lines[0] == "one  failed"
    assert lines[1] == "  graph    pipeline  (pipeline.py:pipeline)"
    assert "  inputs   url='x'  alphas=[0.1, 0.5, 1.0]" in lines
    assert "  nodes    4 succeeded, 1 failed, 1 skipped" in lines
    assert re.search(r"  ✓  download +\S+ m?s +inline +\[0, 1, 2, ... 943 ints\]", out)
    assert re.search(r"  x  train .3 +\S+ m?s +thread +2 succeeded, 1 failed, 1 retry", out)
    assert "  ValueError: singular matrix for alpha=0.5" in lines
    assert lines[-1] == "  next: onready logs one train[1] | onready retry one"


def test_show_by_id_prefix_and_name(cli: Cli, failed: Said) -> None:
    data = json.loads(cli("show", "one", "--format", "json").out)
    assert data["status"] == "failed"
    assert data["inputs"] == {"url": "x", "alphas": data["inputs"]["alphas"]}
    train = next(node for node in data["nodes"] if node["name"] == "train")
    assert (train["total"], train["retries"]) == (3, 1)
    assert train["counts"] == {"succeeded": 2, "failed": 1}
    assert data["failures"][0]["node"] == "train[1]"
    assert data["skipped"] == [{"node": "evaluate", "reason": data["skipped"][0]["reason"]}]
    again = json.loads(cli("show", data["run"][:-3], "--format", "json").out)
    assert again["run"] == data["run"]
    unknown = cli("show", "nope")
    assert unknown.code == 2
    assert "no run is called 'nope'" in unknown.err


def test_show_a_run_that_succeeded(cli: Cli) -> None:
    cli("run", "hello", "-q")
    out = cli("show", "last").out
    assert re.search(r"✓  greet .6", out)
    assert "9 succeeded" in out
    assert "result   'hello, bonjour" in out
    assert "next:" not in out


def test_logs(cli: Cli, failed: Said) -> None:
    one = cli("logs", "last", "train[1]")
    assert one.out == "train[1] | training with 0.5\ntrain[1]#2 | training with 0.5\n"
    everything = cli("logs", "one").out.splitlines()
    assert "clean | cleaning 943" in everything
    assert "train[0] | training with 0.1" in everything
    assert "train[1]#2 | training with 0.5" in everything
    assert len(cli("logs", "last", "train").out.splitlines()) == 4
    assert cli("logs", "last", "clean").out == "cleaning 943\n"
    assert cli("logs", "last", "train[1]", "--attempt", "2").out == "training with 0.5\n"
    assert cli("logs", "last", "clean", "--stream", "stderr").out == ""
    stamped = cli("logs", "last", "clean", "--timestamps").out
    assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3} cleaning 943\n", stamped)
    records = [json.loads(line) for line in cli("logs", "one", "--format", "json").out.splitlines()]
    assert records[0]["node"] == "clean"
    assert records[0]["text"] == "cleaning 943"
    assert cli("logs", "last", "--follow").code == 0
    nothing = cli("logs", "last", "download")
    assert (nothing.code, nothing.out) == (0, "")
    assert "nothing was written by download of one" in nothing.err
    unknown = cli("logs", "last", "trian")
    assert unknown.code == 2
    assert "did you mean 'train'?" in unknown.err


def test_events(cli: Cli, failed: Said) -> None:
    lines = cli("events", "last").out.splitlines()
    assert re.match(r" +1  \d\d:\d\d:\d\d\.\d{3}  run\.started +graph=pipeline", lines[0])
    assert "run.failed" in lines[-1]
    assert any("train[1]#2" in line and "ValueError: singular" in line for line in lines)
    raw = cli("events", "last", "--format", "json").out.splitlines()
    data = [json.loads(line) for line in raw]
    assert [event["seq"] for event in data] == list(range(1, len(lines) + 1))
    assert {event["v"] for event in data} == {1}
    late = cli("events", "last", "--after", str(len(lines) - 2), "--follow").out.splitlines()
    assert len(late) == 2


# --- the rest ---------------------------------------------------------------------------------


def test_init_writes_what_runs(command: Cli, folder: Path) -> None:
    said = command("init")
    assert said.code == 0
    assert said.out == "wrote words.py and onready.toml\n"
    assert said.err == "next: onready run words.py\n"
    run = command("run", "words.py", "--top", "2", "-q")
    assert (run.code, run.out) == (0, '{"the": 7, "cat": 2}\n'), run
    again = command("init")
    assert again.code == 2
    assert "nothing was written" in again.err


def test_init_elsewhere(cli: Cli, folder: Path) -> None:
    assert cli("init", "new/place").err == "next: cd new/place && onready run words.py\n"
    assert (folder / "new" / "place" / "words.py").is_file()
    (folder / "file").write_text("")
    assert cli("init", "file/x").code == 2
    # What is commented out is right, too.
    text = (folder / "new" / "place" / "onready.toml").read_text()
    lines = [
        line.removeprefix("# ") for line in text.splitlines() if re.match(r"# [\[\w]+.*[=\]]", line)
    ]
    (folder / "onready.toml").write_text("\n".join(line for line in lines if "{{" not in line))
    shown = cli("config", "show", "--profile", "big")
    assert shown.code == 0, shown.err
    assert re.search(r"max_parallel +64 +profile big in onready.toml", shown.out)


def test_config_show(cli: Cli, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = cli("config", "show")
    assert re.search(r'run_log +"sqlite:.onready/runs.db" +default', said.out)
    assert "these are the defaults" in said.err
    assert 'run_log       "memory"' in cli("config", "show", "--run-log", "memory").out
    (folder / "onready.toml").write_text(
        "folder = 'work'\n[backends.b]\ntype = 'x'\ntoken = 'abc'\nuser = '{{WHO}}'\n"
    )
    monkeypatch.setenv("ONREADY_GRACE", "3")
    rows = {row["key"]: row for row in json.loads(cli("config", "show", "--format", "json").out)}
    assert rows["backends.b.token"] == {
        "key": "backends.b.token",
        "value": "********",
        "origin": "onready.toml",
    }
    assert rows["backends.b.user"]["value"] == "{{WHO}}"
    assert rows["grace"] == {"key": "grace", "value": 3.0, "origin": "env ONREADY_GRACE"}
    assert rows["catalog"]["value"] == "file:work/catalog"
    (folder / "onready.toml").write_text("grase = 1\n")
    wrong = cli("runs")
    assert wrong.code == 2
    assert "did you mean 'grace'?" in wrong.err


def test_completion(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "complete -F _onready onready" in cli("completion", "bash").out
    assert "#compdef onready" in cli("completion", "zsh").out
    assert "complete -c onready" in cli("completion", "fish").out
    assert cli("completion", "ksh").code == 2


def test_verbs(cli: Cli) -> None:
    said = cli()
    assert said.code == 0
    assert said.out == cli("--help").out
    verbs = re.findall(r"^│ (\w+) ", said.out, re.MULTILINE)
    assert verbs[:9] == ["init", "run", "plan", "list", "graph", "runs", "show", "logs", "events"]
    assert "execute" not in said.out
    unknown = cli("rn")
    assert unknown.code == 2
    assert unknown.err.startswith("onready: no verb 'rn'; did you mean 'run'?\n")
    for verb in ("resume", "retry", "cancel", "diff", "debug", "verify"):
        assert cli(verb).code == 2
    assert cli("runs", "--limit", "x").err.endswith("  see: onready runs --help\n")
    assert "RUN is missing" in cli("show").err


def test_version_and_the_hidden_verb(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert re.fullmatch(r"onready \d+\.\d+\.\d+\S*\n", capfd.readouterr().out)
    with pytest.raises(SystemExit) as left:
        main(["execute-single-node", "/nowhere/envelope.json"])
    assert left.value.code == 64


def test_a_reader_that_has_enough_is_no_error(folder: Path, pipeline: Path) -> None:
    import subprocess

    shell = f"{sys.executable} -m onready graph hello | head -n 1"
    done = subprocess.run(
        ["sh", "-c", shell], capture_output=True, text=True, timeout=50, check=True
    )
    assert done.stderr == ""
    assert done.stdout.startswith("hello(")
