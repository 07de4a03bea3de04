"""Rows by their keys: walks the open scopes, keeps no table of rows.

What may not live here: anything that changes a row.
"""

from __future__ import annotations

from onready.engine.names import NodeKey
from onready.engine.plan.model import Fragment
from onready.engine.scheduler.state import Row, Scope


class Finder:
    """Finds rows below one root. Positions of names are worked out once per fragment."""

    def __init__(self) -> None:
        self._index: dict[int, dict[str, int]] = {}

    def find(self, root: Scope, key: NodeKey) -> Row | None:
        """The row with that key, if its scope is open."""
        path: list[NodeKey] = []
        here: NodeKey | None = key
        while here is not None:
            path.append(here)
            here = here.parent
        scope: Scope | None = root
        row: Row | None = None
        for part in reversed(path):
            if scope is None:
                return None
            row = self._named(scope, part.name)
            if row is not None and part.index is not None:
                row = _item(row, part.index)
            if row is None:
                return None
            scope = row.body
            if part.arm is not None and (
                scope is None or scope.key is None or scope.key.arm != part.arm
            ):
                return None
        return row

    def _named(self, scope: Scope, name: str) -> Row | None:
        fragment = scope.fragment
        if fragment is None:
            return None
        position = self._positions(fragment).get(name)
        known = position is not None and position < len(scope.rows)
        return scope.rows[position] if known and position is not None else None

    def _positions(self, fragment: Fragment) -> dict[str, int]:
        index = self._index.get(id(fragment))
        if index is None:
            index = {node.name: node.position for node in fragment.nodes}
            self._index[id(fragment)] = index
        return index


def _item(row: Row, index: int) -> Row | None:
    items = row.body
    if items is None or items.fragment is not None or index >= len(items.rows):
        return None
    return items.rows[index]


def forget(scope: Scope) -> None:
    """Let go of the rows of `scope` and of every scope open in it; for whoever is done.

    The garbage collector does not know rows: what holds them must be emptied by hand.
    """
    todo = [scope]
    while todo:
        rows = todo.pop().rows
        todo.extend(row.body for row in rows if row.body is not None)
        rows.clear()
