"""What becomes of the rest when something fails, is cancelled, or ends in between."""

from __future__ import annotations

import pytest

from onready.engine.events import NodeCancelled, NodeLost, NodeProgress, NodeStarted
from onready.engine.options import OnError
from onready.engine.scheduler import ends
from onready.engine.scheduler.commands import RetryDue, Submitted
from onready.engine.scheduler.finding import forget
from onready.engine.scheduler.state import State
from tests.scheduler.plans import fragment, graphs_map, plan, subgraph, task, tasks_map
from tests.scheduler.playing import failure
from tests.scheduler.steps import Steps


@pytest.fixture
def small_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends, "BUDGET", 2)


def test_joins_count_every_wait() -> None:
    steps = Steps(plan(task("a"), task("b"), task("c", 0, 1), task("d", 2)))
    assert steps.log == ["start a b"]
    assert steps.succeed("b") == []
    assert steps.succeed("a") == ["start c"]
    assert steps.succeed("c", "d") == ["start d", "end succeeded"]


def test_composites_open_close_and_feed() -> None:
    body = fragment(task("x"), task("y", 0))
    steps = Steps(plan(task("a"), graphs_map("m", body, 0), task("z", 1)))
    assert steps.succeed("a") == ["open m"]
    assert steps.handle(steps.open("m", 2)) == ["open m[0]", "open m[1]"]
    assert steps.handle(steps.open("m[0]"), steps.open("m[1]")) == ["start m[0]/x m[1]/x"]
    said = steps.succeed("m[1]/x", "m[1]/y", "m[0]/x", "m[0]/y")
    assert said == [
        "start m[1]/y",
        "close m[1] succeeded",
        "start m[0]/y",
        "close m[0] succeeded",
        "close m succeeded",
        "start z",
    ]
    assert steps.succeed("z") == ["end succeeded"]


@pytest.mark.parametrize("policy", ["stop", "continue", "cancel"])
def test_nothing_to_do_ends_well(policy: OnError) -> None:
    assert Steps(plan(), policy).log == ["end succeeded"]
    steps = Steps(plan(tasks_map("m"), subgraph("s", fragment(), 0)), policy)
    assert steps.handle(steps.open("m", 0)) == ["close m succeeded", "open s"]
    assert steps.handle(steps.open("s")) == ["close s succeeded", "end succeeded"]


def test_stop_lets_what_runs_end_and_starts_nothing() -> None:
    body = fragment(task("x"), task("y", 0))
    steps = Steps(plan(task("a"), task("b"), subgraph("s", body), task("c", 1)))
    steps.handle(steps.open("s"), steps.start("a"), steps.start("b"))
    steps.handle(steps.start("s/x"))
    assert steps.handle(steps.badly("a")) == [
        "skip c: stopped: a failed",
        "skip s/y: stopped: a failed",
    ]
    assert steps.handle(steps.well("b")) == []
    assert steps.handle(steps.well("s/x")) == ["close s cancelled", "end failed: a"]


def test_stop_reaches_out_of_a_body_and_into_its_neighbours() -> None:
    body = fragment(task("x"), task("y"))
    steps = Steps(plan(graphs_map("m", body)))
    steps.handle(steps.open("m", 2))
    steps.handle(steps.open("m[0]"), steps.open("m[1]"))
    said = steps.fail("m[0]/x")
    assert said == [
        "skip m[0]/y: stopped: m[0]/x failed",
        "close m[0] failed",
        "skip m[1]/x: stopped: m[0]/x failed",
        "skip m[1]/y: stopped: m[0]/x failed",
        "close m[1] cancelled",
        "close m failed",
        "end failed: m[0]/x",
    ]


def test_a_skipped_node_names_what_it_needed() -> None:
    steps = Steps(plan(task("a"), task("b", 0), task("c", 1)))
    assert steps.fail("a") == ["skip b: needs a", "skip c: needs b", "end failed: a"]


def test_cancel_asks_what_runs_to_stop() -> None:
    steps = Steps(plan(task("a"), task("b"), task("c")), "cancel")
    steps.handle(steps.start("b"))
    assert steps.fail("a") == ["cancel b", "drop c: cancelled"]
    row = steps["b"]
    assert steps.handle((row, NodeCancelled(0, 0.0, row.key, 1))) == ["end failed: a"]


def test_continue_skips_only_what_needs_the_failed() -> None:
    steps = Steps(plan(task("a"), task("b", 0), task("c", 1), task("d")), "continue")
    assert steps.fail("a") == ["skip b: needs a", "skip c: needs b"]
    assert steps.succeed("d") == ["end failed: a"]


def test_continue_fails_what_holds_the_failed() -> None:
    body = fragment(task("x"), task("y", 0), task("z"))
    steps = Steps(plan(graphs_map("m", body), task("n", 0)), "continue")
    steps.handle(steps.open("m", 2))
    steps.handle(steps.open("m[0]"), steps.open("m[1]"))
    assert steps.fail("m[0]/x") == ["skip m[0]/y: needs m[0]/x"]
    steps.succeed("m[1]/x", "m[1]/y", "m[1]/z")
    assert steps.succeed("m[0]/z") == [
        "close m[0] failed",
        "close m failed",
        "skip n: needs m",
        "end failed: m[0]/x",
    ]


def test_failed_nodes_are_listed_in_the_order_in_which_they_failed() -> None:
    steps = Steps(plan(tasks_map("m"), tasks_map("n"), task("z")), "continue")
    steps.handle(steps.open("n", 2))
    lost = steps["n[1]"]
    steps.handle((lost, NodeStarted(0, 0.0, lost.key, 1)))
    steps.handle((lost, NodeLost(0, 0.0, lost.key, 1, failure("lost"))))
    row = steps["m"]
    steps.handle(steps.refuse("m"))
    assert row.state is State.FAILED
    steps.fail("z")
    assert steps.fail("n[0]")[-1] == "end failed: n[1] m z n[0]"


def test_a_node_that_ends_cancelled_unasked_stops_the_run() -> None:
    steps = Steps(plan(task("a"), task("b", 0)))
    row = steps["a"]
    steps.handle(steps.start("a"))
    said = steps.handle((row, NodeCancelled(0, 0.0, row.key, 1)))
    assert said == ["skip b: needs a", "end cancelled"]


def test_a_node_that_ends_cancelled_unasked_is_gone_on_without() -> None:
    steps = Steps(plan(subgraph("s", fragment(task("a"))), task("b", 0), task("c")), "continue")
    steps.handle(steps.open("s"))
    row = steps["s/a"]
    steps.handle(steps.start("s/a"))
    said = steps.handle((row, NodeCancelled(0, 0.0, row.key, 1)))
    assert said == ["close s cancelled", "skip b: needs s"]
    assert steps.succeed("c") == ["end cancelled"]


def test_cancelling_a_run_reaches_everything() -> None:
    body = fragment(task("x"), task("y", 0))
    steps = Steps(plan(task("a", retry=1), task("b"), graphs_map("m", body), task("z", 1)))
    steps.handle(steps.open("m", 1))
    steps.handle(steps.open("m[0]"), steps.start("a"), steps.start("b"))
    steps.handle(steps.again("a"), steps.start("m[0]/x"))
    assert steps.handle(steps.cancel()) == [
        "drop a: cancelled",
        "cancel b",
        "drop z: cancelled",
        "cancel m[0]/x",
        "drop m[0]/y: cancelled",
    ]
    assert steps.handle(steps.cancel()) == []
    assert steps.handle(steps.well("m[0]/x")) == ["close m[0] cancelled", "close m cancelled"]
    row = steps["b"]
    assert steps.handle((row, NodeCancelled(0, 0.0, row.key, 1))) == ["end cancelled"]
    assert steps.handle(steps.cancel(), (steps["a"], RetryDue(1))) == []
    assert steps.scheduler.late == 1


def test_what_was_withdrawn_too_late_is_asked_again_when_the_run_is_cancelled() -> None:
    steps = Steps(plan(task("a"), task("b")))
    b = steps["b"]
    steps.handle((b, Submitted(1)), steps.start("a"))
    # Its thread was quicker than the stop: it runs, as what runs may.
    assert steps.handle(steps.badly("a")) == ["cancel b"]
    assert steps.handle((b, NodeStarted(0, 0.0, b.key, 1))) == []
    assert b.state is State.CANCELLING
    assert steps.handle(steps.cancel()) == ["cancel b"]
    assert steps.handle(steps.well("b")) == ["end failed: a"]


def test_a_retry_in_a_stopped_scope_does_not_wait() -> None:
    steps = Steps(plan(task("a"), task("b", retry=1)))
    steps.handle(steps.start("a"), steps.start("b"))
    steps.handle(steps.badly("a"))
    assert steps.handle(steps.again("b")) == ["drop b: stopped", "end failed: a"]


def test_what_waits_to_be_tried_again_was_not_skipped() -> None:
    steps = Steps(plan(task("a"), task("b", retry=1)))
    steps.handle(steps.start("a"), steps.start("b"))
    assert steps.handle(steps.again("b"), (steps["b"], RetryDue(1))) == ["start b"]
    assert steps.handle(steps.badly("a")) == ["drop b: stopped", "end failed: a"]


def test_a_retry_that_is_due_in_the_turn_of_the_stop_does_not_start() -> None:
    steps = Steps(plan(task("a"), task("b", retry=1)))
    steps.handle(steps.start("a"), steps.start("b"))
    steps.handle(steps.again("b"))
    said = steps.handle(steps.badly("a"), (steps["b"], RetryDue(1)))
    assert said == ["drop b: stopped", "end failed: a"]


def test_an_old_start_does_not_revive_an_old_attempt() -> None:
    steps = Steps(plan(task("a", retry=1)))
    old = steps.start("a")
    steps.handle(old, steps.again("a"), (steps["a"], RetryDue(1)))
    steps.handle(old)
    row = steps["a"]
    assert (row.state, row.attempt, steps.scheduler.late) == (State.READY, 1, 1)
    assert steps.succeed("a") == ["end succeeded"]
    assert row.attempt == 2


def test_an_old_failure_does_not_fail_what_is_to_be_tried_again() -> None:
    steps = Steps(plan(task("a", retry=1)))
    steps.handle(steps.start("a"))
    old = steps.badly("a")
    steps.handle(steps.again("a"), (steps["a"], RetryDue(1)))
    assert steps.handle(old) == []
    assert steps["a"].state is State.READY


def test_what_cannot_have_an_attempt_fails_without() -> None:
    steps = Steps(plan(task("a", retry=1)))
    row = steps["a"]
    steps.handle(steps.start("a"), steps.again("a"), (row, RetryDue(1)))
    assert steps.handle(steps.refuse("a")) == ["end failed: a"]


def test_progress_and_output_change_nothing() -> None:
    steps = Steps(plan(task("a")))
    row = steps["a"]
    steps.handle(steps.start("a"))
    assert steps.handle((row, NodeProgress(0, 0.0, row.key, 1, 0.5)), (None, Submitted(1))) == []
    assert (row.state, steps.scheduler.late) == (State.RUNNING, 0)


# --- in pieces --------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_budget")
def test_rows_opened_later_know_what_ended_before() -> None:
    nodes = [task("a"), task("b"), task("c", 0), task("d", 0, 1), task("e", 2, 3)]
    steps = Steps(plan(*nodes))
    assert steps.handle(steps.start("a"), steps.well("a")) == ["start c"]
    assert steps.handle(steps.start("b"), steps.well("b")) == ["start d"]
    assert steps.succeed("d", "c") == ["start e"]
    assert steps.succeed("e") == ["end succeeded"]


@pytest.mark.usefixtures("small_budget")
def test_rows_opened_after_what_they_need_failed_are_skipped() -> None:
    nodes = [task("a"), task("b"), task("c", 0), task("d", 1), task("e", 3, 0), task("f", 4)]
    steps = Steps(plan(*nodes), "continue")
    assert steps.fail("a") == ["skip c: needs a"]
    assert steps.until_quiet() == ["skip e: needs a", "skip f: needs e"]
    assert steps.succeed("b", "d") == ["start d", "end failed: a"]


@pytest.mark.usefixtures("small_budget")
def test_a_row_skipped_in_the_piece_that_opens_it_is_skipped_once() -> None:
    # c and d are opened together: skipping c skips d, which then is not looked at again.
    nodes = [task("a"), task("b"), task("c", 0), task("d", 0, 2)]
    steps = Steps(plan(*nodes), "continue")
    assert steps.fail("a") == ["skip c: needs a", "skip d: needs c"]
    assert steps.succeed("b") == ["end failed: a"]


@pytest.mark.usefixtures("small_budget")
def test_a_node_may_wait_for_one_that_stands_behind_it() -> None:
    steps = Steps(plan(task("a", 2), task("b", 3), task("c"), task("d", 2)))
    assert steps.log == []
    assert steps.until_quiet() == ["start c"]
    assert steps.succeed("c") == ["start a d"]
    assert steps.succeed("d", "b", "a") == ["start b", "end succeeded"]


@pytest.mark.usefixtures("small_budget")
def test_a_body_stopped_before_all_of_it_was_opened_has_not_succeeded() -> None:
    steps = Steps(plan(task("a"), tasks_map("m")))
    steps.handle(steps.start("a"))
    assert steps.handle(steps.open("m", 5)) == ["start m[0] m[1]"]
    said = steps.handle(
        *(fact for key in ("m[0]", "m[1]") for fact in (steps.start(key), steps.well(key))),
        steps.badly("a"),
    )
    said += steps.until_quiet()
    assert said == ["close m cancelled", "end failed: a"]
    assert steps.scheduler.root.failed == 1


@pytest.mark.usefixtures("small_budget")
def test_a_body_cancelled_before_all_of_it_was_opened() -> None:
    steps = Steps(plan(tasks_map("m")))
    steps.handle(steps.open("m", 5))
    body = steps["m"].body
    assert body is not None
    said = steps.handle(steps.start("m[0]"), steps.well("m[0]"), steps.cancel())
    said += steps.until_quiet()
    assert said == ["drop m[1]: cancelled", "close m cancelled", "end cancelled"]
    assert (body.unopened, body.cancelled, body.total, body.left) == (3, 4, 2, 0)


@pytest.mark.usefixtures("small_budget")
def test_a_body_that_closed_and_was_forgotten_is_not_swept_on() -> None:
    steps = Steps(plan(tasks_map("m"), task("a"), task("b")))
    steps.until_quiet()
    steps.handle(steps.open("m", 3), steps.start("a"))
    steps.until_quiet()
    body = steps["m"].body
    assert body is not None
    steps.handle(*(steps.start(f"m[{at}]") for at in range(3)))
    steps.handle(steps.badly("a"))
    said = steps.handle(*(steps.well(f"m[{at}]") for at in range(3)))
    assert "close m succeeded" in said
    assert steps.scheduler.busy
    # As the dispatcher does.
    forget(body)
    steps["m"].body = None
    steps.until_quiet()
    assert (body.left, body.total, body.unopened) == (0, 3, 0)
    assert steps.log[-1] == "end failed: a"


@pytest.mark.usefixtures("small_budget")
def test_nothing_becomes_ready_in_a_stopped_scope_that_is_not_swept_yet() -> None:
    steps = Steps(plan(*(task(name) for name in "abcdef"), task("y", 5)))
    steps.until_quiet()
    steps.handle(steps.start("a"), steps.start("f"))
    steps.handle(steps.badly("a"))
    assert steps.scheduler.busy
    assert steps.handle(steps.well("f")) == [f"skip {name}: stopped: a failed" for name in "cd"]
    assert steps["y"].state is State.WAITING
    assert steps.until_quiet()[-2:] == ["skip y: stopped: a failed", "end failed: a"]
