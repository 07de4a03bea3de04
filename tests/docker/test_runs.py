"""Whole runs on a real engine: through the command line, with options checked before anything runs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from onready import Engine, GraphBuilder, graph, task
from onready.engine.errors import GraphError
from tests.docker import engines
from tests.docker.engines import PYTHON, SHELL

pytestmark = [pytest.mark.timeout(180)]

GRAPH = """
from onready import graph, task

@task
def half(x: int) -> float:
    print("halving", x)
    return x / 2

@task
def add(parts: list[float]) -> float:
    return sum(parts)

@graph
def sums(count: int = 3) -> float:
    return add([half(n) for n in range(3)])
"""


def onready(folder: Path, *words: str) -> subprocess.Popen[str]:
    """The command, in that folder."""
    return subprocess.Popen(
        [sys.executable, "-m", "onready", *words],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def configured(folder: Path, engine: str) -> None:
    (folder / "sums.py").write_text(GRAPH)
    (folder / "onready.toml").write_text(
        f'[backends.docker]\ntype = "docker"\nhost = "{engine}"\n'
        f'image = "{PYTHON}"\ncode = "mount"\n'
    )


def test_a_graph_from_a_file_runs_in_containers(engine: str, tmp_path: Path) -> None:
    configured(tmp_path, engine)
    with onready(tmp_path, "run", "sums.py:sums", "--backend", "docker") as child:
        out, said = child.communicate(timeout=120)
    assert child.returncode == 0, said
    assert json.loads(out.splitlines()[-1]) == 1.5, out
    with onready(tmp_path, "logs", "last") as child:
        out, said = child.communicate(timeout=60)
    assert sorted(line for line in out.splitlines() if "halving" in line), (out, said)
    assert not engines.docker(engine, "ps", "-aq", "--filter", "label=onready.run")
    assert not list((tmp_path / ".onready" / "work").glob("*/*"))


@task(backend="docker", image=PYTHON, options={"pull": "sometimes"})
def badly() -> int:
    return 1


@graph
def bad() -> int:
    return badly()


@pytest.mark.anyio
async def test_options_are_checked_when_the_graph_is_compiled(engine: str) -> None:
    settings = {"type": "docker", "host": engine}
    async with Engine.memory(backends={"docker": settings}) as made:
        with pytest.raises(GraphError, match=r"test_runs.py:\d+: G055: .* pull: Input should be"):
            await made.run(bad.bind())
        g = GraphBuilder("g")
        g.shell(["true"], backend="docker")
        with pytest.raises(GraphError, match="is given no image"):
            await made.run(g.build())
        g = GraphBuilder("g")
        g.container(SHELL, ["true"], backend="subprocess")
        with pytest.raises(GraphError, match="runs no images"):
            await made.run(g.build())
        g = GraphBuilder("g")
        with pytest.raises(GraphError, match="cannot name an image"):
            g.container("", ["true"])
