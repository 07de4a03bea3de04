"""Repeats: iteration by iteration, and somebody decides after each."""

from __future__ import annotations

import pytest

from onready.engine.events import NodeCancelled
from onready.engine.names import NodeKey
from onready.engine.options import OnError
from onready.engine.scheduler import ends
from onready.engine.scheduler.state import FAILED
from tests.scheduler.plans import fragment, plan, repeat, rescue, task
from tests.scheduler.playing import failure
from tests.scheduler.steps import Steps

BODY = fragment(task("x"), task("until", 0))
PLAN = plan(repeat("poll", BODY), task("z", 0), task("beside"))
POLICIES: tuple[OnError, ...] = ("stop", "continue", "cancel")


def after(iterations: int, policy: OnError = "stop") -> Steps:
    """So many iterations ended well, and somebody must decide; what is beside it runs."""
    steps = Steps(PLAN, policy)
    steps.handle(steps.start("beside"))
    for at in range(iterations):
        said = steps.handle(steps.open("poll", at + 1))
        assert said == [f"open poll[{at}]"]
        assert steps.handle(steps.open(f"poll[{at}]")) == [f"start poll[{at}]/x"]
        assert steps.succeed(f"poll[{at}]/x", f"poll[{at}]/until") == [
            f"start poll[{at}]/until",
            f"close poll[{at}] succeeded",
            "decide poll",
        ]
    return steps


@pytest.mark.parametrize("policy", POLICIES)
def test_it_goes_on_until_it_is_decided(policy: OnError) -> None:
    steps = after(3, policy)
    assert steps.handle(steps.decide("poll")) == ["close poll succeeded", "start z"]
    assert steps.handle(steps.well("beside")) == []
    assert steps.succeed("z") == ["end succeeded"]


@pytest.mark.parametrize("policy", POLICIES)
def test_its_limit_is_a_failure_of_its_own(policy: OnError) -> None:
    steps = after(2, policy)
    why = failure("error")
    said = steps.handle(steps.refuse("poll", why), steps.well("beside"))
    assert said[0] == "close poll failed"
    assert said[-1] == "end failed: poll"
    assert (steps["poll"].state, steps["poll"].failure) == (FAILED, why)


@pytest.mark.parametrize("policy", POLICIES)
def test_an_iteration_that_fails_fails_it(policy: OnError) -> None:
    steps = after(1, policy)
    steps.handle(steps.open("poll", 2), steps.well("beside"))
    steps.handle(steps.open("poll[1]"))
    said = steps.fail("poll[1]/x")
    assert "decide poll" not in said
    assert said[-1] == "end failed: poll[1]/x"
    assert steps["poll"].state is FAILED


def test_its_limit_is_rescued_like_any_failure() -> None:
    steps = Steps(plan(rescue("r", fragment(repeat("p", fragment())), fragment())))
    steps.handle(steps.open("r", arm="body"))
    steps.handle(steps.open("r?body/p", 1))
    assert steps.handle(steps.open("r?body/p[0]")) == [
        "close r?body/p[0] succeeded",
        "decide r?body/p",
    ]
    why = failure("timeout")
    assert steps.handle(steps.refuse("r?body/p", why)) == ["close r?body/p failed", "open r"]
    assert steps["r"].failure == why
    assert steps.handle(steps.open("r", arm="handler")) == ["close r succeeded", "end succeeded"]


@pytest.mark.parametrize(
    ("policy", "said"),
    [("stop", "end cancelled"), ("continue", "end cancelled"), ("cancel", "end cancelled")],
)
def test_in_a_cancelled_run_no_iteration_follows(policy: OnError, said: str) -> None:
    """It was to go on: it is cancelled, and nobody is asked again."""
    steps = after(1, policy)
    row = steps["beside"]
    steps.handle(steps.cancel(), (row, NodeCancelled(0, 0.0, row.key, 1)))
    assert steps.handle(steps.open("poll", 2)) == ["close poll cancelled", said]


def test_in_a_scope_that_failed_no_iteration_follows() -> None:
    steps = after(1)
    steps.handle(steps.badly("beside"))
    assert steps.handle(steps.open("poll", 2)) == ["close poll cancelled", "end failed: beside"]


def test_one_that_was_done_when_the_run_was_cancelled_is_done() -> None:
    steps = after(1)
    steps.handle(steps.cancel(), steps.well("beside"))
    assert steps.handle(steps.decide("poll")) == ["close poll succeeded", "end cancelled"]


def test_an_iteration_that_was_not_opened_yet_never_is(monkeypatch: pytest.MonkeyPatch) -> None:
    steps = after(1)
    monkeypatch.setattr(ends, "BUDGET", 0)
    assert steps.handle(steps.open("poll", 2)) == []
    assert steps.scheduler.busy
    monkeypatch.setattr(ends, "BUDGET", 500)
    said = steps.handle(steps.cancel())
    assert "close poll cancelled" in said
    assert steps.scheduler.find(NodeKey.parse("poll[1]")) is None


def test_old_news_of_decisions_is_dropped() -> None:
    steps = after(1)
    steps.handle(steps.open("poll", 2))
    late = [steps.open("poll", 2), steps.open("poll", 3), steps.decide("poll")]
    assert steps.handle(*late, steps.refuse("poll")) == []
    assert steps.scheduler.late == 4
