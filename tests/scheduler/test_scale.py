"""Long, deep and wide: nothing recurses, and no call opens or sweeps more than a piece."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator

import pytest

from onready.engine.events import (
    NodeFailed,
    NodeStarted,
    NodeSucceeded,
    RunCancelling,
    ScopeOpened,
)
from onready.engine.options import OnError
from onready.engine.plan.model import Plan
from onready.engine.scheduler.commands import Close, Command, Drop, End, Fact, Skip, Start
from onready.engine.scheduler.core import Scheduler
from onready.engine.scheduler.ends import BUDGET
from onready.engine.scheduler.finding import forget
from onready.engine.scheduler.invariants import check
from onready.engine.scheduler.state import Row, State
from tests.scheduler.plans import chain, nested, plan, task, tasks_map
from tests.scheduler.playing import failure
from tests.scheduler.steps import Steps

WIDE = 100_000
DEPTH = 3_000


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Rows are unknown to the garbage collector: let go of them."""
    yield
    for scheduler in begun:
        forget(scheduler.root)
    begun.clear()


begun: list[Scheduler] = []


def begin(plan: Plan, policy: OnError = "stop") -> tuple[Scheduler, list[Command]]:
    """A scheduler, and its first commands."""
    scheduler = Scheduler(plan, policy)
    begun.append(scheduler)
    return scheduler, scheduler.begin()


def deep(policy: OnError = "stop") -> tuple[Scheduler, Row]:
    """A scheduler with 3,000 graphs open in each other, and the task in the innermost."""
    steps = Steps.opened(nested(DEPTH), policy)
    begun.append(steps.scheduler)
    return steps.scheduler, steps.deepest.rows[0]


@pytest.fixture
def shallow() -> Iterator[None]:
    """Little room on the stack: what recurses by the size of a plan fails at once."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 60)
    try:
        yield
    finally:
        sys.setrecursionlimit(before)


def starts(commands: list[Command]) -> list[Fact]:
    """What was started runs and ends well."""
    facts: list[Fact] = []
    for command in commands:
        if isinstance(command, Start):
            for row in command.rows:
                facts.append((row, NodeStarted(0, 0.0, row.key, 1)))
                facts.append((row, NodeSucceeded(0, 0.0, row.key, 1)))
    return facts


def to_the_end(scheduler: Scheduler, commands: list[Command]) -> tuple[End, int]:
    """How it ends, and how many calls that took."""
    calls = 0
    while True:
        for command in commands:
            if isinstance(command, End):
                return command, calls
        calls += 1
        commands = scheduler.handle(starts(commands))


@pytest.mark.usefixtures("shallow")
def test_a_chain_of_10000_needs_no_recursion() -> None:
    scheduler, commands = begin(chain(10_000))
    end, _ = to_the_end(scheduler, commands)
    assert end.status == "succeeded"


@pytest.mark.usefixtures("shallow")
@pytest.mark.parametrize("policy", ["stop", "continue", "cancel"])
def test_a_chain_of_10000_that_fails_at_its_head(policy: OnError) -> None:
    scheduler, _ = begin(chain(10_000), policy)
    row = scheduler.root.rows[0]
    commands = scheduler.handle(
        [
            (row, NodeStarted(0, 0.0, row.key, 1)),
            (row, NodeFailed(0, 0.0, row.key, 1, failure())),
        ]
    )
    # Those that are open, and one more piece; the rest follow, or are never opened.
    assert sum(isinstance(command, Skip | Drop) for command in commands) < 2 * BUDGET
    end, _ = to_the_end(scheduler, commands)
    assert end.status == "failed"
    assert check(scheduler) == []


def test_3000_nested_graphs_close_without_recursion(request: pytest.FixtureRequest) -> None:
    scheduler, leaf = deep()
    request.getfixturevalue("shallow")
    commands = scheduler.handle(
        [
            (leaf, NodeStarted(0, 0.0, leaf.key, 1)),
            (leaf, NodeSucceeded(0, 0.0, leaf.key, 1)),
        ]
    )
    assert [type(command) for command in commands] == [Close] * DEPTH + [End]
    assert [command.status for command in commands if isinstance(command, Close | End)] == [
        "succeeded"
    ] * (DEPTH + 1)


@pytest.mark.parametrize("policy", ["stop", "continue", "cancel"])
def test_3000_nested_graphs_fail_without_recursion(
    policy: OnError, request: pytest.FixtureRequest
) -> None:
    scheduler, leaf = deep(policy)
    request.getfixturevalue("shallow")
    commands = scheduler.handle(
        [
            (leaf, NodeStarted(0, 0.0, leaf.key, 1)),
            (leaf, NodeFailed(0, 0.0, leaf.key, 1, failure())),
        ]
    )
    assert sum(isinstance(command, Close) for command in commands) == DEPTH
    assert to_the_end(scheduler, commands)[0].failed == [leaf]


def test_3000_nested_graphs_are_cancelled_without_recursion(
    request: pytest.FixtureRequest,
) -> None:
    scheduler, _ = deep()
    request.getfixturevalue("shallow")
    commands = scheduler.handle([(None, RunCancelling(0, 0.0, "enough", 1.0))])
    calls = 1
    while not any(isinstance(command, End) for command in commands):
        commands = scheduler.handle(())
        calls += 1
    # Two a level: the graph's row and its body.
    assert DEPTH / BUDGET <= calls <= 2 * DEPTH / BUDGET + 2


def test_a_map_of_100000_opens_in_pieces() -> None:
    scheduler, _ = begin(plan(tasks_map("m"), task("z", 0)))
    row = scheduler.root.rows[0]
    commands = scheduler.handle([(row, ScopeOpened(0, 0.0, row.key, WIDE))])
    body = row.body
    assert body is not None
    opened = len(body.rows)
    assert 0 < opened <= BUDGET
    calls = 1
    while scheduler.busy:
        # What was started ends while the rest is opened.
        commands = scheduler.handle(starts(commands))
        assert len(body.rows) - opened <= BUDGET
        opened = len(body.rows)
        calls += 1
    assert opened == WIDE
    assert calls <= WIDE / BUDGET + 2
    assert check(scheduler) == []
    end, _ = to_the_end(scheduler, commands)
    assert end.status == "succeeded"


def test_a_map_of_100000_is_cancelled_in_pieces() -> None:
    scheduler, _ = begin(plan(tasks_map("m")))
    row = scheduler.root.rows[0]
    scheduler.handle([(row, ScopeOpened(0, 0.0, row.key, WIDE))])
    while scheduler.busy:
        scheduler.handle(())
    commands = scheduler.handle([(None, RunCancelling(0, 0.0, "enough", 1.0))])
    dropped, calls = 0, 1
    while not any(isinstance(command, End) for command in commands):
        here = sum(isinstance(command, Drop) for command in commands)
        assert here <= BUDGET
        dropped += here
        commands = scheduler.handle(())
        calls += 1
    dropped += sum(isinstance(command, Drop) for command in commands)
    assert dropped == WIDE
    assert calls <= WIDE / BUDGET + 3
    assert scheduler.ended


def test_a_map_cancelled_while_it_opens_opens_no_more() -> None:
    scheduler, _ = begin(plan(tasks_map("m")))
    row = scheduler.root.rows[0]
    scheduler.handle([(row, ScopeOpened(0, 0.0, row.key, WIDE))])
    body = row.body
    assert body is not None
    opened = len(body.rows)
    scheduler.handle([(None, RunCancelling(0, 0.0, "enough", 1.0))])
    while scheduler.busy:
        scheduler.handle(())
    assert (len(body.rows), body.unopened) == (opened, WIDE - opened)
    assert scheduler.ended
    assert row.state is State.CANCELLED
    assert check(scheduler) == []
