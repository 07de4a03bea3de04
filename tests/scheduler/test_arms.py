"""Branches and switches: one arm is opened, and what fails in it fails the node."""

from __future__ import annotations

import pytest

from onready.engine.options import OnError
from onready.engine.scheduler.state import FAILED
from tests.scheduler.plans import branch, fragment, plan, rescue, switch, task
from tests.scheduler.steps import Steps

ONE = fragment(task("x"))
TWO = fragment(task("x"), task("y", 0))
POLICIES: tuple[OnError, ...] = ("stop", "continue", "cancel")


@pytest.mark.parametrize(("arm", "more"), [("then", []), ("otherwise", ["start b?otherwise/y"])])
def test_only_the_chosen_arm_of_a_branch_is_opened(arm: str, more: list[str]) -> None:
    steps = Steps(plan(task("a"), branch("b", ONE, TWO, 0), task("z", 1)))
    assert steps.succeed("a") == ["open b"]
    assert steps.handle(steps.open("b", arm=arm)) == [f"start b?{arm}/x"]
    said = steps.succeed(f"b?{arm}/x")
    if more:
        assert said == more
        said = steps.succeed(f"b?{arm}/y")
    assert said == ["close b succeeded", "start z"]


def test_one_of_many_arms_of_a_switch() -> None:
    steps = Steps(plan(switch("s", ONE, fragment(), TWO)))
    assert steps.handle(steps.open("s", arm="case-1")) == ["close s succeeded", "end succeeded"]


@pytest.mark.parametrize("policy", POLICIES)
def test_no_arm_is_a_failure_of_the_node(policy: OnError) -> None:
    steps = Steps(plan(switch("s", ONE, TWO)), policy)
    assert steps.handle(steps.refuse("s")) == ["end failed: s"]
    assert steps["s"].state is FAILED


@pytest.mark.parametrize("policy", POLICIES)
def test_what_fails_in_an_arm_fails_the_node(policy: OnError) -> None:
    steps = Steps(plan(branch("b", ONE, TWO)), policy)
    steps.handle(steps.open("b", arm="then"))
    assert steps.fail("b?then/x") == ["close b failed", "end failed: b?then/x"]


def test_an_arm_called_body_is_no_body_of_a_rescue() -> None:
    handler = fragment(branch("body", ONE, TWO))
    steps = Steps(plan(rescue("r", ONE, handler)))
    steps.handle(steps.open("r", arm="body"))
    steps.fail("r?body/x")
    steps.handle(steps.open("r", arm="handler"))
    steps.handle(steps.open("r?handler/body", arm="then"))
    assert steps.fail("r?handler/body?then/x") == [
        "close r?handler/body failed",
        "close r failed",
        "end failed: r?handler/body?then/x",
    ]


def test_old_news_of_an_opening_is_dropped() -> None:
    steps = Steps(plan(branch("b", TWO, TWO)))
    steps.handle(steps.open("b", arm="then"))
    assert steps.handle(steps.open("b", arm="otherwise"), steps.decide("b")) == []
    assert steps.scheduler.late == 2
