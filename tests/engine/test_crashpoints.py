"""Crash points themselves: what arms one, what it costs when none is, how the process ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from onready.engine import crashpoints
from onready.engine.crashpoints import CODE, MARK, POINTS, VARIABLE, Trap, crash_point

PROGRAM = """
import sys
from onready.engine.crashpoints import crash_point
for name in sys.argv[1:]:
    crash_point(name)
    print(name, flush=True)
"""


def passing(*names: str, **environment: str) -> tuple[int, list[str]]:
    """The exit code of a process that passes these points, and those that it got past."""
    command = [sys.executable, "-c", PROGRAM, *names]
    ran = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=os.environ | environment,
        timeout=50,
        check=False,
    )
    return ran.returncode, ran.stdout.split()


def test_unless_one_is_armed_passing_is_the_call_of_an_empty_function() -> None:
    assert VARIABLE not in os.environ
    assert crash_point is crashpoints._pass
    assert crashpoints._pass.__code__.co_names == ()  # it looks nothing up


def test_the_process_ends_at_the_point() -> None:
    names = ("spawn.before", "spawn.after", "spawn.before")
    assert passing(*names) == (0, list(names))
    assert passing(*names, **{VARIABLE: "spawn.after"}) == (CODE, ["spawn.before"])
    assert passing(*names, **{VARIABLE: "spawn.before:2"}) == (CODE, list(names[:2]))
    assert passing(*names, **{VARIABLE: "spawn.before:3"}) == (0, list(names))


def test_a_mark_ends_one_process_only(tmp_path: Path) -> None:
    armed = {VARIABLE: "job.after", MARK: str(tmp_path / "mark")}
    assert passing("job.after", **armed) == (CODE, [])
    assert passing("job.after", **armed) == (0, ["job.after"])


@pytest.mark.parametrize("wanted", ["nowhere", "spawn", "spawn.before:often"])
def test_a_point_that_is_none_is_refused(wanted: str) -> None:
    with pytest.raises(ValueError, match=r"spawn|nowhere|often"):
        Trap(wanted)
    code, _ = passing("spawn.before", **{VARIABLE: wanted})
    assert code == 1


def test_every_point_says_where_it_is() -> None:
    assert len(POINTS) == len(set(POINTS.values()))
    assert all(text.startswith(("before ", "after ")) for text in POINTS.values())
