"""A folder to run the command line in, as a real process or in this one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

PIPELINE = '''\
from onready import Retry, each, graph, task


@task
async def download(url: str) -> list[int]:
    return list(range(943))


@task
def clean(raw: list[int]) -> list[int]:
    print("cleaning", len(raw))
    return raw


@task(retry=Retry(1))
def train(data: list[int], alpha: float) -> float:
    print(f"training with {alpha}")
    if alpha == 0.5:
        raise ValueError(f"singular matrix for alpha={alpha}")
    return alpha


@task
def evaluate(models: list[float]) -> float:
    return max(models)


@graph
def pipeline(url: str, alphas: list[float] = [0.1, 0.5, 1.0]) -> float:
    """Train with several settings.

    More words.
    """
    data = clean(download(url))
    models = train.map(data, each(alphas))
    return evaluate(models)
'''


@dataclass(frozen=True)
class Said:
    """What a command said, and its exit code."""

    code: int
    out: str
    err: str


Cli = Callable[..., Said]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, with no setting of ours in the environment."""
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith(("ONREADY_", "COV_CORE")) and name != "ONREADY_TEST":
            monkeypatch.delenv(name)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    return tmp_path


@pytest.fixture
def pipeline(folder: Path) -> Path:
    """pipeline.py: fails for alpha=0.5."""
    path = folder / "pipeline.py"
    path.write_text(PIPELINE)
    return path


@pytest.fixture
def command(folder: Path) -> Cli:
    """Runs `onready ...` as a process of its own."""

    def run(*words: str, **environment: str) -> Said:
        done = subprocess.run(
            [sys.executable, "-m", "onready", *words],
            cwd=folder,
            env=os.environ | environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            timeout=50,
            check=False,
        )
        return Said(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture
def cli(folder: Path, capfd: pytest.CaptureFixture[str]) -> Cli:
    """Runs `onready ...` in this process: for the many cases that need no other."""
    from onready.cli.app import run_app

    def run(*words: str) -> Said:
        capfd.readouterr()
        code = run_app(list(words))
        said = capfd.readouterr()
        return Said(code, said.out, said.err)

    return run
