"""Plans for the scheduler: written by hand, and drawn at random.

Rule of this room: shapes only. Tasks are never run, so that they have no functions, and arguments
are left out: the scheduler looks at `waits` and `feeds` alone.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from hypothesis import strategies as st

from onready.engine.options import RetryPolicy
from onready.engine.plan.model import Arm, Fragment, Plan, PlanNode, TaskSpec
from onready.engine.spi import Call
from tests.strategies import with_feeds

POLICIES: Final = (
    RetryPolicy(),
    RetryPolicy(3, 1.0),
    RetryPolicy(2, kinds=("evicted", "error")),
    RetryPolicy(1, types=("builtins.OSError",), kinds=("lost",)),
)
"""One task each; a node's `task` is a position here."""

TASKS: Final = tuple(
    TaskSpec(name=f"task{at}", work=Call("work:task"), backend="inline", retry=policy)
    for at, policy in enumerate(POLICIES)
)


def task(name: str, *waits: int, retry: int = 0) -> PlanNode:
    """A task that waits for the nodes at these positions; `retry` is a position in POLICIES."""
    return PlanNode(position=0, name=name, kind="task", waits=waits, task=retry)


def tasks_map(name: str, *waits: int, retry: int = 0) -> PlanNode:
    """A map over a task."""
    return PlanNode(position=0, name=name, kind="map", waits=waits, task=retry)


def graphs_map(name: str, body: Fragment, *waits: int) -> PlanNode:
    """A map over a graph."""
    return PlanNode(position=0, name=name, kind="map", waits=waits, body=body)


def subgraph(name: str, body: Fragment, *waits: int) -> PlanNode:
    """A graph inside the graph."""
    return PlanNode(position=0, name=name, kind="subgraph", waits=waits, body=body)


def branch(name: str, then: Fragment, otherwise: Fragment, *waits: int) -> PlanNode:
    """One of two bodies."""
    arms = (Arm(name="then", body=then), Arm(name="otherwise", body=otherwise))
    return PlanNode(position=0, name=name, kind="branch", waits=waits, arms=arms)


def switch(name: str, *bodies: Fragment, waits: Sequence[int] = ()) -> PlanNode:
    """One of these bodies, the arms `case-0`, `case-1` and so on."""
    arms = tuple(Arm(name=f"case-{at}", body=body, key=at) for at, body in enumerate(bodies))
    return PlanNode(position=0, name=name, kind="switch", waits=tuple(waits), arms=arms)


def rescue(name: str, body: Fragment, handler: Fragment, *waits: int) -> PlanNode:
    """A body, and what makes good for its failure."""
    arms = (Arm(name="body", body=body), Arm(name="handler", body=handler))
    return PlanNode(position=0, name=name, kind="rescue", waits=waits, arms=arms)


def repeat(name: str, body: Fragment, *waits: int) -> PlanNode:
    """A body that is done again and again."""
    return PlanNode(position=0, name=name, kind="repeat", waits=waits, body=body, most=9)


def always(node: PlanNode, *needs: int) -> PlanNode:
    """The same as a clean-up node that needs these of its waits."""
    waits = tuple(sorted({*node.waits, *needs}))
    return msgspec.structs.replace(node, always=True, needs=needs, waits=waits)


def tolerant(node: PlanNode) -> PlanNode:
    """The same map, whose consumers take failures for values."""
    return msgspec.structs.replace(node, tolerant=True)


def fragment(*nodes: PlanNode, name: str = "body") -> Fragment:
    """A body of these nodes, in this order."""
    placed = tuple(msgspec.structs.replace(node, position=at) for at, node in enumerate(nodes))
    return with_feeds(Fragment(name=name, nodes=placed))


def plan(*nodes: PlanNode) -> Plan:
    """The plan whose root has these nodes."""
    return plan_of(fragment(*nodes))


def plan_of(root: Fragment) -> Plan:
    return Plan(name="plan", root=root, tasks=TASKS, fingerprint="0")


def chain(length: int) -> Plan:
    return plan(task("n0"), *(task(f"n{at}", at - 1) for at in range(1, length)))


def nested(depth: int, *, after: Sequence[PlanNode] = ()) -> Plan:
    """A task inside `depth` sub-graphs; `after` goes behind the sub-graph on every level."""
    body = fragment(task("leaf"))
    for _ in range(depth):
        body = fragment(subgraph("in", body), *after)
    return plan_of(body)


@st.composite
def fragments(draw: Callable[..., object], depth: int = 3, most: int = 5) -> Fragment:
    """A body with any DAG as its edges, in any order of positions; bodies inside up to `depth`."""

    def number(least: int, most: int) -> int:
        found = draw(st.integers(least, most))
        assert isinstance(found, int)
        return found

    return any_fragment(number, depth, most)


def seeded_plan(seed: int, most: int) -> Plan:
    """A plan out of a seed: evenly spread, where drawing it in parts prefers what is small."""
    return plan_of(any_fragment(random.Random(seed).randint, 3, most))


def any_fragment(number: Callable[[int, int], int], depth: int, most: int) -> Fragment:
    """A body of up to `most` nodes; `number(least, most)` decides everything."""
    count = number(0 if depth < 3 else 1, most)
    places = list(range(count))
    if number(0, 1):
        # Positions need not be in the order of the edges.
        places.sort(key=lambda _: number(0, 99))
    density = number(1, 3)
    waits: dict[int, list[int]] = {
        places[later]: sorted(places[at] for at in range(later) if not number(0, density))
        for later in range(count)
    }
    return fragment(*(_any_node(number, depth, at, waits[at]) for at in range(count)))


def _any_node(
    number: Callable[[int, int], int], depth: int, at: int, waits: Sequence[int]
) -> PlanNode:
    node = _any_kind(number, depth, at, waits)
    if node.kind == "map" and not number(0, 2):
        node = tolerant(node)
    if not number(0, 5):
        node = always(node, *(wait for wait in waits if not number(0, 2)))
    return node


def _any_kind(
    number: Callable[[int, int], int], depth: int, at: int, waits: Sequence[int]
) -> PlanNode:
    kind = number(0, 13 if depth else 3)
    if kind < 3:
        return task(f"t{at}", *waits, retry=number(0, len(POLICIES) - 1))
    if kind == 3:
        return tasks_map(f"m{at}", *waits, retry=number(0, len(POLICIES) - 1))

    def body() -> Fragment:
        return any_fragment(number, depth - 1, 3 if depth > 2 else 2)

    name = f"n{at}"
    if kind < 6:
        return (subgraph if kind == 4 else graphs_map)(name, body(), *waits)
    if kind < 8:
        return repeat(name, body(), *waits)
    if kind == 8:
        return branch(name, body(), body(), *waits)
    if kind == 9:
        return switch(name, body(), body(), body(), waits=waits)
    return rescue(name, body(), body(), *waits)


def past_of(key: str) -> int:
    """Attempts that a node made before its run was continued by a retry: some, of some tasks."""
    name = key.rpartition("/")[2]
    is_task = name.startswith("t") or (name.startswith("m") and name.endswith("]"))
    return zlib.crc32(key.encode()) % 3 if is_task else 0


plans: st.SearchStrategy[Plan] = st.one_of(
    st.builds(seeded_plan, st.integers(0, 2**32 - 1), st.integers(1, 9)),
    fragments().map(plan_of),
)
"""Plans of a few nodes on top and up to three levels of bodies inside."""
