"""The board over several segments of a run, and over composites: arms, repeats, rescues."""

from __future__ import annotations

from onready.cli import lines
from onready.cli.board import Board
from onready.cli.rows import lay_out, needing
from onready.cli.words import times
from onready.engine.errors import Failure
from onready.engine.events import (
    AnyEvent,
    AttemptPlanned,
    NodeCancelled,
    NodeFailed,
    NodeRetrying,
    NodeSkipped,
    NodeStarted,
    NodeSucceeded,
    RunCancelled,
    RunCancelling,
    RunFailed,
    RunResumed,
    RunStarted,
    RunSucceeded,
    ScopeClosed,
    ScopeOpened,
)
from onready.engine.names import NodeKey
from onready.engine.plan.model import Arm, Fragment, Plan, PlanNode, TaskSpec
from onready.engine.spi import Call

BAD = Failure("error", "no")
DIED = Failure("lost", "its driver died while it ran", reason="driver")
TASK = TaskSpec(name="t", work=Call("m:t"), backend="thread")


def task(position: int, name: str) -> PlanNode:
    return PlanNode(position=position, name=name, kind="task", task=0)


def body(*names: str) -> Fragment:
    return Fragment(name="b", nodes=tuple(task(at, name) for at, name in enumerate(names)))


def board(*nodes: PlanNode) -> Board:
    made = Board(Plan("g", Fragment(name="g", nodes=nodes), (TASK,), "f"))
    made.apply(RunStarted(1, 10.0, "g", "a-b-1", "f", {}))
    return made


def key(text: str) -> NodeKey:
    return NodeKey.parse(text)


def feed(made: Board, *events: AnyEvent) -> None:
    for event in events:
        made.apply(event)


def ran(text: str, at: float, attempt: int = 1) -> tuple[NodeStarted, NodeSucceeded]:
    node = key(text)
    return NodeStarted(0, at, node, attempt), NodeSucceeded(0, at + 1, node, attempt, 1)


def shown(made: Board) -> dict[str, tuple[str, str]]:
    return {lines.label(row): (row.status, lines.detail(row)) for row in made.shown()}


# --- segments -------------------------------------------------------------------------------------


def test_a_crash_and_a_resume() -> None:
    made = board(task(0, "a"), task(1, "b"), task(2, "c"))
    feed(made, *ran("a", 11.0), NodeStarted(0, 13.0, key("b"), 1))
    assert made.rows["b",].running == 1
    feed(made, RunResumed(0, 113.0, 2))
    assert made.rows["b",].running == 0, "nothing is known of it any more"
    assert [(one.retry, one.kept) for one in made.segments] == [(False, 1)]
    assert (made.driven_since, made.idle) == (113.0, 100.0)
    feed(made, NodeRetrying(0, 113.5, key("b"), 1, 0.0, DIED), *ran("b", 114.0, 2))
    feed(made, *ran("c", 115.0), RunSucceeded(0, 116.0))
    row = made.rows["b",]
    assert (row.retries, row.again, row.attempts, row.running) == (0, 1, 2, 0)
    assert (row.took, row.busy) == (1.0, 1.0), "the time in which nobody drove it is not its own"
    assert lines.detail(row) == "run again"
    assert made.elapsed == 6.0
    assert lines.summary(made) == "3 nodes in 6.0 s, 1 kept"


def test_an_attempt_that_is_adopted_is_no_other() -> None:
    made = board(task(0, "a"))
    feed(made, NodeStarted(0, 11.0, key("a"), 1), RunResumed(0, 12.0, 2))
    feed(made, NodeSucceeded(0, 13.0, key("a"), 1, 1))
    row = made.rows["a",]
    assert (row.status, row.running, row.again, row.attempts) == ("succeeded", 0, 0, 1)


def test_what_was_planned_and_never_began_does_not_run_again() -> None:
    made = board(task(0, "a"))
    feed(made, AttemptPlanned(0, 11.0, key("a"), 1, "process", "name"), RunResumed(0, 12.0, 2))
    feed(made, NodeRetrying(0, 12.5, key("a"), 1, 0.0, DIED), *ran("a", 13.0, 2))
    row = made.rows["a",]
    assert (row.status, row.again, row.attempts) == ("succeeded", 0, 1)


def test_a_retry_forgets_what_went_wrong() -> None:
    made = board(task(0, "a"), task(1, "b"), task(2, "c"), task(3, "d"))
    feed(made, *ran("a", 11.0), NodeStarted(0, 12.0, key("b"), 1))
    feed(made, NodeFailed(0, 13.0, key("b"), 1, BAD), NodeSkipped(0, 13.0, key("c"), 0, "needs b"))
    feed(made, NodeCancelled(0, 13.0, key("d"), 1, "stop"), RunFailed(0, 14.0, (key("b"),)))
    assert (made.status, len(made.failures), len(made.skipped)) == ("failed", 1, 1)
    feed(made, RunResumed(0, 20.0, 2, retry=True))
    assert (made.status, made.ended, made.failures, made.skipped) == ("running", None, [], [])
    assert {row.name: row.status for row in made.rows.values()} == {
        "a": "succeeded",
        "b": "waiting",
        "c": "waiting",
        "d": "waiting",
    }
    feed(made, *ran("b", 21.0, 2), *ran("c", 22.0), *ran("d", 23.0, 2), RunSucceeded(0, 25.0))
    assert (made.count("succeeded"), made.done, made.total) == (4, 4, 4)
    assert shown(made)["c"] == ("succeeded", "")


def test_a_retry_from_a_node_runs_it_again_though_it_had_succeeded() -> None:
    made = board(task(0, "a"), task(1, "b"))
    feed(made, *ran("a", 11.0), *ran("b", 12.0), RunSucceeded(0, 14.0))
    feed(made, RunResumed(0, 20.0, 2, retry=True, redo=(key("b"),)))
    assert made.segments[-1].kept == 1
    assert (made.rows["b",].status, made.rows["b",].again) == ("waiting", 1)
    feed(made, *ran("b", 21.0, 2))
    assert shown(made)["b"] == ("succeeded", "run again")
    # Also where no redo named it: a later attempt counts.
    feed(made, NodeStarted(0, 23.0, key("a"), 2))
    assert made.rows["a",].status == "running"


def test_a_cancelled_run_that_is_retried_is_not_cancelling() -> None:
    made = board(task(0, "a"))
    feed(made, RunCancelling(0, 11.0, "user", 1.0), NodeCancelled(0, 11.0, key("a"), 0, "user"))
    feed(made, RunCancelled(0, 12.0, "user"), RunResumed(0, 13.0, 2, retry=True))
    assert (made.cancelling, made.reason, made.rows["a",].reason) == (False, "", "")


def test_a_map_that_opens_again_counts_its_items_once() -> None:
    made = board(PlanNode(position=0, name="m", kind="map", task=0))
    feed(made, ScopeOpened(0, 11.0, key("m"), 3), *ran("m[0]", 11.0), *ran("m[1]", 11.0))
    feed(made, NodeFailed(0, 12.0, key("m[2]"), 1, BAD), ScopeClosed(0, 12.0, key("m"), "failed"))
    feed(made, RunFailed(0, 13.0), RunResumed(0, 14.0, 2, retry=True))
    feed(made, ScopeOpened(0, 14.0, key("m"), 3), *ran("m[2]", 15.0, 2))
    row = made.rows["m",]
    assert (row.total, row.done, row.status) == (3, 3, "succeeded")
    never = board(PlanNode(position=0, name="m", kind="map", task=0))
    feed(never, RunFailed(0, 13.0), RunResumed(0, 14.0, 2, retry=True))
    assert never.rows["m",].total is None, "it may open yet"


# --- composites -----------------------------------------------------------------------------------

SWITCH = PlanNode(
    position=0,
    name="gate",
    kind="switch",
    arms=(Arm(name="high", body=body("report")), Arm(name="low", body=body("report", "more"))),
)


def test_the_chosen_arm_runs_and_the_others_are_skipped() -> None:
    made = board(SWITCH)
    assert [row.name for row in made.rows.values()] == [
        "gate?high/report",
        "gate?low/report",
        "gate?low/more",
    ]
    feed(made, ScopeOpened(0, 11.0, key("gate"), None, "high"))
    for name in ("report", "more"):
        node = key(f"gate?low/{name}")
        feed(made, NodeSkipped(0, 11.0, node, reason="gate chose high"))
    feed(made, *ran("gate?high/report", 11.0), ScopeClosed(0, 12.0, key("gate"), "succeeded"))
    assert made.skipped == [], "nothing is missing"
    assert shown(made) == {
        "gate?high/report": ("succeeded", ""),
        "gate?low/report": ("skipped", "skipped (gate chose high)"),
        "gate?low/more": ("skipped", "skipped (gate chose high)"),
    }
    assert made.total == made.done == 3


def test_arms_in_a_map_are_chosen_item_by_item() -> None:
    inside = Fragment(name="b", nodes=(SWITCH,))
    made = board(PlanNode(position=0, name="m", kind="map", body=inside))
    feed(made, ScopeOpened(0, 11.0, key("m"), 2))
    for item, arm, other in ((0, "high", "low"), (1, "low", "high")):
        feed(made, ScopeOpened(0, 11.0, key(f"m[{item}]/gate"), None, arm))
        feed(made, *ran(f"m[{item}]/gate?{arm}/report", 11.0))
        reason = f"m[{item}]/gate chose {arm}"
        feed(made, NodeSkipped(0, 11.0, key(f"m[{item}]/gate?{other}/report"), reason=reason))
    row = made.rows["m", "gate?high", "report"]
    assert (row.total, row.passed, row.status) == (2, 1, "succeeded")
    assert (lines.label(row), lines.detail(row)) == (f"m/gate?high/report {times(1)}", "")


def test_a_composite_in_an_arm_that_is_not_chosen() -> None:
    sub = PlanNode(position=0, name="sub", kind="subgraph", body=body("x", "y"))
    arms = (
        Arm(name="then", body=body("a")),
        Arm(name="otherwise", body=Fragment(name="o", nodes=(sub,))),
    )
    made = board(PlanNode(position=0, name="if", kind="branch", arms=arms))
    skip = NodeSkipped(0, 11.0, key("if?otherwise/sub"), reason="if chose then")
    feed(made, skip)
    assert [row.status for row in made.rows.values()] == ["waiting", "skipped", "skipped"]
    feed(made, RunResumed(0, 12.0, 2, retry=True))
    assert [row.status for row in made.rows.values()] == ["waiting"] * 3


def test_a_repeat_is_one_row_with_its_iterations() -> None:
    again = Fragment(name="b", nodes=(task(0, "step"), task(1, "enough")))
    made = board(PlanNode(position=0, name="poll", kind="repeat", body=again, most=9))
    assert [row.name for row in made.rows.values()] == ["poll"]
    assert made.rows["poll",].status == "waiting"
    for index in range(3):
        feed(made, ScopeOpened(0, 11.0 + index, key("poll"), index + 1))
        feed(made, *ran(f"poll[{index}]/step", 11.0), *ran(f"poll[{index}]/enough", 11.0))
        assert made.rows["poll",].status == "running"
    feed(made, ScopeClosed(0, 20.0, key("poll"), "succeeded"))
    row = made.rows["poll",]
    assert lines.label(row) == f"poll {times(3)}"
    assert (row.status, row.done, row.took) == ("succeeded", 6, 9.0)
    failed = board(PlanNode(position=0, name="poll", kind="repeat", body=again, most=1))
    feed(failed, NodeFailed(0, 12.0, key("poll"), 0, BAD))
    assert shown(failed) == {"poll": ("failed", "failed")}


def test_what_a_rescue_made_good_for_is_no_failure() -> None:
    arms = (Arm(name="body", body=body("risky", "after")), Arm(name="handler", body=body("mend")))
    rescue = PlanNode(position=0, name="safe", kind="rescue", arms=arms)
    fine = board(rescue)
    feed(fine, ScopeOpened(0, 11.0, key("safe"), None, "body"))
    feed(fine, *ran("safe?body/risky", 11.0), *ran("safe?body/after", 12.0))
    feed(fine, ScopeClosed(0, 13.0, key("safe"), "succeeded"), RunSucceeded(0, 14.0))
    assert list(shown(fine)) == ["safe?body/risky", "safe?body/after"], "the handler never was due"
    made = board(rescue)
    feed(made, ScopeOpened(0, 11.0, key("safe"), None, "body"))
    feed(made, NodeFailed(0, 12.0, key("safe?body/risky"), 1, BAD))
    feed(made, NodeSkipped(0, 12.0, key("safe?body/after"), reason="needs safe?body/risky"))
    assert len(made.failures) == 1
    feed(made, ScopeOpened(0, 12.0, key("safe"), None, "handler"), *ran("safe?handler/mend", 12.0))
    feed(made, ScopeClosed(0, 14.0, key("safe"), "succeeded"))
    assert made.failures == []
    assert shown(made)["safe?body/risky"] == ("failed", "failed (rescued)")
    assert shown(made)["safe?handler/mend"] == ("succeeded", "")
    # Another node failed, and the run is tried again: what was rescued stays as it is.
    feed(made, RunFailed(0, 15.0), RunResumed(0, 16.0, 2, retry=True))
    assert shown(made)["safe?body/risky"] == ("failed", "failed (rescued)")


def test_rows_of_a_deep_plan_are_laid_out_without_recursion() -> None:
    inner = body("leaf")
    for _ in range(2000):
        inner = Fragment(
            name="b", nodes=(PlanNode(position=0, name="n", kind="subgraph", body=inner),)
        )
    layout = lay_out(Plan("g", inner, (TASK,), "f"))
    assert [len(path) for path in layout.rows] == [2001]


def test_what_needs_a_node_runs_again_with_it() -> None:
    inner = Fragment(
        name="b", nodes=(linked(0, "x", feeds=(1,)), linked(1, "y", waits=(0,)), linked(2, "z"))
    )
    first = linked(0, "first", feeds=(1,))
    many = PlanNode(position=1, name="m", kind="map", body=inner, waits=(0,), feeds=(2,))
    last, other = linked(2, "last", waits=(1,)), linked(3, "other")
    poll = PlanNode(position=4, name="poll", kind="repeat", body=inner)
    plan = Plan("g", Fragment(name="g", nodes=(first, many, last, other, poll)), (TASK,), "f")
    names = [
        "first",
        "m[0]/x",
        "m[0]/y",
        "m[0]/z",
        "m[1]/y",
        "last",
        "other",
        "poll[0]/z",
        "poll[2]/x",
    ]

    def again(*redo: str) -> list[str]:
        needs = needing(plan, map(key, redo))
        return [name for name in names if needs(key(name))]

    assert again("other") == ["other"]
    assert again("m[0]/x") == ["m[0]/x", "m[0]/y", "last"]
    assert again("m") == ["m[0]/x", "m[0]/y", "m[0]/z", "m[1]/y", "last"]
    assert again("first") == names[:6]
    assert again("poll[1]/y") == ["poll[2]/x"]
    assert again("nowhere/x") == []
    assert again("first/x") == names[1:6]


def linked(
    position: int, name: str, waits: tuple[int, ...] = (), feeds: tuple[int, ...] = ()
) -> PlanNode:
    return PlanNode(position=position, name=name, kind="task", task=0, waits=waits, feeds=feeds)
