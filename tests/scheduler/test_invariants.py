"""The invariants see what is broken on purpose, and nothing where all is well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from onready.engine.names import NodeKey
from onready.engine.scheduler import ends
from onready.engine.scheduler.core import Scheduler
from onready.engine.scheduler.invariants import check
from onready.engine.scheduler.state import (
    BACKING_OFF,
    CANCELLED,
    FAILED,
    READY,
    RUNNING,
    SUCCEEDED,
    WAITING,
    Scope,
)
from tests.scheduler.plans import fragment, plan, rescue, subgraph, task, tasks_map, tolerant
from tests.scheduler.steps import Steps

INNER = fragment(task("x"), task("y", 0))
PLAN = plan(task("a", retry=1), task("b", 0), subgraph("s", INNER), tasks_map("m"), task("c", 2, 3))


def in_full_swing() -> Steps:
    """`a` runs, `b` and `c` wait, `s` and `m` are open, `m[1]` succeeded."""
    steps = Steps(PLAN)
    steps.handle(steps.start("a"), steps.open("s"), steps.open("m", 3))
    steps.handle(steps.start("s/x"))
    steps.succeed("m[1]")
    return steps


def stopped() -> Steps:
    """`m[0]` failed; `a` and `s/x` still run."""
    steps = in_full_swing()
    steps.handle(steps.start("m[0]"))
    steps.handle(steps.badly("m[0]"))
    return steps


def cancelled() -> Steps:
    steps = in_full_swing()
    steps.handle(steps.cancel())
    return steps


def ended() -> Steps:
    steps = stopped()
    steps.handle(steps.well("a"), steps.well("s/x"))
    assert steps.scheduler.ended
    return steps


def body(steps: Steps, key: str) -> Scope:
    found = steps[key].body
    assert found is not None
    return found


Break = Callable[[Steps], object]


def setting(key: str, name: str, value: object) -> Break:
    """Set an attribute of a row, or with "/" at the end of the key one of its body."""

    def change(steps: Steps) -> None:
        target: object = steps.scheduler.root
        if key:
            target = body(steps, key[:-1]) if key.endswith("/") else steps[key]
        setattr(target, name, value)

    return change


def same_body(steps: Steps) -> None:
    steps["m"].body = steps["s"].body


def swap_rows(steps: Steps) -> None:
    rows = steps.scheduler.root.rows
    rows[0], rows[1] = rows[1], rows[0]


def swap_items(steps: Steps) -> None:
    rows = body(steps, "m").rows
    rows[0], rows[2] = rows[2], rows[0]


def move_to_another(steps: Steps) -> None:
    steps["b"].scope = body(steps, "m")


def orphan(steps: Steps) -> None:
    body(steps, "m").owner = None


def fail_twice(steps: Steps) -> None:
    steps.scheduler._failed.append(steps.scheduler._failed[0])


def fail_one_that_runs(steps: Steps) -> None:
    steps.scheduler._failed.append(steps["a"])


def lose_a_row(steps: Steps) -> None:
    steps.scheduler.root.rows.pop()


def add_a_row(steps: Steps) -> None:
    scope = steps.scheduler.root
    scope.total -= 1
    scope.left -= 1


def body_of_a_task(steps: Steps) -> None:
    steps["a"].body = Scope(None, steps["a"], INNER, 2, 2)


def forget_open_body(steps: Steps) -> None:
    steps["m"].body = None


def close_body(steps: Steps) -> None:
    body(steps, "s").closed = True


def spare_body(name: str) -> Break:
    def change(steps: Steps) -> None:
        setattr(body(steps, "s"), name, False)
        body(steps, "s").culprit = None

    return change


BREAKS: Final[list[tuple[Callable[[], Steps], Break, str]]] = [
    # the run
    (in_full_swing, lambda s: setattr(s.scheduler, "ended", True), "ended and the root scope"),
    (stopped, fail_one_that_runs, "its failed rows have failed"),
    (stopped, fail_twice, "its failed rows are each there once"),
    # scopes
    (in_full_swing, add_a_row, "5 rows of 4"),
    (in_full_swing, lose_a_row, "4 of 5 rows when quiet"),
    (in_full_swing, setting("m/", "left", 3), "scope m: 3 left of 3, 1 ended"),
    (in_full_swing, setting("", "failed", 1), "counted 1 failed, there are 0"),
    (in_full_swing, setting("", "skipped", 1), "counted 0 cancelled and 1 skipped, there are 0"),
    (cancelled, setting("m/", "cancelled", 0), "fewer counted than cancelled"),
    (stopped, setting("m/", "skipped", 0), "fewer counted than skipped"),
    (in_full_swing, setting("m/", "unopened", 1), "given up though nothing stopped it"),
    (in_full_swing, setting("m/", "closed", True), "closed is True, 2 left"),
    (ended, setting("", "closed", False), "closed is False, 0 left"),
    (stopped, setting("m/", "culprit", None), "doomed and a culprit go together"),
    (in_full_swing, setting("", "culprit", NodeKey("a")), "doomed and a culprit go together"),
    (stopped, lambda s: setattr(s.scheduler, "on_error", "continue"), "doomed under `continue`"),
    (stopped, setting("m/", "doomed", False), "failed, not doomed"),
    # places
    (in_full_swing, move_to_another, "is in another scope's rows"),
    (in_full_swing, setting("b", "key", NodeKey("x")), "its key is not that of its place"),
    (in_full_swing, swap_rows, "its position is not that of its place"),
    (in_full_swing, swap_items, "its position is not that of its place"),
    (in_full_swing, orphan, "m[0] (ready): its key is not that of its place"),
    (in_full_swing, setting("b", "item", 1), "its position is not that of its place"),
    # rows
    (in_full_swing, setting("s", "attempt", 1), "a composite has attempt 1"),
    (in_full_swing, setting("b", "attempt", 1), "attempt 1 though it never ran"),
    (in_full_swing, setting("a", "retries", 1), "a (running): 1 retries"),
    (in_full_swing, setting("m[0]", "retries", 1), "m[0] (ready): 1 retries"),
    (in_full_swing, setting("a", "attempt", 3), "0 retries, attempt 3"),
    (in_full_swing, setting("m", "state", BACKING_OFF), "a composite cannot be"),
    (in_full_swing, body_of_a_task, "a task has a body"),
    (in_full_swing, forget_open_body, "a running composite has no body"),
    (in_full_swing, same_body, "its body belongs to another"),
    (in_full_swing, setting("s", "state", SUCCEEDED), "its body is open"),
    (in_full_swing, close_body, "its body is closed"),
    (stopped, setting("m[0]", "failure", None), "no failure is kept"),
    # waits
    (in_full_swing, setting("m[0]", "pending", 1), "an item waits for nothing"),
    (in_full_swing, setting("m[0]", "state", WAITING), "an item waits for nothing"),
    (in_full_swing, setting("b", "state", READY), "1 of its waits have not succeeded"),
    (in_full_swing, setting("c", "state", RUNNING), "2 of its waits have not succeeded"),
    (in_full_swing, setting("c", "pending", 1), "pending is 1, 2 to wait for"),
    (in_full_swing, setting("a", "state", SUCCEEDED), "waits for nothing"),
    (in_full_swing, setting("m/", "decided", True), "no repeat, and it was decided"),
    (in_full_swing, setting("m/", "forced", True), "forced, and not cancelling"),
    (stopped, setting("", "doomed", False), "doomed, and the scope around it is not"),
    (cancelled, setting("", "forced", True), "its body has time left"),
    # stops
    (stopped, setting("m[2]", "state", READY), "not begun, and its scope was stopped"),
    (cancelled, setting("a", "state", RUNNING), "runs on in a cancelled scope"),
    (stopped, spare_body("doomed"), "its body is not doomed"),
    (cancelled, spare_body("cancelling"), "its body is not being cancelled"),
]


@pytest.mark.parametrize(("situation", "break_it", "said"), BREAKS, ids=[b[2] for b in BREAKS])
def test_what_is_broken_is_seen(situation: Callable[[], Steps], break_it: Break, said: str) -> None:
    steps = situation()
    assert check(steps.scheduler) == []
    break_it(steps)
    found = check(steps.scheduler)
    assert any(said in line for line in found), found


@pytest.mark.parametrize("state", [FAILED, CANCELLED])
def test_what_needs_a_bad_end_cannot_wait_on_under_continue(state: object) -> None:
    steps = Steps(PLAN, "continue")
    setattr(steps["a"], "state", state)  # noqa: B010 - any state
    assert any("b (waiting): waits for what ended badly" in line for line in check(steps.scheduler))


def test_a_failure_that_was_made_good_for_is_no_failure_of_the_run() -> None:
    steps = Steps(plan(tolerant(tasks_map("m")), task("b")), "continue")
    steps.handle(steps.open("m", 1))
    steps.fail("m[0]")
    row = steps["m[0]"]
    steps.scheduler._failed.append(row)
    said = "a failure that was made good for is kept"
    assert any(said in line for line in check(steps.scheduler))
    steps = Steps(plan(rescue("r", INNER, INNER)))
    steps.handle(steps.open("r", arm="body"))
    row = steps["r?body/x"]
    steps.fail("r?body/x")
    steps.handle(steps.open("r", arm="handler"))
    steps.scheduler._failed.append(row)
    assert any(said in line for line in check(steps.scheduler))
    steps = stopped()
    steps.scheduler._failed.clear()
    assert any("the run does not know" in line for line in check(steps.scheduler))


def test_nothing_is_wrong_in_any_of_these() -> None:
    for situation in (in_full_swing, stopped, cancelled, ended):
        assert check(situation().scheduler) == []


def test_what_is_still_to_come_is_not_held_against_a_busy_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(ends, "BUDGET", 1)
    scheduler = Scheduler(plan(*(task(f"n{at}") for at in range(5))), "cancel")
    scheduler.begin()
    assert len(scheduler.root.rows) == 1
    assert check(scheduler) == []
    steps = Steps(plan(task("a"), task("b"), task("c"), subgraph("s", INNER)))
    steps.until_quiet()
    steps.handle(steps.open("s"), steps.start("a"))
    steps.until_quiet()
    steps.handle(steps.badly("a"))
    busy = 0
    while steps.scheduler.busy:
        assert check(steps.scheduler) == []
        steps.handle()
        busy += 1
    assert busy > 3
    assert check(steps.scheduler) == []
