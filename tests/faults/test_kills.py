"""F1: a driver of about 200 nodes is killed at random times, again and again; then it is resumed.

Each life is another process in another working directory. Once the run has ended its value and the
end of every node are those of a run that nobody disturbed; what was committed at a kill has not
run again; each kill has cost no node more than one execution.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import anyio
import pytest

from onready.engine.events import (
    AnyEvent,
    AttemptPlanned,
    NodeFailed,
    NodeSkipped,
    NodeStarted,
    NodeSucceeded,
    RunResumed,
    RunStarted,
    RunSucceeded,
    ScopeClosed,
)
from onready.engine.history import check_history
from onready.engine.plan.dump import load_plan
from tests.faults import killed
from tests.faults.sizes import size

ROOT: Final = Path(__file__).parents[2]
DEADLINE: Final = 120.0
"""Seconds that one life may take on a machine that is busy."""
HANGING: Final = 60.0
"""Seconds until the first dispatch of a resumed run that are no matter of speed any more."""
PROGRAM: Final = "from tests.faults import killed; killed.main()"

CASES: Final = {
    ("everything", "sqlite"): size(11, 300),
    ("everything", "files"): size(5, 100),
    ("tolerant", "sqlite"): size(4, 100),
}
"""Kills by shape and run log."""


@dataclass
class Story:
    """One run over its lives: what was seen when each of them ended."""

    folder: Path
    shape: str
    log: str
    lives: int = 0
    kills: int = 0
    committed: dict[str, int] = field(default_factory=dict)
    """Nodes whose success was in the log at a kill, and how often they had run by then."""
    value: object = None

    def live(self, how: str, condition: Callable[[], bool], *, group: bool) -> bool:
        """One process, killed as soon as the condition holds; whether it ended well before."""
        home = self.folder / f"home{self.lives}"
        home.mkdir()
        self.lives += 1
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, how, str(self.folder), self.log, self.shape],
            cwd=home,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        with process:
            end = time.monotonic() + DEADLINE
            while process.poll() is None and not condition():
                assert time.monotonic() < end, f"life {self.lives} does not end"
                time.sleep(0.001)
            if process.poll() is None:
                (os.killpg if group else os.kill)(process.pid, signal.SIGKILL)
            said, complained = process.communicate(timeout=DEADLINE)
        if process.returncode == 0:
            self.value = json.loads(said)
            return True
        assert process.returncode == -signal.SIGKILL, complained
        self.kills += 1
        return False

    def lines(self) -> list[list[str]]:
        """Executions so far: key, attempt, process."""
        path = self.folder / "ledger"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []

    def executions(self) -> Counter[str]:
        return Counter(line[0] for line in self.lines())

    def judge(self) -> list[AnyEvent]:
        """After a life: the record can have happened, and what was committed is untouched."""
        events, wrong = anyio.run(recorded, self)
        assert wrong == []
        executions = self.executions()
        for node, count in self.committed.items():
            assert executions[node] == count, f"{node} was committed, and ran again"
        for event in events:
            if isinstance(event, NodeSucceeded) and str(event.node) not in self.committed:
                self.committed[str(event.node)] = executions[str(event.node)]
                assert executions[str(event.node)], f"{event.node} succeeded, and never ran"
        for node, count in executions.items():
            assert count <= 1 + self.kills, f"{node} ran {count} times, for {self.kills} kills"
        return events


async def recorded(story: Story) -> tuple[list[AnyEvent], list[str]]:
    """The events of the run, and what `onready verify` says of them."""
    async with killed.open_engine(story.folder, story.log) as engine:
        events = [event async for batch in engine.run_log.read(killed.RUN) for event in batch]
        if not events:
            return [], []
        first = events[0]
        assert isinstance(first, RunStarted)
        plan = load_plan(await engine.catalog.read(f"plans/{first.fingerprint}.json"))
    return events, [str(violation) for violation in check_history(events, plan)]


def ends(events: Sequence[AnyEvent]) -> dict[str, str]:
    """What became of each node and composite."""
    kinds = (NodeSucceeded, NodeFailed, NodeSkipped)
    found = {str(event.node): type(event).__name__ for event in events if isinstance(event, kinds)}
    closed = {f"{e.node}/": e.status for e in events if isinstance(e, ScopeClosed)}
    return found | closed


def first_dispatches(folder: Path, events: Sequence[AnyEvent]) -> list[float]:
    """Seconds from each call that resumed the run to the first attempt that was begun then."""
    calls = [float(line) for line in (folder / "calls").read_text().split()]
    found: list[float] = []
    called: float | None = None
    for event in events:
        if isinstance(event, RunResumed):
            called = max(call for call in calls if call <= event.at)
        elif called is not None and isinstance(event, AttemptPlanned | NodeStarted):
            found.append(event.at - called)
            called = None
    return found


def when(source: random.Random, story: Story) -> Callable[[], bool]:
    """When a life is to end: some while after it has begun, or after so many nodes."""
    if source.random() < 0.25:
        end = time.monotonic() + source.uniform(0.0, 1.5)
        return lambda: time.monotonic() > end
    path = story.folder / "ledger"
    wanted = len(story.lines()) + source.randrange(1, 80)
    pause = source.uniform(0.0, 0.02)

    def condition() -> bool:
        if not path.exists() or path.read_bytes().count(b"\n") < wanted:
            return False
        time.sleep(pause)
        return True

    return condition


@cache
def undisturbed(shape: str) -> tuple[object, dict[str, str], set[str]]:
    """The value, the end of every node, and the nodes that run, where nobody is killed."""
    with TemporaryDirectory(prefix="onready-undisturbed-") as folder:
        return _undisturbed(Story(Path(folder), shape, "sqlite"))


def _undisturbed(story: Story) -> tuple[object, dict[str, str], set[str]]:
    assert story.live("start", lambda: False, group=True)
    return story.value, ends(story.judge()), set(story.executions())


@pytest.mark.timeout(size(300, 7200))
@pytest.mark.parametrize(("shape", "log"), CASES)
def test_a_killed_run_ends_as_if_nothing_had_been(
    shape: str, log: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    expected, expected_ends, nodes = undisturbed(shape)
    kills = runs = 0
    waits: list[float] = []
    while kills < CASES[shape, log]:
        source = random.Random(f"{shape}/{log}/{runs}")
        folder = tmp_path / str(runs)
        folder.mkdir()
        story = Story(folder, shape, log)
        runs += 1
        while not story.live(
            source.choice(("start", "resume")),
            when(source, story) if kills + story.kills < CASES[shape, log] else lambda: False,
            group=source.random() < 0.5,
        ):
            story.judge()
        events = story.judge()
        kills += story.kills
        assert isinstance(events[-1], RunSucceeded)
        assert story.value == expected, folder
        assert ends(events) == expected_ends
        assert set(story.executions()) == nodes
        waits += first_dispatches(folder, events)
    slowest = max(waits, default=0.0)
    record_property("slowest_first_dispatch_seconds", slowest)
    print(f"{kills} kills of {runs} runs; slowest first dispatch after a resume {slowest:.3f} s")
    assert slowest < HANGING
