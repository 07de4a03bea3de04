"""On a real terminal and with real signals: the live picture, Ctrl-C once and twice, SIGTERM."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from onready.cli.words import TIMES
from tests.cli.terminal import DEADLINE, Terminal

GRAPHS = """\
import asyncio
import os
import pathlib
import signal
import sys
import time

from onready import NodeContext, Provided, each, graph, task


@task
async def gentle(name: str) -> None:
    pathlib.Path(name).write_text(str(os.getpid()))
    try:
        await asyncio.sleep(100)
    finally:
        pathlib.Path(name + ".cleaned").touch()


@task
def deaf(name: str) -> None:
    pathlib.Path(name).write_text(str(os.getpid()))
    time.sleep(100)


@task(backend="process")
def deaf_child(name: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    pathlib.Path(name).write_text(str(os.getpid()))
    time.sleep(100)


@task
async def blocking(name: str) -> None:
    pathlib.Path(name).write_text(str(os.getpid()))
    time.sleep(100)


@task
async def step(index: int, context: NodeContext = Provided(NodeContext)) -> int:
    context.progress(0.5, f"half of {index}")
    gate = pathlib.Path("go")
    while not gate.exists():
        await asyncio.sleep(0.01)
    return index


@task
async def add(values: list[int], more: int) -> int:
    return sum(values) + more


@graph
def polite(name: str = "started") -> None:
    gentle(name)


@graph
def stuck(name: str = "started") -> None:
    deaf(name)


@graph
def child(name: str = "started") -> None:
    deaf_child(name)


@graph
def block(name: str = "started") -> None:
    blocking(name)


@graph
def steps() -> int:
    return add(step.map(each([1, 2, 3])), step.with_options(name="alone")(4))
"""


@pytest.fixture
def graphs(folder: Path) -> Path:
    (folder / "g.py").write_text(GRAPHS)
    return folder


def test_live_progress(graphs: Path) -> None:
    with Terminal(graphs, "run", "g.py:steps") as terminal:
        terminal.shows(rf"step {TIMES}3 .* 0 of 3, 3 running")
        terminal.shows(r"alone .* 50% half of 4")
        terminal.shows(r"add .* not started")
        terminal.shows(r"0 of 5 nodes, 4 running, \d")
        (graphs / "go").touch()
        assert terminal.wait() == 0
        last = terminal.text.replace("\r", "").splitlines()
        assert re.search(r"✓ [a-z-]+-\d+ succeeded: 5 nodes in ", last[-1])
        assert last[-2] == "10"
        # Colours, and the cursor is there again.
        assert "\x1b[32m" in terminal.seen
        assert terminal.seen.rfind("\x1b[?25h") > terminal.seen.rfind("\x1b[?25l")


def test_many_rows_fit_a_small_terminal(folder: Path) -> None:
    names = "".join(f"    step.with_options(name='n{i}')({i})\n" for i in range(30))
    (folder / "g.py").write_text(GRAPHS + f"\n\n@graph\ndef wide() -> None:\n{names}")
    with Terminal(folder, "run", "g.py:wide", LINES="12") as terminal:
        terminal.shows(r"30 running, 21 more rows")
        (folder / "go").touch()
        assert terminal.wait() == 0
        assert "✓ n29" in terminal.text


def test_no_picture_where_it_is_not_wanted(graphs: Path) -> None:
    (graphs / "go").touch()
    with Terminal(graphs, "run", "g.py:steps", TERM="dumb") as plain:
        assert plain.wait() == 0
        assert "\x1b" not in plain.seen
    with Terminal(graphs, "run", "g.py:steps", "-q") as quiet:
        assert quiet.wait() == 0
        assert quiet.text.strip() == "10"


def test_ctrl_c_once_cancels_gracefully(graphs: Path) -> None:
    with Terminal(graphs, "run", "g.py:polite") as terminal:
        terminal.until((graphs / "started").exists)
        terminal.press("\x03")
        assert terminal.wait() == 130
        assert (graphs / "started.cleaned").exists()
        assert "cancelled after" in terminal.text
        assert "Traceback" not in terminal.text


@pytest.mark.parametrize("graph", ["stuck", "child"])
def test_ctrl_c_twice_kills(graphs: Path, graph: str) -> None:
    with Terminal(graphs, "run", f"g.py:{graph}", ONREADY_GRACE="90") as terminal:
        started = graphs / "started"
        terminal.until(lambda: started.exists() and started.read_text())
        worker = int(started.read_text())
        terminal.press("\x03")
        terminal.shows(
            "cancelling: what runs has 2 min|cancelling: what runs has 1 min 30 s to end"
        )
        terminal.press("\x03")
        assert terminal.wait() == 130
        assert not psutil.pid_exists(worker) or worker == terminal.process.pid
        assert "\x1b[?25h" in terminal.seen


def test_a_node_that_blocks_the_loop_dies_too(graphs: Path) -> None:
    with Terminal(graphs, "run", "g.py:block") as terminal:
        terminal.until((graphs / "started").exists)
        for _ in range(3):
            terminal.press("\x03")
            time.sleep(0.2)
        assert terminal.wait() == 130
        assert "killed; the run did not end in order" in terminal.text


def start(folder: Path, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "onready", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(path: Path) -> None:
    end = time.monotonic() + DEADLINE
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signals_in_a_pipe(graphs: Path, number: int, code: int) -> None:
    with start(graphs, "run", "g.py:polite") as process:
        wait_for(graphs / "started")
        os.kill(process.pid, number)
        out, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == code
    assert out == ""
    assert "cancelling: what runs has 10 s to end; Ctrl-C again kills it at once" in err
    assert "  - gentle" in err
    assert (graphs / "started.cleaned").exists()
    shown = subprocess.run(
        [sys.executable, "-m", "onready", "show", "last"],
        cwd=graphs, capture_output=True, text=True, check=True, timeout=DEADLINE,
    )  # fmt: skip
    assert "cancelled" in shown.stdout.splitlines()[0]


def test_following_a_run_from_another_process(graphs: Path) -> None:
    with start(graphs, "run", "g.py:steps", "--id", "r1") as run:
        wait_for(graphs / ".onready" / "runs.db")
        events = None
        end = time.monotonic() + DEADLINE
        while events is None or events.poll() is not None:
            # Until the run is in the log there is nothing to follow.
            assert time.monotonic() < end
            events = start(graphs, "events", "r1", "--follow", "--format", "json")
            time.sleep(1.0)
            if events.poll() is not None:
                events.communicate()
        (graphs / "go").touch()
        out, err = events.communicate(timeout=DEADLINE)
        run.communicate(timeout=DEADLINE)
    assert err == ""
    assert '"type": "run.succeeded"' in out.splitlines()[-1]
