"""The benchmarks of containers run and print their tables; what they measure is not looked at."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.timeout(180)


def run(engine: str, module: str, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *words],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=150,
        env={**os.environ, "ONREADY_DOCKER": engine},
    )
    # 1: the machine is busy, and a ratio is not kept.
    assert done.returncode in {0, 1}, done.stderr
    assert not done.stderr
    return done.stdout


def test_containers_per_second(engine: str) -> None:
    found = run(
        engine, "benchmarks.containers", "--concurrency", "2", "--containers", "2", "--rounds", "1"
    )
    _, row = found.splitlines()
    window, *rates = row.split()
    assert window == "2"
    assert all(float(rate.removesuffix("/s")) > 0 for rate in rates)


def test_stalls_of_the_loop(engine: str) -> None:
    found = run(engine, "benchmarks.stalls", "--containers", "1", "--seconds", "1")
    _, *rows = found.splitlines()
    loops = [words[2] for row in rows if (words := row.split())[0] == "as"]
    assert loops == ["idle", "onready"]
    assert all("MiB/s" in row for row in rows if "onready" in row)
