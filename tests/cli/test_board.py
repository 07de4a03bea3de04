"""The board: what rows, counts and times come of events, in any order that can happen."""

from __future__ import annotations

from onready.cli import lines
from onready.cli.board import Board, indexes_of, path_of
from onready.engine.errors import Failure
from onready.engine.events import (
    AttemptPlanned,
    NodeCached,
    NodeCancelled,
    NodeFailed,
    NodeLog,
    NodeLost,
    NodeProgress,
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
from onready.engine.graph import each, graph, task
from onready.engine.names import NodeKey
from onready.engine.plan.compile import compile_plan
from onready.engine.spi import Capabilities

BAD = Failure("error", "no")


@task
def one(x: int) -> int:
    return x


@graph
def inner(x: int, ys: list[int]) -> int:
    one.map(each(ys))
    return one.with_options(name="after")(x)


@graph
def outer(xs: list[int]) -> int:
    inner.map(each(xs), [1])
    inner.with_options(name="sub")(1, [])
    return one.with_options(name="last")(1)


PLAN = compile_plan(outer.bound({}), backends={"thread": Capabilities(in_process=True)})


def key(text: str) -> NodeKey:
    return NodeKey.parse(text)


def board() -> Board:
    made = Board(PLAN)
    made.apply(RunStarted(1, 10.0, "outer", "a-b-1", "f" * 64, {}))
    return made


def test_rows_are_laid_out_in_the_order_of_the_graph() -> None:
    rows = board().rows
    assert [row.name for row in rows.values()] == [
        "inner/one", "inner/after", "sub/one", "sub/after", "last",
    ]  # fmt: skip
    assert [row.many for row in rows.values()] == [True, True, True, False, False]
    assert [row.total for row in rows.values()] == [None, None, None, 1, 1]
    assert {row.status for row in rows.values()} == {"waiting"}


def test_totals_grow_as_maps_open() -> None:
    made = board()
    assert made.total is None
    made.apply(ScopeOpened(2, 10.1, key("inner"), 2))
    made.apply(ScopeOpened(3, 10.1, key("inner[0]")))
    made.apply(ScopeOpened(4, 10.1, key("inner[0]/one"), 3))
    made.apply(ScopeOpened(5, 10.1, key("inner[1]/one"), 4))
    made.apply(ScopeOpened(6, 10.1, key("sub/one"), 0))
    rows = {row.name: row for row in made.rows.values()}
    assert rows["inner/after"].total == 2
    assert rows["inner/one"].total == 7
    assert (rows["sub/one"].total, rows["sub/one"].status) == (0, "succeeded")
    assert made.total == 11


def test_an_attempt_from_plan_to_end() -> None:
    made = board()
    last = key("last")
    row = made.rows["last",]
    made.apply(AttemptPlanned(2, 11.0, last, 1, "process", "onready-x"))
    made.apply(NodeProgress(3, 11.2, last, 1, 0.5, "pulling a:1"))
    assert (row.status, row.message) == ("waiting", "pulling a:1")
    made.apply(NodeStarted(3, 11.5, last, 1))
    assert (row.message, row.fraction) == ("", None), "it begins: that is over"
    assert (row.running, row.backend, row.status) == (1, "process", "running")
    assert row.began == 11.5, "planned ahead of a free slot: its time begins when it starts"
    assert list(made.active()) == [row]
    made.apply(NodeProgress(4, 11.6, last, 1, 0.25, "a quarter"))
    assert (row.fraction, row.message) == (0.25, "a quarter")
    made.apply(NodeRetrying(5, 12.0, last, 1, 3.0, BAD))
    assert (row.running, row.retries, row.busy) == (0, 1, 0.5)
    made.apply(NodeStarted(6, 15.0, last, 2))
    made.apply(NodeLog(7, 15.5, last, 2, "stdout", 10))
    made.apply(NodeSucceeded(8, 16.0, last, 2, 1))
    assert (row.busy, row.took, row.status) == (1.5, 4.5, "succeeded")
    assert lines.detail(row) == "1 retry"
    assert made.logged == {(last, 2): {"stdout": 10}}
    assert (made.done, made.busy) == (1, 1.5)


def test_every_end_of_a_node() -> None:
    made = board()
    made.apply(NodeFailed(2, 11.0, key("inner[0]/one[0]"), 1, BAD))
    made.apply(NodeLost(3, 11.0, key("inner[0]/one[1]"), 1, Failure("lost", "gone")))
    made.apply(NodeCancelled(4, 11.0, key("inner[0]/one[2]"), 1, "stop"))
    made.apply(NodeCached(5, 11.0, key("inner[0]/one[3]"), 0, "r0"))
    made.apply(NodeSkipped(6, 11.0, key("last"), reason="needs inner"))
    made.apply(NodeCached(7, 11.0, key("sub/after"), 0, "r0"))
    made.apply(ScopeClosed(8, 11.0, key("inner"), "failed"))
    made.apply(RunResumed(9, 11.0, 2))
    made.apply(RunFailed(10, 12.0, (key("inner[0]/one[0]"),)))
    row = made.rows["inner", "one"]
    assert row.counts == {"failed": 1, "lost": 1, "cancelled": 1, "cached": 1}
    assert row.status == "failed"
    assert lines.detail(row) == "1 failed, 1 lost, 1 cancelled, 1 cached"
    assert [str(at) for at, _, _ in made.failures] == ["inner[0]/one[0]", "inner[0]/one[1]"]
    assert made.rows["last",].status == "skipped"
    assert lines.detail(made.rows["last",]) == "skipped (needs inner)"
    assert made.rows["sub", "after"].status == "cached"
    assert made.rows["inner", "after"].total == 0, "a map that never opened has no items"
    assert (made.status, made.ended) == ("failed", 12.0)
    assert "from the cache" in lines.summary(made)


def test_a_run_that_is_cancelled() -> None:
    made = board()
    made.apply(NodeStarted(2, 10.5, key("last"), 1))
    made.apply(RunCancelling(3, 11.0, "user", 10.0))
    assert made.cancelling
    made.apply(NodeCancelled(4, 11.5, key("last"), 1, "user"))
    made.apply(RunCancelled(5, 12.0, "user"))
    assert (made.status, made.reason) == ("cancelled", "user")
    assert made.rows["last",].status == "cancelled"


def test_without_a_plan_rows_come_with_the_events() -> None:
    made = Board()
    made.apply(NodeSucceeded(1, 1.0, key("a"), 1))
    made.apply(NodeSucceeded(2, 2.0, key("m[3]/b"), 1))
    made.apply(ScopeOpened(3, 2.0, key("m"), 5))
    made.apply(RunSucceeded(4, 3.0))
    assert [(row.name, row.many) for row in made.rows.values()] == [("a", False), ("m/b", True)]
    assert made.status == "succeeded"
    assert made.rows["a",].took is None


def test_parts_of_keys() -> None:
    assert path_of(key("a/b[3]/c")) == ("a", "b", "c")
    assert indexes_of(key("a[1]/b[3]/c")) == (1, 3)
