"""What a replay asks of the scheduler: attempts by number, and nothing swept before its time."""

from __future__ import annotations

import pytest

from onready.engine.errors import Failure
from onready.engine.events import NodeCancelled, NodeSkipped
from onready.engine.names import NodeKey
from onready.engine.options import OnError
from onready.engine.plan.model import Plan
from onready.engine.scheduler import ends
from onready.engine.scheduler.commands import Fact
from onready.engine.scheduler.retry import DRIVER
from onready.engine.scheduler.state import (
    BACKING_OFF,
    CANCELLED,
    PLANNED,
    READY,
    SKIPPED,
    SUCCEEDED,
    WAITING,
)
from tests.scheduler.plans import fragment, plan, rescue, subgraph, task, tasks_map
from tests.scheduler.steps import Steps

INNER = fragment(task("x"), task("y", 0))
PLAN = plan(task("a"), subgraph("s", INNER), task("b", 0), task("c"))


def replaying(what: Plan, policy: OnError = "stop") -> Steps:
    steps = Steps(what, policy)
    steps.scheduler.deferred = True
    return steps


def skipped(steps: Steps, key: str) -> Fact:
    return steps[key], NodeSkipped(0, 0.0, steps[key].key, reason="the log says so")


def dropped(steps: Steps, key: str, attempt: int = 0) -> Fact:
    return steps[key], NodeCancelled(0, 0.0, steps[key].key, attempt, "the log says so")


def tell(steps: Steps, *facts: Fact) -> list[str]:
    """Meanwhile what is not swept yet looks wrong to the invariants."""
    return steps._say(steps.scheduler.handle(facts))


def test_an_attempt_that_the_log_tells_of_is_restored() -> None:
    steps = replaying(PLAN)
    row = steps["a"]
    steps.scheduler.restore(row, 3)
    # Two were made before the run was continued: they used up nothing.
    assert (row.state, row.attempt, row.past) == (PLANNED, 3, 2)
    assert steps.handle(steps.well("a")) == ["start b"]


def test_the_next_attempt_follows_the_ones_before() -> None:
    steps = replaying(PLAN)
    row = steps["a"]
    steps.scheduler.restore(row, 1)
    assert (row.state, row.attempt, row.past) == (PLANNED, 1, 0)


@pytest.mark.parametrize(("key", "attempt"), [("a", 0), ("b", 1)])
def test_nothing_is_restored_without_an_attempt_or_a_ready_row(key: str, attempt: int) -> None:
    steps = replaying(PLAN)
    before = steps[key].state
    steps.scheduler.restore(steps[key], attempt)
    assert (steps[key].state, steps[key].attempt) == (before, 0)


def test_attempts_are_numbered_on_from_those_before_a_retry() -> None:
    steps = Steps(plan(subgraph("s", fragment(task("x", retry=1)), *())))
    steps.scheduler.past = {NodeKey.parse("s/x"): 2}
    steps.handle(steps.open("s"))
    steps.handle(steps.start("s/x"), steps.again("s/x"))
    row = steps["s/x"]
    assert (row.state, row.attempt, row.past, row.retries) == (BACKING_OFF, 3, 2, 1)


def test_an_attempt_that_was_lost_with_its_driver_uses_up_nothing() -> None:
    steps = Steps(plan(task("a", retry=1)))
    why = Failure("lost", "its driver died", reason=DRIVER)
    steps.handle(steps.start("a"), steps.again("a", why))
    row = steps["a"]
    assert (row.attempt, row.past, row.retries, row.infrastructure_retries) == (1, 1, 0, 0)


def test_items_are_numbered_on_too() -> None:
    steps = Steps(plan(tasks_map("m")))
    steps.scheduler.past = {NodeKey.parse("m[1]"): 1}
    steps.handle(steps.open("m", 2))
    assert [row.attempt for row in (steps["m[0]"], steps["m[1]"])] == [0, 1]


def test_nothing_is_swept_while_a_log_is_replayed() -> None:
    steps = replaying(PLAN)
    steps.handle(steps.open("s"))
    said = tell(steps, steps.start("a"), steps.badly("a"))
    assert said == []
    assert not steps.scheduler.busy
    assert [steps[key].state for key in ("b", "c", "s/x")] == [WAITING, READY, READY]
    assert tell(steps, skipped(steps, "b"), skipped(steps, "c")) == [
        "skip b: the log says so",
        "skip c: the log says so",
    ]
    assert tell(steps, dropped(steps, "s/x")) == ["drop s/x: the log says so"]
    steps.scheduler.deferred = False
    assert steps.until_quiet() == [
        "skip s/y: needs s/x",
        "close s cancelled",
        "end failed: a",
    ]


def test_a_wait_for_a_retry_outlives_a_stop_until_the_log_says_how_it_ended() -> None:
    steps = replaying(plan(task("a", retry=1), task("b")))
    tell(steps, steps.start("a"))
    tell(steps, steps.start("b"), steps.badly("b"))
    assert tell(steps, steps.again("a")) == []
    assert steps["a"].state is BACKING_OFF
    assert tell(steps, dropped(steps, "a", 1)) == ["drop a: the log says so", "end failed: b"]
    assert steps["a"].state is CANCELLED


def test_the_log_says_nothing_new_of_what_has_ended() -> None:
    steps = replaying(PLAN)
    tell(steps, steps.start("a"), steps.well("a"))
    assert tell(steps, skipped(steps, "a")) == []
    assert steps["a"].state is SUCCEEDED


def test_scopes_are_opened_though_they_were_stopped() -> None:
    steps = replaying(PLAN)
    tell(steps, steps.start("a"), steps.badly("a"))
    tell(steps, steps.open("s"))
    assert steps["s/y"].state is WAITING


def test_a_scope_that_is_known_to_have_ended_is_swept_and_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    body = fragment(subgraph("in", INNER), task("f"))
    what = plan(rescue("r", body, INNER), rescue("q", body, INNER))
    steps = replaying(what)
    for key in ("r", "q"):
        tell(steps, steps.open(key, arm="body"))
        tell(steps, steps.open(f"{key}?body/in"))
        tell(steps, steps.start(f"{key}?body/f"), steps.badly(f"{key}?body/f"))
    monkeypatch.setattr(ends, "BUDGET", 1)
    inside = steps["r"].body
    assert inside is not None
    steps.scheduler.sweep_now(inside)
    assert tell(steps) == [
        "skip r?body/in/x: stopped: r?body/f failed",
        "skip r?body/in/y: needs r?body/in/x",
        "close r?body/in cancelled",
        "open r",
    ]
    assert steps["q?body/in/x"].state is READY
    assert tell(steps, steps.open("r", arm="handler")) == ["start r?handler/x"]
    steps.scheduler.deferred = False
    assert steps.until_quiet()[-1] == "open q"
    assert steps["q"].state is READY
    assert SKIPPED not in {row.state for row in steps.scheduler.root.rows}
