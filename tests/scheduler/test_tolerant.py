"""Tolerant maps: under `continue`, items that failed are values, and no failures of the run."""

from __future__ import annotations

import pytest

from onready.engine.errors import Failure
from onready.engine.events import NodeCancelled
from onready.engine.options import OnError
from tests.scheduler.plans import fragment, graphs_map, plan, task, tasks_map, tolerant
from tests.scheduler.playing import failure
from tests.scheduler.steps import Steps

BODY = fragment(task("x"), task("y"))


def failure_of(steps: Steps, key: str) -> Failure | None:
    return steps[key].failure


def test_items_that_failed_or_were_lost_do_not_fail_it() -> None:
    steps = Steps(plan(tolerant(tasks_map("m")), task("z", 0)), "continue")
    steps.handle(steps.open("m", 3))
    steps.fail("m[0]")
    steps.handle(steps.start("m[1]"), steps.lose("m[1]"))
    assert steps.succeed("m[2]") == ["close m succeeded", "start z"]
    assert [failure_of(steps, f"m[{at}]") for at in range(3)] == [
        failure(),
        failure("lost"),
        None,
    ]
    assert steps.succeed("z") == ["end succeeded"]


def test_an_item_that_is_a_graph_keeps_its_last_failure() -> None:
    steps = Steps(plan(tolerant(graphs_map("m", BODY)), task("z", 0), task("b")), "continue")
    steps.handle(steps.open("m", 2), steps.start("b"))
    steps.handle(steps.open("m[0]"), steps.open("m[1]"), steps.badly("b"))
    steps.succeed("m[1]/x", "m[1]/y")
    first, second = failure("timeout"), failure("evicted")
    steps.handle(steps.start("m[0]/x"), steps.badly("m[0]/x", first))
    said = steps.handle(steps.start("m[0]/y"), steps.badly("m[0]/y", second))
    assert said == ["close m[0] failed", "close m succeeded", "start z"]
    assert failure_of(steps, "m[0]") == second
    assert steps.succeed("z") == ["end failed: b"]


@pytest.mark.parametrize("policy", ["stop", "cancel"])
def test_under_another_policy_it_is_a_map_like_any(policy: OnError) -> None:
    steps = Steps(plan(tolerant(tasks_map("m"))), policy)
    steps.handle(steps.open("m", 2))
    assert steps.fail("m[0]")[-2:] == ["close m failed", "end failed: m[0]"]


def test_other_maps_fail_under_continue_too() -> None:
    steps = Steps(plan(tasks_map("m"), task("z", 0)), "continue")
    steps.handle(steps.open("m", 2))
    steps.succeed("m[1]")
    assert steps.fail("m[0]") == ["close m failed", "skip z: needs m", "end failed: m[0]"]


def test_one_that_is_cancelled_has_no_failures_either() -> None:
    """Else the run would end cancelled, and name nodes that failed."""
    steps = Steps(plan(tolerant(tasks_map("m"))), "continue")
    steps.handle(steps.open("m", 2))
    steps.fail("m[0]")
    row = steps["m[1]"]
    assert steps.handle(steps.start("m[1]"), (row, NodeCancelled(0, 0.0, row.key, 1))) == [
        "close m cancelled",
        "end cancelled",
    ]


def test_what_could_not_be_opened_fails() -> None:
    steps = Steps(plan(tolerant(tasks_map("m"))), "continue")
    assert steps.handle(steps.refuse("m")) == ["end failed: m"]
