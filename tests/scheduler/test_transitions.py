"""The transition table: every entry is legal, every other pair is refused with the row's story."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest
from inline_snapshot import snapshot

from onready.engine.errors import InternalError
from onready.engine.events import (
    AttemptPlanned,
    NodeCached,
    NodeCancelled,
    NodeFailed,
    NodeLost,
    NodeRetrying,
    NodeStarted,
    NodeSucceeded,
    RunCancelling,
    ScopeOpened,
)
from onready.engine.plan.model import Plan
from onready.engine.scheduler.commands import Cancel, Command, Drop, Input, Open, RetryDue, Skip
from onready.engine.scheduler.commands import Fact as Posted
from onready.engine.scheduler.core import Scheduler
from onready.engine.scheduler.invariants import check
from onready.engine.scheduler.state import TERMINAL, WAITING, Row, State
from onready.engine.scheduler.transitions import NEXT, TRANSITIONS, Fact, state_diagram
from tests.scheduler.plans import fragment, plan, subgraph, task
from tests.scheduler.playing import failure

LATE: Final = "late"
ILLEGAL: Final = "illegal"

PLAN: Final[Plan] = plan(
    task("first"),
    task("node", 0, retry=1),
    subgraph("inside", fragment(task("leaf")), 0),
    task("other"),
)


def scheduler_with(row_state: State, name: str = "node") -> tuple[Scheduler, Row]:
    """A scheduler whose row `name` came to that state by facts alone, in its first attempt."""
    scheduler = Scheduler(PLAN, "stop")
    scheduler.begin()
    first, node, inside, other = scheduler.root.rows
    row = {"node": node, "inside": inside}[name]
    handle = scheduler.handle
    if row_state is WAITING:
        return scheduler, row
    if row_state is State.SKIPPED:
        handle(
            [(first, event_of(Fact.STARTED, first, 1)), (first, event_of(Fact.FAILED, first, 1))]
        )
        return scheduler, row
    handle([(first, event_of(Fact.STARTED, first, 1)), (first, event_of(Fact.SUCCEEDED, first, 1))])
    stop: list[Posted] = [
        (other, event_of(Fact.STARTED, other, 1)),
        (other, NodeFailed(0, 0.0, other.key, 1, failure())),
    ]
    ways: dict[State, list[Fact]] = {
        State.READY: [],
        State.PLANNED: [Fact.PLANNED],
        State.RUNNING: [Fact.STARTED],
        State.BACKING_OFF: [Fact.STARTED, Fact.RETRYING],
        State.CANCELLING: [Fact.PLANNED],
        State.SUCCEEDED: [Fact.STARTED, Fact.SUCCEEDED],
        State.FAILED: [Fact.STARTED, Fact.FAILED],
        State.LOST: [Fact.STARTED, Fact.LOST],
        State.CANCELLED: [Fact.STARTED, Fact.CANCELLED],
    }
    for fact in ways[row_state]:
        handle([(row, event_of(fact, row, 1))])
    if row_state is State.CANCELLING:
        handle(stop)
    assert row.state is row_state
    assert check(scheduler) == []
    return scheduler, row


def event_of(fact: Fact, row: Row, attempt: int | None = None) -> Input:
    """The input that reports the fact; of the row's attempt if no other is named."""
    number = row.attempt if attempt is None else attempt
    key = row.key
    events: dict[Fact, Input] = {
        Fact.PLANNED: AttemptPlanned(0, 0.0, key, number, "remote", "name"),
        Fact.STARTED: NodeStarted(0, 0.0, key, number),
        Fact.OPENED: ScopeOpened(0, 0.0, key, None),
        Fact.SUCCEEDED: NodeSucceeded(0, 0.0, key, number),
        Fact.CACHED: NodeCached(0, 0.0, key, 0, "other"),
        Fact.FAILED: NodeFailed(0, 0.0, key, number, failure()),
        Fact.RETRYING: NodeRetrying(0, 0.0, key, number, 1.0, failure()),
        Fact.LOST: NodeLost(0, 0.0, key, number, failure("lost")),
        Fact.CANCELLED: NodeCancelled(0, 0.0, key, number),
        Fact.DUE: RetryDue(number),
    }
    return events[fact]


REPORTED: Final = (
    Fact.PLANNED,
    Fact.STARTED,
    Fact.SUCCEEDED,
    Fact.FAILED,
    Fact.RETRYING,
    Fact.LOST,
    Fact.CANCELLED,
    Fact.DUE,
)
BEGINNINGS: Final = frozenset({Fact.PLANNED, Fact.STARTED})


def number_for(state: State, fact: Fact) -> int:
    """The attempt that the fact is about if it is news: the next one, the live one, or none."""
    if state in {State.WAITING, State.READY}:
        return 0 if fact is Fact.FAILED else 1
    if state is State.BACKING_OFF and fact in BEGINNINGS:
        return 2
    return 1


def expected(state: State, fact: Fact) -> State | str:
    after = NEXT[fact].get(state)
    if state in TERMINAL:
        return LATE
    if fact in BEGINNINGS and state in {State.PLANNED, State.RUNNING, State.CANCELLING}:
        # Of the attempt that has begun: said once more, or after the thread was quicker.
        return after or LATE
    if state is State.BACKING_OFF and fact not in BEGINNINGS | {Fact.DUE, Fact.CACHED}:
        return LATE
    return after or ILLEGAL


@pytest.mark.parametrize("fact", [*REPORTED, Fact.CACHED], ids=lambda fact: fact.name)
@pytest.mark.parametrize("state", list(State), ids=lambda state: state.value)
def test_every_pair_of_state_and_fact(state: State, fact: Fact) -> None:
    scheduler, row = scheduler_with(state)
    event = event_of(fact, row, number_for(state, fact))
    late = scheduler.late
    outcome = expected(state, fact)
    if outcome == ILLEGAL:
        with pytest.raises(InternalError, match=f"cannot happen to node when {state.value}") as hit:
            scheduler.handle([(row, event)])
        assert f"node: {state.value}, attempt {row.attempt}" in str(hit.value)
        assert "in the run:" in str(hit.value)
        return
    scheduler.handle([(row, event)])
    assert check(scheduler) == []
    if outcome == LATE:
        assert (row.state, scheduler.late) == (state, late + 1)
    else:
        assert scheduler.late == late
        # A retry that is due starts at once; everything else stays where the table says.
        assert row.state is outcome


@pytest.mark.parametrize("state", list(State), ids=lambda state: state.value)
def test_an_attempt_cannot_end_before_it_was_begun(state: State) -> None:
    scheduler, row = scheduler_with(state)
    event = NodeSucceeded(0, 0.0, row.key, row.attempt + 1)
    if state in TERMINAL:
        scheduler.handle([(row, event)])
        assert scheduler.late == 1
    else:
        with pytest.raises(InternalError, match=r"'node\.succeeded' cannot happen"):
            scheduler.handle([(row, event)])


@pytest.mark.parametrize("fact", REPORTED, ids=lambda fact: fact.name)
def test_news_of_an_older_attempt_is_late_before_while_and_after_the_next(fact: Fact) -> None:
    scheduler, row = scheduler_with(State.BACKING_OFF)
    scheduler.handle([(row, RetryDue(1))])
    steps: tuple[Callable[[], list[Posted]], ...] = (
        list,
        lambda: [(row, event_of(Fact.PLANNED, row, 2))],
        lambda: [(row, event_of(Fact.STARTED, row))],
        lambda: [(row, event_of(Fact.RETRYING, row))],
        lambda: [(row, RetryDue(2))],
        lambda: [(row, event_of(Fact.STARTED, row, 3))],
        lambda: [(row, event_of(Fact.SUCCEEDED, row))],
    )
    for late, step in enumerate(steps):
        scheduler.handle(step())
        before = (row.state, row.attempt, row.retries, row.failure)
        scheduler.handle([(row, event_of(fact, row, 1))])
        assert (row.state, row.attempt, row.retries, row.failure) == before
        assert scheduler.late == late + 1
        assert check(scheduler) == []
    assert row.state is State.SUCCEEDED


def test_what_is_cached_feeds_what_waits_for_it_and_has_had_no_attempt() -> None:
    scheduler = Scheduler(PLAN, "stop")
    scheduler.begin()
    first, node, _, _ = scheduler.root.rows
    scheduler.handle([(first, NodeCached(0, 0.0, first.key, 0, "other", 3))])
    assert (first.state, first.attempt, first.value) == (State.SUCCEEDED, 0, 3)
    assert node.state is State.READY
    assert check(scheduler) == []


def test_a_composite_opens_once() -> None:
    scheduler, row = scheduler_with(State.READY, "inside")
    opened = event_of(Fact.OPENED, row)
    scheduler.handle([(row, opened)])
    assert row.state is State.RUNNING
    body = row.body
    assert body is not None
    for event in (opened, event_of(Fact.FAILED, row), event_of(Fact.CANCELLED, row)):
        scheduler.handle([(row, event)])
    assert (row.body, row.state, scheduler.late) == (body, State.RUNNING, 3)
    leaf = body.rows[0]
    done = [(leaf, event_of(Fact.STARTED, leaf, 1)), (leaf, NodeSucceeded(0, 0.0, leaf.key, 1))]
    scheduler.handle(done)
    scheduler.handle([(row, opened)])
    assert (row.state, scheduler.late) == (State.SUCCEEDED, 4)


def test_what_has_no_body_cannot_open_and_what_waits_cannot() -> None:
    scheduler, row = scheduler_with(State.READY)
    with pytest.raises(InternalError, match=r"'scope\.opened' cannot happen to node when ready"):
        scheduler.handle([(row, event_of(Fact.OPENED, row))])
    assert row.state is State.READY
    for name in ("node", "inside"):
        scheduler, row = scheduler_with(State.WAITING, name)
        with pytest.raises(InternalError, match="when waiting"):
            scheduler.handle([(row, event_of(Fact.OPENED, row))])
    for state in (State.PLANNED, State.RUNNING):
        scheduler, row = scheduler_with(state)
        with pytest.raises(InternalError, match=f"when {state.value}"):
            scheduler.handle([(row, event_of(Fact.OPENED, row))])


# What the scheduler does to rows by itself, and the commands that tell of it.


def stop(scheduler: Scheduler) -> list[Command]:
    other = scheduler.root.rows[3]
    return scheduler.handle(
        [
            (other, event_of(Fact.STARTED, other, 1)),
            (other, NodeFailed(0, 0.0, other.key, 1, failure())),
        ]
    )


@pytest.mark.parametrize(
    ("state", "after"),
    [
        (State.WAITING, State.SKIPPED),
        (State.READY, State.SKIPPED),
        (State.PLANNED, State.CANCELLING),
        (State.RUNNING, State.RUNNING),
        (State.BACKING_OFF, State.CANCELLED),
    ],
)
def test_a_failure_elsewhere_stops_what_has_not_begun(state: State, after: State) -> None:
    scheduler, row = scheduler_with(state)
    commands = [command for command in stop(scheduler) if getattr(command, "row", None) is row]
    kinds = {State.SKIPPED: [Skip], State.CANCELLING: [Cancel], State.CANCELLED: [Drop]}
    assert row.state is after
    assert [type(command) for command in commands] == kinds.get(after, [])
    assert check(scheduler) == []


@pytest.mark.parametrize(
    ("state", "after"),
    [
        (State.WAITING, State.CANCELLED),
        (State.READY, State.CANCELLED),
        (State.PLANNED, State.CANCELLING),
        (State.RUNNING, State.CANCELLING),
        (State.CANCELLING, State.CANCELLING),
        (State.BACKING_OFF, State.CANCELLED),
    ],
)
def test_a_cancelled_run_stops_everything(state: State, after: State) -> None:
    scheduler, row = scheduler_with(state)
    commands = scheduler.handle([(None, RunCancelling(0, 0.0, "enough", 1.0))])
    of_row = [command for command in commands if getattr(command, "row", None) is row]
    assert row.state is after
    assert [type(command) for command in of_row] == [Drop if after is State.CANCELLED else Cancel]
    assert check(scheduler) == []


def test_what_became_ready_in_the_same_turn_as_the_stop_is_taken_back() -> None:
    scheduler = Scheduler(PLAN, "stop")
    scheduler.begin()
    first, node, inside, other = scheduler.root.rows
    commands = scheduler.handle(
        [
            (first, event_of(Fact.STARTED, first, 1)),
            (other, event_of(Fact.STARTED, other, 1)),
            (first, NodeSucceeded(0, 0.0, first.key, 1)),
            (other, NodeFailed(0, 0.0, other.key, 1, failure())),
        ]
    )
    assert (node.state, inside.state) == (State.SKIPPED, State.SKIPPED)
    assert [type(command) for command in commands if isinstance(command, Open | Skip)] == [
        Skip,
        Skip,
    ]
    assert [type(command).__name__ for command in commands] == ["Skip", "Skip", "End"]


def test_the_scheduler_itself_keeps_to_the_table() -> None:
    scheduler, row = scheduler_with(State.RUNNING)
    with pytest.raises(InternalError, match="cannot happen to node when running"):
        scheduler._move(row, Fact.DROP)
    assert row.state is State.RUNNING


def test_the_table_has_each_pair_once_and_ends_where_it_says() -> None:
    assert len({(before, fact) for before, fact, _ in TRANSITIONS}) == len(TRANSITIONS)
    assert {before for before, _, _ in TRANSITIONS} == set(State) - TERMINAL
    assert {fact for _, fact, _ in TRANSITIONS} == set(Fact)
    assert {after for _, _, after in TRANSITIONS} == set(State) - {WAITING}


def test_the_state_diagram() -> None:
    assert state_diagram() == snapshot("""\
stateDiagram-v2
    [*] --> waiting
    waiting --> ready: every wait ended well
    waiting --> skipped: not needed, or its scope failed
    waiting --> cancelled: cancelled before it ran
    ready --> planned: attempt.planned, or handed to a thread pool
    ready --> running: node.started
    ready --> running: scope.opened
    ready --> succeeded: node.cached
    ready --> failed: node.failed
    ready --> skipped: not needed, or its scope failed
    ready --> cancelled: cancelled before it ran
    planned --> running: node.started
    planned --> succeeded: node.succeeded
    planned --> failed: node.failed
    planned --> backing_off: node.retrying
    planned --> lost: node.lost
    planned --> cancelled: node.cancelled
    planned --> cancelling: cancellation was asked for
    running --> succeeded: node.succeeded
    running --> failed: node.failed
    running --> backing_off: node.retrying
    running --> lost: node.lost
    running --> cancelled: node.cancelled
    running --> cancelling: cancellation was asked for
    running --> ready: the body of the rescue failed
    cancelling --> succeeded: node.succeeded
    cancelling --> failed: node.failed
    cancelling --> lost: node.lost
    cancelling --> cancelled: node.cancelled
    backing_off --> ready: the wait before the retry is over
    backing_off --> cancelled: cancelled before it ran
    succeeded --> [*]
    failed --> [*]
    lost --> [*]
    cancelled --> [*]
    skipped --> [*]
""")
