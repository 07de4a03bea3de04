"""Where a node key leads in a plan: its node, its fragment, what it needs.

Rule of this room: look-ups only; it knows no events.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from onready.engine.names import NodeKey
from onready.engine.plan.model import Fragment, Plan, PlanNode

COUNTED: Final = frozenset({"map", "repeat"})
"""Kinds whose scope holds items, or iterations, by number."""


def bare(key: NodeKey) -> NodeKey:
    """The composite's own key, for the key of an item, an iteration or an arm of it."""
    if key.index is None and key.arm is None:
        return key
    return NodeKey(key.name, key.parent)


def chain(key: NodeKey) -> list[NodeKey]:
    """The keys from the top of the run down to `key`."""
    keys: list[NodeKey] = []
    here: NodeKey | None = key
    while here is not None:
        keys.append(here)
        here = here.parent
    return keys[::-1]


class Places:
    """A plan, by node key. Look-ups are kept: a history names the same scopes all the time."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self._fragments: dict[NodeKey | None, Fragment | None] = {None: plan.root}
        self._names: dict[int, dict[str, PlanNode]] = {}

    def fragment(self, scope: NodeKey | None) -> Fragment | None:
        """The fragment whose nodes have `scope` for a parent; None where there is none."""
        if scope not in self._fragments:
            assert scope is not None
            self._fragments[scope] = self._body(scope)
        return self._fragments[scope]

    def _body(self, scope: NodeKey) -> Fragment | None:
        node = self._named(bare(scope))
        if node is None:
            return None
        if node.arms:
            bodies = [arm.body for arm in node.arms if arm.name == scope.arm]
            return bodies[0] if bodies else None
        placed = (node.kind in COUNTED) is (scope.index is not None) and scope.arm is None
        return node.body if placed else None

    def node(self, key: NodeKey) -> PlanNode | None:
        """The node that events with this key are about; None where the plan has none."""
        if key.arm is not None:
            return None
        node = self._named(key)
        if key.index is not None and (node is None or node.kind not in COUNTED):
            return None
        return node

    def _named(self, key: NodeKey) -> PlanNode | None:
        fragment = self.fragment(key.parent)
        return self._index(fragment).get(key.name) if fragment is not None else None

    def _index(self, fragment: Fragment) -> dict[str, PlanNode]:
        found = self._names.get(id(fragment))
        if found is None:
            found = self._names[id(fragment)] = {node.name: node for node in fragment.nodes}
        return found

    def siblings(self, key: NodeKey, positions: tuple[int, ...]) -> Iterator[NodeKey]:
        """The keys of nodes beside `key`, by their positions in its fragment."""
        fragment = self.fragment(key.parent)
        assert fragment is not None
        return (NodeKey(fragment.nodes[at].name, key.parent) for at in positions)

    def members(self, key: NodeKey, count: int | None, arm: str | None) -> Iterator[NodeKey]:
        """The keys of all nodes directly inside the composite `key`, opened like this."""
        node = self.node(key)
        if node is None:
            return
        if node.kind in COUNTED and key.index is None:
            yield from (key.item(index) for index in range(count or 0))
        else:
            yield from self.inside(key.choose(arm) if arm is not None else key)

    def inside(self, scope: NodeKey | None) -> Iterator[NodeKey]:
        """The keys of all nodes whose parent is `scope`."""
        fragment = self.fragment(scope)
        if fragment is not None:
            yield from (NodeKey(node.name, scope) for node in fragment.nodes)

    def follows(self, key: NodeKey, redone: NodeKey) -> bool:
        """Whether `key` runs again where `redone` does: it is, is in, holds or needs that."""
        for mine, other in zip(chain(key), chain(redone), strict=False):
            if mine == other:
                continue
            if mine.name != other.name:
                return self._needs(mine, other)
            if bare(mine) is mine or bare(other) is other:
                return True
            if mine.index is not None and other.index is not None:
                node = self._named(bare(mine))
                return node is not None and node.kind == "repeat" and mine.index > other.index
            return (mine.arm, other.arm) == ("handler", "body")
        return True

    def _needs(self, key: NodeKey, other: NodeKey) -> bool:
        fragment = self.fragment(key.parent)
        source, target = self._named(bare(other)), self._named(bare(key))
        if fragment is None or source is None or target is None:
            return False
        seen = {source.position}
        todo = [source.position]
        while todo:
            for position in fragment.nodes[todo.pop()].feeds:
                if position not in seen:
                    seen.add(position)
                    todo.append(position)
        return target.position in seen
