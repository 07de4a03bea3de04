"""Clean-up nodes: they run whatever became of what they wait for, until the grace is over."""

from __future__ import annotations

import pytest

from onready.engine.events import NodeCancelled
from onready.engine.options import OnError
from onready.engine.scheduler import ends
from onready.engine.scheduler.commands import RetryDue
from onready.engine.scheduler.state import CANCELLING, READY, RUNNING, WAITING
from tests.scheduler.plans import (
    always,
    fragment,
    graphs_map,
    plan,
    subgraph,
    task,
    tasks_map,
)
from tests.scheduler.steps import Steps

POLICIES: tuple[OnError, ...] = ("stop", "continue", "cancel")
PLAN = plan(task("a"), task("b", 0), always(task("c", 0, 1)), task("d", 2))


@pytest.mark.parametrize("policy", POLICIES)
def test_it_waits_for_all_and_others_wait_for_it(policy: OnError) -> None:
    steps = Steps(PLAN, policy)
    assert steps.succeed("a", "b", "c") == ["start b", "start c", "start d"]
    assert steps.succeed("d") == ["end succeeded"]


@pytest.mark.parametrize("policy", POLICIES)
def test_it_runs_after_a_failure(policy: OnError) -> None:
    steps = Steps(PLAN, policy)
    said = steps.fail("a")
    assert "start c" in said
    if policy == "continue":
        assert steps.succeed("c", "d") == ["start d", "end failed: a"]
    else:
        assert steps.succeed("c") == ["end failed: a"]


def test_it_runs_when_the_run_is_cancelled_and_what_it_waits_for_has_ended() -> None:
    steps = Steps(PLAN)
    steps.handle(steps.start("a"))
    assert steps.handle(steps.cancel()) == [
        "cancel a",
        "drop b: cancelled",
        "drop d: cancelled",
    ]
    row = steps["a"]
    assert steps.handle((row, NodeCancelled(0, 0.0, row.key, 1))) == ["start c"]
    assert steps.succeed("c") == ["end cancelled"]


@pytest.mark.parametrize("policy", POLICIES)
def test_what_it_needs_must_have_succeeded(policy: OnError) -> None:
    steps = Steps(plan(task("a"), always(task("c"), 0)), policy)
    assert steps.fail("a") == ["skip c: needs a", "end failed: a"]


def test_under_continue_a_skipped_one_takes_with_it_what_waits_for_it() -> None:
    steps = Steps(plan(task("a"), always(task("c"), 0), task("d", 1), task("e", 2)), "continue")
    assert steps.fail("a") == [
        "skip c: needs a",
        "skip d: needs c",
        "skip e: needs d",
        "end failed: a",
    ]


def test_it_may_be_tried_again_in_a_scope_that_failed() -> None:
    steps = Steps(plan(task("a"), always(task("c", 0, retry=1))))
    steps.fail("a")
    assert steps.handle(steps.start("c"), steps.again("c")) == []
    assert steps.handle((steps["c"], RetryDue(1))) == ["start c"]
    assert steps.succeed("c") == ["end failed: a"]


def test_when_the_grace_is_over_it_is_cancelled() -> None:
    body = fragment(task("x"))
    nodes = [task("a"), always(task("c", 0)), always(task("w", 1)), always(subgraph("s", body, 0))]
    steps = Steps(plan(*nodes))
    assert steps.handle(steps.cancel()) == ["drop a: cancelled", "open s", "start c"]
    steps.handle(steps.open("s"), steps.start("c"))
    steps.handle(steps.start("s/x"))
    assert steps.handle(steps.grace_over()) == [
        "cancel c",
        "drop w: cancelled",
        "cancel s/x",
    ]
    assert steps["c"].state is CANCELLING
    rows = [steps["c"], steps["s/x"]]
    assert steps.handle(*[(row, NodeCancelled(0, 0.0, row.key, 1)) for row in rows]) == [
        "close s cancelled",
        "end cancelled",
    ]


def test_the_end_of_the_grace_is_nothing_to_what_is_not_cancelled() -> None:
    steps = Steps(plan(task("a"), always(task("c", 0))))
    steps.fail("a")
    assert steps.handle(steps.grace_over()) == []
    assert steps["c"].state is READY


def test_it_does_not_run_where_its_scope_was_never_opened() -> None:
    body = fragment(task("x"), always(task("c", 0)))
    steps = Steps(plan(task("a"), subgraph("s", body, 0)))
    assert steps.fail("a") == ["skip s: needs a", "end failed: a"]


def test_an_item_of_a_map_that_cleans_up_is_no_clean_up_node() -> None:
    steps = Steps(plan(task("a"), always(tasks_map("m", 0))))
    steps.fail("a")
    steps.handle(steps.open("m", 3))
    steps.handle(steps.start("m[0]"))
    assert steps.handle(steps.badly("m[0]")) == [
        "skip m[1]: stopped: m[0] failed",
        "skip m[2]: stopped: m[0] failed",
        "close m failed",
        "end failed: a m[0]",
    ]


@pytest.mark.parametrize("failed_before", [False, True])
def test_a_failure_inside_stops_its_own_body_too(*, failed_before: bool) -> None:
    """The sweep from above passes clean-up nodes by, so that their bodies are swept on their own."""
    body = fragment(graphs_map("m", fragment(task("x"), task("y", 0))), task("z", 0))
    steps = Steps(plan(task("a"), always(subgraph("s", body)), task("b", 1)))
    if failed_before:
        steps.fail("a")
    steps.handle(steps.open("s"))
    steps.handle(steps.open("s/m", 2))
    steps.handle(steps.open("s/m[0]"), steps.open("s/m[1]"))
    steps.handle(steps.start("s/m[1]/x"))
    said = steps.fail("s/m[0]/x")
    assert "skip s/m[1]/y: stopped: s/m[0]/x failed" in said
    assert "skip s/z: stopped: s/m[0]/x failed" in said
    said = steps.handle(steps.well("s/m[1]/x"))
    assert said[:3] == ["close s/m[1] cancelled", "close s/m failed", "close s failed"]
    assert steps.scheduler.ended


def test_all_rows_are_opened_before_a_scope_with_one_is_swept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ends, "BUDGET", 2)
    nodes = [task(f"n{at}") for at in range(4)]
    steps = Steps(plan(task("a"), *nodes, always(task("c", 0, 4))))
    assert steps.log == ["start a n0"]
    said = steps.fail("a") + steps.until_quiet()
    assert sorted(said) == [*(f"skip n{at}: stopped: a failed" for at in range(4)), "start c"]
    assert steps.succeed("c") == ["end failed: a"]


def test_one_that_is_opened_late_counts_each_of_its_waits_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`r` is skipped as it is opened, together with `c`: its end is heard of once, not twice."""
    monkeypatch.setattr(ends, "BUDGET", 2)
    steps = Steps(plan(task("x"), task("y"), task("r", 0), always(task("c", 1, 2))), "continue")
    said = steps.fail("x") + steps.until_quiet()
    assert said == ["skip r: needs x"]
    assert (steps["c"].state, steps["c"].pending) == (WAITING, 1)
    assert steps.succeed("y") == ["start c"]


def test_one_that_is_opened_late_needs_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends, "BUDGET", 1)
    steps = Steps(plan(task("x"), always(task("c"), 0), always(task("w", 0))))
    said = steps.fail("x") + steps.until_quiet()
    assert said == ["skip c: needs x", "start w"]


def test_it_goes_on_beside_a_map_that_is_cancelled() -> None:
    body = fragment(task("x"), always(task("c", 0)))
    steps = Steps(plan(graphs_map("m", body)), "cancel")
    steps.handle(steps.open("m", 2))
    steps.handle(steps.open("m[0]"), steps.open("m[1]"))
    steps.handle(steps.start("m[1]/x"))
    assert sorted(steps.fail("m[0]/x")) == ["cancel m[1]/x", "start m[0]/c"]
    row = steps["m[1]/x"]
    assert steps.handle((row, NodeCancelled(0, 0.0, row.key, 1))) == ["start m[1]/c"]
    steps.handle(steps.start("m[1]/c"))
    assert steps["m[1]/c"].state is RUNNING
    # Each is asked once, however deep it is.
    assert steps.handle(steps.grace_over()) == [
        "drop m[0]/c: cancelled",
        "close m[0] failed",
        "cancel m[1]/c",
    ]


def test_in_a_scope_that_failed_it_waits_for_what_still_runs() -> None:
    steps = Steps(plan(task("a"), task("b"), always(task("c", 0, 1))))
    steps.handle(steps.start("b"))
    assert steps.fail("a") == []
    assert steps.handle(steps.well("b")) == ["start c"]
    assert steps.succeed("c") == ["end failed: a"]
