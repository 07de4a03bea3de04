"""Ordered write-behind: whatever moment the process dies in, the log is a gapless prefix."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from onready import Engine
from onready.engine.events import AnyEvent, NodeStarted, NodeSucceeded, RunStarted, RunSucceeded
from onready.engine.plan.compile import compile_plan
from onready.engine.plan.model import FromNode, Gather
from onready.engine.spi import Capabilities, RunFilter
from tests.engine import crashing

pytestmark = pytest.mark.anyio

ROUNDS = 4


def crash(folder: Path, run: str, after: int) -> None:
    """Run the graph in a child, and kill that once `after` of its nodes have run."""
    command = [sys.executable, "-m", "tests.engine.crashing", str(folder), run]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    marks = folder / f"{run}.marks"
    deadline = time.monotonic() + 40
    while child.poll() is None and (not marks.exists() or marks.stat().st_size < after):
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    child.send_signal(signal.SIGKILL)
    output, errors = child.communicate(timeout=40)
    assert (child.returncode, output, errors) == (-signal.SIGKILL, "", "")


def check(events: Sequence[AnyEvent]) -> int:
    """The log is a prefix in which every success follows those of its parents; their number."""
    assert [event.seq for event in events] == list(range(1, len(events) + 1))
    assert isinstance(events[0], RunStarted)
    parents = crashing.parents()
    started: set[str] = set()
    done: set[str] = set()
    for event in events:
        if isinstance(event, NodeStarted):
            started.add(str(event.node))
            assert parents[str(event.node)] <= done, event
        elif isinstance(event, NodeSucceeded):
            assert str(event.node) in started - done, event
            assert parents[str(event.node)] <= done, event
            done.add(str(event.node))
    return len(done)


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # what is read back knows no loop
async def test_a_killed_process_leaves_a_gapless_prefix(tmp_path: Path) -> None:
    for number in range(ROUNDS):
        crash(tmp_path, f"run-{number}", 1 + number * crashing.WIDTH * crashing.DEPTH // ROUNDS)
    counts: list[int] = []
    async with Engine(folder=tmp_path) as engine:
        for record in await engine.runs(RunFilter()):
            events = [event async for event in engine.history(record.run)]
            assert not isinstance(events[-1], RunSucceeded)
            counts.append(check(events))
    assert len(counts) <= ROUNDS
    assert any(counts)


async def test_the_check_sees_what_it_is_for(engine: Engine) -> None:
    run = await engine.start(crashing.build(None))
    await run.result()
    events = [event async for event in run.events()]
    assert check(events) == crashing.WIDTH * crashing.DEPTH
    places = [n for n, event in enumerate(events) if isinstance(event, NodeSucceeded)]
    with pytest.raises(AssertionError):
        check(events[: places[0]] + events[places[0] + 1 :])
    events[places[0]].seq, events[places[-1]].seq = events[places[-1]].seq, events[places[0]].seq
    with pytest.raises(AssertionError):
        check(sorted(events, key=lambda event: event.seq))


def test_the_parents_are_those_of_the_plan() -> None:
    plan = compile_plan(crashing.build(None), backends={"inline": Capabilities(coroutines=True)})
    found = {
        node.name: {plan.root.nodes[position].name for position in node.waits}
        for node in plan.root.nodes
    }
    assert found == crashing.parents()
    assert isinstance(plan.root.result, FromNode | Gather)
