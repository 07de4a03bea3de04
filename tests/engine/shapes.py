"""Plans for the tests of the history checker: one of each composite, and some around others.

Rule of this room: shapes only; nothing here runs.
"""

from __future__ import annotations

import msgspec

from onready.engine.plan.model import Arm, Fragment, Plan, PlanNode
from tests.scheduler.plans import fragment, graphs_map, plan, subgraph, task, tasks_map


def arms(*names: str, body: Fragment | None = None) -> tuple[Arm, ...]:
    return tuple(Arm(name=name, body=body or fragment(task("work"))) for name in names)


def branch(name: str, *waits: int) -> PlanNode:
    made = PlanNode(position=0, name=name, kind="branch", waits=waits)
    return msgspec.structs.replace(made, arms=arms("then", "otherwise"))


def rescue(name: str, *waits: int) -> PlanNode:
    made = PlanNode(position=0, name=name, kind="rescue", waits=waits)
    return msgspec.structs.replace(made, arms=arms("body", "handler"))


def loop(name: str, *waits: int) -> PlanNode:
    body = fragment(task("next"), task("enough", 0))
    return PlanNode(position=0, name=name, kind="repeat", waits=waits, body=body, most=3)


def cleaning(name: str, *waits: int, needs: tuple[int, ...] = ()) -> PlanNode:
    return msgspec.structs.replace(task(name, *waits), always=True, needs=needs)


def tolerant(node: PlanNode) -> PlanNode:
    return msgspec.structs.replace(node, tolerant=True)


PLANS: dict[str, Plan] = {
    "chain": plan(task("a"), task("b", 0), task("c", 1), task("x")),
    "diamond": plan(task("a"), task("b", 0), task("c", 0), task("d", 1, 2)),
    "branch": plan(task("a"), branch("gate", 0), task("after", 1)),
    "rescue": plan(rescue("guard"), task("after", 0)),
    "repeat": plan(task("a"), loop("poll", 0), task("after", 1)),
    "always": plan(task("a"), task("b"), cleaning("clean", 0, 1, needs=(1,)), task("c", 0)),
    "tolerant": plan(tolerant(tasks_map("m")), task("after", 0)),
    "map": plan(tasks_map("m"), task("after", 0)),
    "map in an arm": plan(
        msgspec.structs.replace(branch("gate"), arms=arms("then", body=fragment(tasks_map("m"))))
    ),
    "folds": plan(task("a"), graphs_map("fold", fragment(task("fit"), task("score", 0)), 0)),
    "inner": plan(subgraph("sub", fragment(task("a"), task("b", 0))), task("after", 0)),
}
