"""The leak check and the watch on blocking calls see what they are there to see.

Each case runs pytest of its own, with this project's conftest, on a file that misbehaves.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project.tree import ROOT

HEAD = """
import asyncio, os, subprocess, threading, time
import anyio, anyio.lowlevel, pytest, trio
"""
CASES = {
    "a task": """
@pytest.mark.anyio
async def test_it(anyio_backend_name):
    if anyio_backend_name == "asyncio":
        test_it.task = asyncio.get_running_loop().create_task(asyncio.sleep(60))
    else:
        trio.lowlevel.spawn_system_task(trio.sleep, 60)
""",
    "a thread": """
def test_it():
    threading.Thread(target=time.sleep, args=(5,), daemon=True).start()
""",
    "a descriptor": """
def test_it():
    os.open(os.devnull, os.O_RDONLY)
""",
    "a child": """
def test_it():
    os.posix_spawn("/bin/sleep", ["sleep", "5"], dict(os.environ))
""",
    "a grandchild that left its session": """
def test_it():
    subprocess.run(["sh", "-c", "setsid sleep 5 >/dev/null 2>&1 &"], check=True)
""",
}
CLEAN = """
@pytest.mark.anyio
async def test_it():
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 0.01)
        await anyio.to_thread.run_sync(time.sleep, 0.01)
    await anyio.run_process(["true"])
"""
EXCUSED = """
@pytest.mark.may_leak("this is what is tested")
def test_it():
    os.open(os.devnull, os.O_RDONLY)
"""


def run_pytest(folder: Path, source: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_bytes((ROOT / "tests" / "conftest.py").read_bytes())
    (folder / "pyproject.toml").write_bytes((ROOT / "pyproject.toml").read_bytes())
    (folder / "test_planted.py").write_text(HEAD + source)
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "--rootdir", str(folder), str(folder)],
        cwd=folder,
        env={**os.environ, "PYTEST_ONREADY_GRACE": "0.3"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.may_leak("the planted process lives on for some seconds")
@pytest.mark.parametrize("source", CASES.values(), ids=CASES.keys())
def test_a_test_that_leaves_something_behind_fails(tmp_path: Path, source: str) -> None:
    run = run_pytest(tmp_path, source)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "left behind" in run.stdout


@pytest.mark.parametrize("source", [CLEAN, EXCUSED], ids=["clean", "excused"])
def test_a_test_that_cleans_up_passes(tmp_path: Path, source: str) -> None:
    run = run_pytest(tmp_path, source)
    assert run.returncode == 0, run.stdout + run.stderr


BLOCKING = """
from onready.engine.logs import LogStore

@pytest.mark.anyio
async def test_it(anyio_backend_name, tmp_path):
    store = LogStore(tmp_path)
    store.path("run", "name").parent.mkdir()
    store.path("run", "name").write_bytes(bytes(100))
    list(store.read("run", "name"))
"""


def test_a_blocking_call_of_ours_in_the_loop_fails(tmp_path: Path) -> None:
    run = run_pytest(tmp_path, BLOCKING)
    assert "BlockingError" in run.stdout
    assert "1 failed, 1 passed" in run.stdout
