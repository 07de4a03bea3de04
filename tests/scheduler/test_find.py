"""Rows by their keys: while their scopes are open, and only those that are."""

from __future__ import annotations

import pytest

from onready.engine.names import NodeKey
from onready.engine.scheduler import ends
from onready.engine.scheduler.core import Scheduler
from onready.engine.scheduler.finding import forget
from onready.engine.scheduler.state import Row
from tests.scheduler.plans import fragment, graphs_map, nested, plan, subgraph, task, tasks_map
from tests.scheduler.steps import Steps

INNER = fragment(task("x"), tasks_map("deep"))
PLAN = plan(task("a"), tasks_map("m"), graphs_map("g", INNER), subgraph("s", INNER), task("z", 2))


def opened() -> Steps:
    steps = Steps(PLAN)
    steps.handle(steps.open("m", 3), steps.open("g", 2), steps.open("s"))
    steps.handle(steps.open("g[1]"), steps.open("s/deep", 1))
    steps.handle(steps.open("g[1]/deep", 2))
    return steps


def every_row(scheduler: Scheduler) -> list[Row]:
    found: list[Row] = []
    todo = [scheduler.root]
    while todo:
        for row in todo.pop().rows:
            found.append(row)
            if row.body is not None:
                todo.append(row.body)
    return found


def test_every_row_is_found_by_its_key_and_by_the_text_of_it() -> None:
    scheduler = opened().scheduler
    rows = every_row(scheduler)
    assert len(rows) == 17
    for row in rows:
        assert scheduler.find(row.key) is row
        assert scheduler.find(NodeKey.parse(str(row.key))) is row


@pytest.mark.parametrize(
    "text",
    [
        "nobody",
        "a/x",
        "a[0]",
        "m[3]",
        "m/x",
        "m[0]/x",
        "m[0][1]".replace("][", "]/x["),
        "g/x",
        "g[0]/x",
        "g[2]/x",
        "g[1]/nobody",
        "g[1]/deep[2]",
        "s[0]",
        "s[0]/x",
        "s/x/y",
        "s/nobody",
        "z/x",
    ],
)
def test_unknown_keys_find_nothing(text: str) -> None:
    assert opened().scheduler.find(NodeKey.parse(text)) is None


def test_forgotten_bodies_find_nothing() -> None:
    steps = opened()
    scheduler = steps.scheduler
    row = steps["g"]
    inside = [steps["g[1]"], steps["g[1]/deep"]]
    scopes = [scope for scope in (row.body, *(each.body for each in inside)) if scope is not None]
    assert [len(scope.rows) for scope in scopes] == [2, 2, 2]
    forget(scopes[0])
    assert [scope.rows for scope in scopes] == [[], [], []]
    assert scheduler.find(NodeKey.parse("g[1]")) is None
    row.body = None
    assert scheduler.find(NodeKey.parse("g[1]/x")) is None
    assert scheduler.find(NodeKey.parse("g")) is row
    forget(scheduler.root)
    assert scheduler.find(NodeKey.parse("g")) is None


def test_what_is_not_opened_yet_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ends, "BUDGET", 2)
    scheduler = Scheduler(plan(*(task(f"n{at}") for at in range(4))), "stop")
    scheduler.begin()
    found = [scheduler.find(NodeKey(f"n{at}")) is not None for at in range(4)]
    assert found == [True, True, False, False]
    scheduler.handle(())
    assert scheduler.find(NodeKey("n3")) is scheduler.root.rows[3]


def test_deep_keys_are_found_without_recursion() -> None:
    depth = 3_000
    steps = Steps.opened(nested(depth))
    key = NodeKey("leaf", steps.deepest.key)
    row = steps.scheduler.find(key)
    assert row is not None
    assert row is steps.deepest.rows[0]
