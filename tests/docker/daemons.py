"""The fake daemon as a process of its own, for tests.

Rule of this room: starting and ending it; what it does is in `fake/`.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.docker.engines import REQUIRED

INSIDE = Path(__file__).with_name("fake") / "inside.py"


def lack() -> str:
    """Why its containers cannot be started here; "" if they can."""
    folder = tempfile.mkdtemp(prefix="onready-fake-")
    try:
        return _tried(folder)
    finally:
        shutil.rmtree(folder)


def _tried(folder: str) -> str:
    order = {
        "root": folder,
        "argv": ["true"],
        "environment": {},
        "mounts": [],
        "workdir": "/",
        "hostname": "tried",
        "init": False,
        "uid": os.getuid(),
        "gid": os.getgid(),
    }
    read, write = os.pipe()
    told, told_write = os.pipe()
    try:
        os.write(write, json.dumps(order).encode())
        os.close(write)
        done = subprocess.run(
            [sys.executable, "-I", "-S", str(INSIDE), str(read), str(told_write)],
            check=False,
            capture_output=True,
            text=True,
            pass_fds=(read, told_write),
            timeout=30,
        )
        os.close(told_write)
        said = os.read(told, 65_536).decode()
    finally:
        os.close(read)
        os.close(told)
    return "" if done.returncode == 0 else f"{done.stderr.strip().splitlines()[-1:]} {said}"


def skip_without() -> None:
    """Skip, loudly, or fail where fakes are required, on a machine that has no namespaces."""
    why = lack()
    if why:
        message = f"NO NAMESPACES FOR FAKE CONTAINERS, their tests do not run: {why}"
        if REQUIRED:
            pytest.fail(message)
        pytest.skip(message)


@contextmanager
def fake(*arguments: str) -> Generator[str]:
    """A fake daemon of one's own, in its own process: its address. Gone afterwards."""
    folder = tempfile.mkdtemp(prefix="onready-fake-")
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.docker.fake", folder, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with child:
        try:
            assert child.stdout is not None
            host = child.stdout.readline().strip()
            assert host, "the fake daemon does not begin"
            yield host
        finally:
            assert child.stdin is not None
            child.stdin.close()
            try:
                child.wait(30)
            finally:
                child.kill()
    shutil.rmtree(folder)
