"""`run_sync`: its value, its failure, and Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from onready import RunFailed, run_sync
from tests.engine import work


def test_the_value() -> None:
    assert run_sync(work.diamond.bind(3), memory=True) == 10


def test_the_value_from_stores_on_disk(tmp_path: Path) -> None:
    assert run_sync(work.diamond.bind(3), folder=tmp_path / "state", max_parallel=1) == 10
    assert (tmp_path / "state" / "runs.db").exists()


def test_a_failure_is_raised_as_it_is() -> None:
    with pytest.raises(RunFailed) as caught:
        run_sync(work.boom.bind(1), memory=True)
    assert [failure.message for failure in caught.value.failures] == ["no 1"]


def test_a_time_limit_and_a_policy_are_handed_on() -> None:
    with pytest.raises(RunFailed, match="failed"):
        run_sync(work.forever.bind(), memory=True, timeout=0.01)
    work.calls.clear()
    with pytest.raises(RunFailed):
        run_sync(work.fails_beside.bind(1), memory=True, on_error="continue")
    assert work.calls == ["first", "second"]


INTERRUPTED = """
import sys
from pathlib import Path
import anyio
from onready import run_sync, task

@task
async def forever(folder: str) -> None:
    await anyio.Path(folder, "begun").touch()
    try:
        await anyio.sleep_forever()
    finally:
        Path(folder, "ended").touch()

try:
    run_sync(forever.bind(sys.argv[1]), folder=sys.argv[1] + "/state")
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_an_interrupt_cancels_the_run_and_goes_on(tmp_path: Path) -> None:
    # Not measured: with a tracer in it, this child's loop reports exceptions that were caught.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
    child = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 40
    while not (tmp_path / "begun").exists() and child.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    output, errors = child.communicate(timeout=40)
    assert errors == ""
    assert (child.returncode, output) == (0, "interrupted\n")
    assert (tmp_path / "ended").exists()
    assert statuses(tmp_path / "state") == ["cancelled"]


def statuses(folder: Path) -> list[str]:
    import anyio

    from onready import Engine

    async def look() -> list[str]:
        async with Engine(folder=folder) as engine:
            return [str(record.status) for record in await engine.runs()]

    return anyio.run(look)
