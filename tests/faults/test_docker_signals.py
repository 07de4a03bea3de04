"""Containers of the command line: stopped by signals (F13), left by a driver that was killed (F12)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.docker import engines
from tests.docker.engines import SHELL
from tests.faults.drivers import until
from tests.faults.sizes import NIGHTLY, size

pytestmark = pytest.mark.timeout(900 if NIGHTLY else 120)

COUNT = size(3, 8)
PATIENCE = 60.0
GRAPH = f"""
from onready import GraphBuilder

SCRIPT = '''
trap "touch /marks/term.$ONREADY_INPUT_N" TERM
touch /marks/begun.$ONREADY_INPUT_N
while [ ! -e /marks/gate ]; do sleep 0.1; done
echo $ONREADY_INPUT_N
'''

def patient(marks: str):
    g = GraphBuilder("patient")
    mounts = [f"{{marks}}:/marks"]
    # A second time it would fail.
    first = ["mkdir", "/marks/first"]
    done = g.container("{SHELL}", first, name="first", options={{"mounts": mounts}})
    texts = [
        g.container(
            "{SHELL}",
            ["sh", "-c", SCRIPT],
            name=f"n{{number}}",
            inputs={{"n": number, "after": done}},
            options={{"mounts": mounts}},
        )
        for number in range({COUNT})
    ]
    return g.build(texts)

graph = patient("MARKS")
"""


class Bed:
    """A folder with a graph of containers that wait for a gate, and the command line in it.

    They hear the stop signal, and do not obey.
    """

    def __init__(self, folder: Path, host: str, grace: float) -> None:
        self.folder = folder
        self.host = host
        self.grace = grace
        self.marks = folder / "marks"
        self.marks.mkdir()
        (folder / "patient.py").write_text(GRAPH.replace("MARKS", str(self.marks)))
        (folder / "onready.toml").write_text(
            f'[backends.docker]\ntype = "docker"\nhost = "{host}"\nlimit = {COUNT}\n'
        )

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """The command, on its way."""
        return subprocess.Popen(
            [sys.executable, "-m", "onready", *words],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"ONREADY_GRACE": str(self.grace)},
        )

    @contextmanager
    def running(self) -> Generator[subprocess.Popen[str]]:
        """A run of which all containers wait."""
        with self.begin("run", "patient.py:graph") as child:
            try:
                until(lambda: self.count("begun") == COUNT or child.poll() is not None, "no start")
                assert child.poll() is None, child.communicate()
                yield child
            finally:
                child.kill()

    def count(self, mark: str) -> int:
        """How many containers have left this mark."""
        return len(list(self.marks.glob(f"{mark}.*")))

    def say(self, *words: str) -> str:
        """What the command says; it must succeed."""
        with self.begin(*words) as child:
            out, said = child.communicate(timeout=PATIENCE)
        assert child.returncode == 0, (out, said)
        return out

    def left(self) -> list[str]:
        """The containers of ours that are there."""
        return engines.docker(
            self.host, "ps", "-aq", "--filter", "label=onready.attempt-name"
        ).split()

    def goes_on(self, verb: str) -> None:
        """The run is ended by this verb: what had succeeded is not run again, nothing is left."""
        (self.marks / "gate").touch()
        out = self.say(verb, "last")
        assert json.loads(out.splitlines()[-1]) == [str(number) for number in range(COUNT)], out
        assert not self.left()


@pytest.fixture
def bed(engine: str, tmp_path: Path) -> Callable[[float], Bed]:
    """Makes a folder whose runs have this much grace."""
    return lambda grace: Bed(tmp_path, engine, grace)


def test_sigterm_gives_grace_then_kills_and_the_run_can_go_on(
    bed: Callable[[float], Bed], record_property: Callable[[str, object], None]
) -> None:
    here = bed(1.0)
    with here.running() as child:
        asked = time.monotonic()
        child.send_signal(signal.SIGTERM)
        _, said = child.communicate(timeout=PATIENCE)
        record_property("seconds_to_exit", round(time.monotonic() - asked, 2))
        print(f"\nexit after {time.monotonic() - asked:.2f} s, with a grace of {here.grace} s")
    assert child.returncode == 143, said
    assert "Traceback" not in said
    assert not here.left()
    assert here.count("term") == COUNT
    here.goes_on("retry")


def test_a_second_sigterm_waits_for_nobody(
    bed: Callable[[float], Bed], record_property: Callable[[str, object], None]
) -> None:
    here = bed(600.0)
    with here.running() as child:
        child.send_signal(signal.SIGTERM)
        until(lambda: here.count("term") == COUNT, "not asked to stop")
        asked = time.monotonic()
        child.send_signal(signal.SIGTERM)
        _, said = child.communicate(timeout=PATIENCE)
        record_property("seconds_to_exit", round(time.monotonic() - asked, 2))
        print(f"\nexit {time.monotonic() - asked:.2f} s after the second")
    assert child.returncode == 143, said
    assert not here.left()
    assert "nothing to remove" in here.say("gc")


def test_what_a_killed_driver_left_is_swept_and_nothing_else(
    bed: Callable[[float], Bed], record_property: Callable[[str, object], None]
) -> None:
    here = bed(1.0)
    decoys: list[str] = []

    def docker(*words: str) -> str:
        return engines.docker(here.host, *words)

    try:
        with here.running() as child:
            child.kill()
            child.wait()
        labels = json.loads(docker("inspect", "--format={{json .Config.Labels}}", here.left()[0]))
        another = {**labels, "onready.run": "r-another", "onready.attempt-name": "decoy"}
        marks = [word for name, text in another.items() for word in ("--label", f"{name}={text}")]
        for words in (marks, ["--label", f"run={labels['onready.run']}"]):
            decoys.append(docker("run", "-d", *words, SHELL, "sleep", "600"))
        begun = time.monotonic()
        said = here.say("gc")
        record_property("seconds_to_sweep", round(time.monotonic() - begun, 2))
        print(f"\nswept in {time.monotonic() - begun:.2f} s: {said}")
        assert f"{COUNT} attempts on docker" in said
        running = docker("ps", "-q", "--no-trunc").split()
        assert sorted(running) == sorted(decoys)
    finally:
        for decoy in decoys:
            docker("rm", "-f", decoy)
    here.goes_on("resume")
