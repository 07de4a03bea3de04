"""Rescues: a body that fails, and the handler that makes good for it."""

from __future__ import annotations

import pytest

from onready.engine.errors import InternalError
from onready.engine.events import NodeCancelled, ScopeOpened
from onready.engine.options import OnError
from onready.engine.scheduler import ends
from onready.engine.scheduler.state import FAILED, READY
from tests.scheduler.plans import (
    always,
    fragment,
    graphs_map,
    plan,
    rescue,
    subgraph,
    task,
    tasks_map,
)
from tests.scheduler.playing import failure
from tests.scheduler.steps import Steps

BODY = fragment(task("x"), task("y", 0))
HANDLER = fragment(task("h"))
PLAN = plan(rescue("r", BODY, HANDLER), task("z", 0), task("beside"))
POLICIES: tuple[OnError, ...] = ("stop", "continue", "cancel")


def in_the_body(policy: OnError = "stop") -> Steps:
    """The body is open and `r?body/x` runs; so does what is beside the rescue."""
    steps = Steps(PLAN, policy)
    assert steps.handle(steps.open("r", arm="body")) == ["start r?body/x"]
    steps.handle(steps.start("r?body/x"), steps.start("beside"))
    return steps


@pytest.mark.parametrize("policy", POLICIES)
def test_a_body_that_ends_well_needs_no_handler(policy: OnError) -> None:
    steps = in_the_body(policy)
    assert steps.handle(steps.well("r?body/x"), steps.well("beside")) == ["start r?body/y"]
    assert steps.succeed("r?body/y") == ["close r succeeded", "start z"]
    assert steps.succeed("z") == ["end succeeded"]


@pytest.mark.parametrize("policy", POLICIES)
def test_the_handler_takes_over_and_the_failure_is_forgiven(policy: OnError) -> None:
    steps = in_the_body(policy)
    why = failure("timeout")
    said = steps.handle(steps.badly("r?body/x", why))
    assert [word.partition(":")[0] for word in said[:-1]] == [
        "drop r?body/y" if policy == "cancel" else "skip r?body/y"
    ]
    assert said[-1] == "open r"
    row = steps["r"]
    assert (row.state, row.failure, row.body) == (READY, why, None)
    assert not steps.scheduler.root.doomed
    assert steps.handle(steps.open("r", arm="handler")) == ["start r?handler/h"]
    assert steps.succeed("r?handler/h") == ["close r succeeded", "start z"]
    assert steps.handle(steps.start("z"), steps.well("z"), steps.well("beside")) == [
        "end succeeded"
    ]


@pytest.mark.parametrize("policy", ["stop", "cancel"])
def test_a_handler_that_fails_fails_what_is_around(policy: OnError) -> None:
    steps = in_the_body(policy)
    steps.handle(steps.badly("r?body/x"))
    steps.handle(steps.open("r", arm="handler"), steps.well("beside"))
    said = steps.fail("r?handler/h")
    assert said[0] == "close r failed"
    assert said[-1] == "end failed: r?handler/h"


def test_a_cancelled_body_cancels_the_rescue_and_what_is_around() -> None:
    steps = in_the_body()
    row = steps["r?body/x"]
    assert steps.handle((row, NodeCancelled(0, 0.0, row.key, 1)), steps.well("beside")) == [
        "skip z: stopped: r?body/x failed",
        "skip r?body/y: needs r?body/x",
        "close r cancelled",
        "end cancelled",
    ]


def test_in_a_scope_that_failed_meanwhile_no_handler_starts() -> None:
    steps = in_the_body()
    steps.handle(steps.badly("beside"))
    assert steps.handle(steps.badly("r?body/x")) == [
        "close r failed",
        "end failed: beside r?body/x",
    ]


def test_nor_where_the_sweep_has_not_come_to_its_scope_yet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inner = fragment(rescue("r", fragment(task("x")), HANDLER))
    nodes = [task(f"n{at}") for at in range(5)]
    steps = Steps(plan(task("a"), *nodes, subgraph("s", inner)))
    steps.handle(steps.open("s"))
    steps.handle(steps.open("s/r", arm="body"), steps.start("a"))
    steps.handle(steps.start("s/r?body/x"))
    monkeypatch.setattr(ends, "BUDGET", 2)
    steps.handle(steps.badly("a"))
    assert steps.scheduler.busy
    assert not steps["s/r"].scope.doomed
    # Else the handler would be asked for, and the failure forgotten.
    said = steps.handle(steps.badly("s/r?body/x"))
    assert "close s/r failed" in said
    assert steps.until_quiet()[-1] == "end failed: a s/r?body/x"


@pytest.mark.parametrize("together", [False, True])
def test_a_body_that_ended_before_the_cancellation_was_rescued(*, together: bool) -> None:
    """A replay sees the facts one by one: whether they came in one batch must not matter."""
    steps = Steps(plan(rescue("r", fragment(task("x")), HANDLER)))
    steps.handle(steps.open("r", arm="body"))
    steps.handle(steps.start("r?body/x"))
    facts = [steps.badly("r?body/x"), steps.cancel()]
    first, *rest = [facts] if together else [facts[:1], facts[1:]]
    said = steps.handle(*first)
    for more in rest:
        said = steps.handle(*more)
    assert said == ["drop r: cancelled", "end cancelled"]


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("other", ["badly", "lost", "cancelled"])
def test_nor_may_it_where_something_else_failed_in_that_batch(
    other: str, *, together: bool
) -> None:
    steps = Steps(plan(rescue("r", fragment(task("x")), HANDLER), task("a")))
    steps.handle(steps.open("r", arm="body"))
    steps.handle(steps.start("r?body/x"), steps.start("a"))
    row = steps["a"]
    cancelled = (row, NodeCancelled(0, 0.0, row.key, 1))
    facts = {"badly": steps.badly("a"), "lost": steps.lose("a"), "cancelled": cancelled}
    first = steps.badly("r?body/x")
    if together:
        said = steps.handle(first, facts[other])
    else:
        said = steps.handle(first)[1:] + steps.handle(facts[other])
    assert said == [
        "skip r: stopped: a failed",
        "end cancelled" if other == "cancelled" else "end failed: a",
    ]


def test_an_inner_failure_stops_the_body_and_nothing_else() -> None:
    body = fragment(graphs_map("m", BODY), task("w"))
    steps = Steps(plan(rescue("r", body, HANDLER), task("beside")))
    steps.handle(steps.open("r", arm="body"))
    steps.handle(steps.open("r?body/m", 2))
    steps.handle(steps.open("r?body/m[0]"), steps.open("r?body/m[1]"))
    steps.handle(steps.start("r?body/w"))
    said = steps.fail("r?body/m[1]/x")
    assert "close r?body/m failed" in said
    assert steps["r?body/m"].state is FAILED
    assert not steps.scheduler.root.doomed
    assert steps.succeed("beside") == []
    assert steps.handle(steps.well("r?body/w")) == ["open r"]
    assert steps["r"].failure == failure()


def test_a_rescue_in_a_rescue() -> None:
    inner = rescue("in", BODY, HANDLER)
    steps = Steps(plan(rescue("out", fragment(inner), HANDLER)))
    steps.handle(steps.open("out", arm="body"))
    steps.handle(steps.open("out?body/in", arm="body"))
    steps.fail("out?body/in?body/x")
    steps.handle(steps.open("out?body/in", arm="handler"))
    assert steps.fail("out?body/in?handler/h") == ["close out?body/in failed", "open out"]
    steps.handle(steps.open("out", arm="handler"))
    assert steps.succeed("out?handler/h") == ["close out succeeded", "end succeeded"]


def test_a_handler_starts_in_a_stopped_scope_where_it_cleans_up() -> None:
    steps = Steps(plan(task("a"), always(rescue("r", BODY, HANDLER, 0))))
    assert steps.fail("a") == ["open r"]
    steps.handle(steps.open("r", arm="body"))
    assert steps.fail("r?body/x") == ["skip r?body/y: needs r?body/x", "open r"]
    steps.handle(steps.open("r", arm="handler"))
    assert steps.succeed("r?handler/h") == ["close r succeeded", "end failed: a"]


def test_what_was_forgiven_is_forgiven_once_and_the_rest_is_kept() -> None:
    steps = Steps(plan(tasks_map("m"), rescue("r", BODY, HANDLER)), "continue")
    steps.handle(steps.open("m", 1), steps.open("r", arm="body"))
    steps.fail("m[0]")
    steps.fail("r?body/x")
    steps.handle(steps.open("r", arm="handler"))
    assert steps.succeed("r?handler/h") == ["close r succeeded", "end failed: m[0]"]


def test_an_arm_that_the_plan_does_not_have_cannot_be_opened() -> None:
    steps = Steps(PLAN)
    row = steps["r"]
    with pytest.raises(InternalError, match=r"scope.opened.* cannot happen to r when ready"):
        steps.scheduler.handle([(row, ScopeOpened(0, 0.0, row.key, None, "other"))])
