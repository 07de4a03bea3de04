"""F27: a secret that nodes use, print and raise in every form is found nowhere afterwards.

Run log, catalog, logs, work folders, events, what the command line says, and the command lines of
children while they run: 0 hits.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from pathlib import Path

import anyio
import psutil
import pytest
from anyio import to_thread

from onready.cli.app import run_app
from onready.engine.engine import Engine
from onready.engine.errors import Failure
from onready.engine.events import BackendWarning, NodeFailed, NodeProgress
from onready.engine.graph import Bound, GraphBuilder, Secret, each
from onready.engine.host import Given
from onready.engine.masking import MASKS
from onready.engine.run import RunOutcome
from onready.engine.spi import Attempt, Capabilities, Failed, Labels, Outcome, Reporter
from onready.engine.wire import to_json
from tests.faults.secret_nodes import (
    fails,
    fails_inline,
    fails_with,
    forms,
    passes,
    passes_inline,
)
from tests.faults.sizes import size

pytestmark = pytest.mark.anyio

LETTERS = "abcXYZ019-_/+=\"'\\<>&%$#{}[]()!? \u00ef\u79d8\U0001f511"
SEEDS = range(size(1, 25))
APART = ("process", "subprocess")
PYTHON = ("thread", *APART)
SHOUT = """
import base64, json, os, sys, urllib.parse
for name in ("TOKEN", "ONREADY_INPUT_T"):
    secret = os.environ[name]
    for form in (secret, base64.b64encode(secret.encode()).decode(), json.dumps(secret), repr(secret),
                 urllib.parse.quote(secret, safe="")):
        print("out", form, flush=True)
        print("err", form, file=sys.stderr, flush=True)
open("left.txt", "w").write("ok")
sys.exit(int(sys.argv[1]))
"""


@pytest.fixture
def anyio_backend() -> str:
    """Asyncio alone: the subject is what processes, files and terminals hold afterwards."""
    return "asyncio"


@pytest.fixture(autouse=True)
def no_masks_left() -> Generator[None]:
    MASKS.clear()
    yield
    MASKS.clear()


def canary(seed: int) -> str:
    """A secret with whatever quoting and escaping have trouble with."""
    draw = random.Random(seed)
    return "cAn4ry" + "".join(draw.choices(LETTERS, k=24)) + "3nd-oF-it"


def hits(data: bytes, secret: str) -> list[str]:
    """The forms of `secret` in `data`, and both its ends: for what is cut off."""
    wanted = [*forms(secret), json.dumps(secret)[1:-1], repr(secret)[1:-1], "cAn4ry", "3nd-oF-it"]
    return [form for form in wanted if form.encode() in data]


def search(folder: Path, secret: str) -> list[str]:
    """Where in the files of `folder` the secret is."""
    found: list[str] = []
    for path in folder.rglob("*"):
        if path.is_file():
            found += [f"{path}: {form}" for form in hits(path.read_bytes(), secret)]
    return found


def test_the_search_finds_what_is_planted(tmp_path: Path) -> None:
    secret = canary(0)
    assert search(tmp_path, secret) == []
    for number, form in enumerate(forms(secret)):
        (tmp_path / str(number)).write_text(f"x{form}x")
    assert len(search(tmp_path, secret)) >= len(forms(secret))


class Loud:
    """A third party's backend that says the secret in everything it may say."""

    capabilities = Capabilities(python=True, logs=True)

    async def execute(self, attempt: Attempt, report: Reporter) -> Outcome:
        assert attempt.secrets is not None
        secret = await to_thread.run_sync(attempt.secrets.resolve, "CANARY")
        for form in forms(secret):
            report.warning("loud", form)
            report.progress(None, form)
            report.log("stdout", form.encode())
        return Failed(Failure("error", secret, "Loud", reason=secret, log=report.tail(50)))

    async def recover(self, attempt: Attempt, report: Reporter) -> Outcome | None:
        return None

    async def sweep(self, keep: Callable[[Labels], bool]) -> int:
        return 0


def graph_of(folder: str) -> Bound[object]:
    """Every backend, with nodes that pass and nodes that fail."""
    g = GraphBuilder("canaries", on_error="continue")
    for backend in PYTHON:
        place = "apart" if backend in APART else "here"
        g.add(passes.with_options(backend=backend), folder, place, name=f"passes-{backend}")
        given = {"token": Secret("CANARY"), "url": "http://x"}
        g.add(fails.with_options(backend=backend), folder, place, given, name=f"fails-{backend}")
        numbers = each(range(11))
        g.map(fails_with.with_options(backend=backend, retry=1), Secret("CANARY"), numbers)
    g.add(passes_inline)
    g.add(fails_inline, Secret("CANARY"))
    g.add(passes.with_options(backend="loud"), folder, "", name="loud")
    for code in ("0", "3"):
        g.shell(
            [sys.executable, "-c", SHOUT, code],
            inputs={"t": Secret("CANARY")},
            environment={"TOKEN": Secret("CANARY")},
            outputs=["left.txt"],
            name=f"shell-{code}",
        )
    return g.build()


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncGenerator[Engine]:
    backends: dict[str, Given] = {
        "loud": Loud(),
        "process": {"type": "process", "limit": 2},
        "subprocess": {"type": "subprocess", "limit": 3},
    }
    async with Engine(folder=tmp_path / "store", backends=backends) as engine:
        yield engine


async def watched(
    engine: Engine, bound: Bound[object], folder: Path, secret: str
) -> RunOutcome[object]:
    """Run it; while the nodes wait in their processes, look at all command lines."""
    run = await engine.start(bound)

    def look() -> list[str]:
        deadline = time.monotonic() + 30
        while len(list(folder.glob("ready-*"))) < 2 * len(PYTHON):
            assert time.monotonic() < deadline, "the nodes did not come"
            time.sleep(0.01)
        found: list[str] = []
        for process in psutil.Process().children(recursive=True):
            line = Path(f"/proc/{process.pid}/cmdline")
            found += [f"{process.pid} {form}" for form in hits(line.read_bytes(), secret)]
        (folder / "go").touch()
        return found

    assert await to_thread.run_sync(look) == []
    return await run.wait()


@pytest.mark.parametrize("seed", SEEDS)
async def test_a_secret_is_found_nowhere(
    engine: Engine, tmp_path: Path, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = canary(seed)
    monkeypatch.setenv("CANARY", secret)
    meeting = tmp_path / "meeting"
    await anyio.Path(meeting).mkdir()
    outcome = await watched(engine, graph_of(str(meeting)), meeting, secret)
    assert outcome.status == "failed"
    failed = {str(failure.node): failure for failure in outcome.failures}
    names = {"fails-thread", "fails-process", "fails-subprocess", "fails_inline", "loud", "shell-3"}
    assert names <= failed.keys()
    assert len(failed) == len(names) + 33
    assert not [one for one in failed.values() if hits(repr(one).encode(), secret)]
    assert all("***" in one.message for name, one in failed.items() if name != "shell-3")
    assert any("***" in line for line in failed["shell-3"].log)

    events = [event async for event in engine.history(outcome.run)]
    told = [json.dumps(to_json(outcome.run, event), ensure_ascii=False) for event in events]
    assert [line for line in told if hits(line.encode(), secret)] == []
    progress = [event.message for event in events if isinstance(event, NodeProgress)]
    assert len(progress) > 8 * 11
    assert all("***" in text for text in progress)
    assert any(isinstance(event, BackendWarning) for event in events)
    assert any(isinstance(event, NodeFailed) for event in events)

    logs = await to_thread.run_sync(lambda: list(_logs(tmp_path / "store")))
    assert len(logs) >= 2 * len(PYTHON) + 5
    assert all(b"***" in data for data in logs)
    assert await to_thread.run_sync(search, tmp_path, secret) == []


def _logs(store: Path) -> Iterator[bytes]:
    for path in (store / "logs").rglob("*.log"):
        yield path.read_bytes()


GRAPH = '''
import sys

import structlog

from onready import Secret, graph, shell, task
from tests.faults.secret_nodes import fails, fails_inline, passes, say


@task
def talks(token: str = Secret("CANARY")) -> int:
    print("printed", token)
    print("printed too", repr(token), file=sys.stderr)
    structlog.get_logger().info("logged", token=token, more={"a": [token]})
    structlog.get_logger().info(token)
    return len(token)


@graph(on_error="continue")
def main(token: str = Secret("CANARY")) -> int:
    """Says it everywhere."""
    for backend in ("process", "subprocess"):
        passes.with_options(backend=backend)(".", "apart")
        fails.with_options(backend=backend)(".", "apart", {"token": token})
    fails_inline(token)
    shell(["sh", "-c", 'echo "$T" >&2; echo "$T"; exit 3'], environment={"T": Secret("CANARY")})
    return talks()
'''


@pytest.mark.may_block("the command line owns its loop, and writes to the terminal")
def test_the_command_line_never_says_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = canary(len(SEEDS))
    (tmp_path / "go").touch()
    (tmp_path / "canaries.py").write_text(GRAPH)
    (tmp_path / "onready.toml").write_text('secrets = ["env", "dotenv:secrets.env"]\n')
    for name in os.environ:
        if name.startswith("ONREADY_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CANARY", secret)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
    monkeypatch.setenv("COLUMNS", "200")

    done = subprocess.run(
        [sys.executable, "-m", "onready", "run", "canaries.py"],
        capture_output=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 1, done.stderr.decode()
    assert b"***" in done.stderr
    assert hits(done.stdout + done.stderr, secret) == []

    def said(*words: str, code: int = 0) -> str:
        capfd.readouterr()
        assert run_app(list(words)) == code
        shown = "".join(capfd.readouterr())
        assert hits(shown.encode(), secret) == [], words
        return shown

    # In this process, which knows no secret yet: what is kept must be clean already.
    assert "Secret('CANARY')" in said("show", "last")
    assert "***" in said("logs", "last")
    for verb in ("show", "logs", "events"):
        said(verb, "last", "--format", "json")
    assert '"env"' in said("config", "show")
    said("events", "last")
    said("runs", "--format", "json")
    said("plan", "canaries.py", "--format", "json")
    said("graph", "canaries.py")
    said("run", "canaries.py", "--help")
    assert MASKS.forms == ()
    said("run", "canaries.py", "--format", "json", "-s", "fails_inline", code=1)
    assert search(tmp_path, secret) == []
