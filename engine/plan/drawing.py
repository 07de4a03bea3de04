"""Drawings of a plan: Mermaid for documents, text for terminals.

Rule of this room: text out, nothing else; what a drawing cannot show in full it counts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Final

from onready.engine.plan.lanes import rows
from onready.engine.plan.model import Fragment, FromParam, Plan, PlanNode, TaskSpec
from onready.engine.plan.shape import (
    arm_title,
    called,
    count_nodes,
    data_needs,
    depths,
    each_of,
    layers,
    literal,
    marks,
    sources,
    takes,
    title,
)

_MOST_ROWS: Final = 120
"""Rows of one body up to which each node has its own; beyond, each step is one line."""
_MOST_LANES: Final = 40
"""Characters of lines beside the names beyond which lines confuse more than they show."""
_DEEPEST: Final = 8
"""Levels of bodies in bodies that are drawn; what is deeper is counted."""
_ALIKE: Final = 4
"""So many nodes with the same needs, followers and task share a row, in graphs that are wide."""
_WIDTH: Final = 100
_DEFAULT_BACKENDS: Final = frozenset({"inline", "thread"})


# --- Mermaid ----------------------------------------------------------------------------------


def draw_mermaid(plan: Plan) -> str:
    """A Mermaid flowchart: solid arrows carry values, dotted ones only order; boxes are bodies."""
    lines = ["flowchart TD"]
    _mermaid_body(plan.root, "n", 0, lines)
    return "\n".join(lines) + "\n"


def _mermaid_body(fragment: Fragment, prefix: str, level: int, lines: list[str]) -> None:
    indent = "  " * (level + 1)
    if level > _DEEPEST:
        lines.append(f'{indent}{prefix}["{_many(count_nodes(fragment), "node")} inside"]')
        return
    for node in fragment.nodes:
        name = f"{prefix}{node.position}"
        label = _escape(f"{title(node)} (always)" if node.always else title(node))
        if not node.bodies:
            lines.append(f'{indent}{name}["{label}"]')
            continue
        lines.append(f'{indent}subgraph {name}["{label}"]')
        if node.body is not None:
            _mermaid_body(node.body, f"{name}_", level + 1, lines)
        for number, arm in enumerate(node.arms):
            inside = f"{name}a{number}"
            lines.append(f'{indent}  subgraph {inside}["{_escape(arm_title(node, arm))}"]')
            _mermaid_body(arm.body, f"{inside}_", level + 2, lines)
            lines.append(f"{indent}  end")
        lines.append(f"{indent}end")
    for node in fragment.nodes:
        data = data_needs(node)
        for need in node.waits:
            arrow = "-->" if need in data else "-.->"
            lines.append(f"{indent}{prefix}{need} {arrow} {prefix}{node.position}")


def _escape(text: str) -> str:
    return text.replace('"', "#quot;")


# --- text -------------------------------------------------------------------------------------


def draw_text(plan: Plan) -> str:
    """The graph for a terminal: one row a node, lines for what waits for what, bodies inside.

    Wide bunches of like nodes share a row; a body of more than about a hundred rows is given as
    counts, step by step.
    """
    total = count_nodes(plan.root)
    steps = len(layers(plan.root))
    header = f"{plan.name}({_signature(plan.root)})  {_many(total, 'node')}, {_many(steps, 'step')}"
    body = _Text(plan.tasks).body(plan.root, 0)
    return "\n".join([header, "", *body]) + "\n"


def _signature(fragment: Fragment) -> str:
    return ", ".join(
        param.name if param.required else f"{param.name}={literal(param.default)}"
        for param in fragment.params
    )


@dataclass(slots=True)
class _Item:
    """One row: a node, or several that are alike."""

    nodes: list[PlanNode]
    needs: tuple[int, ...]


class _Text:
    def __init__(self, tasks: tuple[TaskSpec, ...]) -> None:
        self._tasks = tasks

    def body(self, fragment: Fragment, level: int) -> Iterator[str]:
        if not fragment.nodes:
            yield "(no nodes)"
            return
        items = _items(fragment)
        if len(items) > _MOST_ROWS:
            yield from _steps(fragment)
            return
        drawn = list(rows(range(len(items)), [item.needs for item in items]))
        if max(len(row.lines) for row in drawn) > _MOST_LANES:
            yield from self._listed(fragment, items)
            return
        lane = max(max(len(row.lines), len(row.below)) for row in drawn)
        names = [_name(item) for item in items]
        width = max(map(len, names))
        for row in drawn:
            item = items[row.item]
            text = f"{row.lines:<{lane}}  {names[row.item]:<{width}}  {self._note(fragment, item)}"
            yield _cut(text.rstrip())
            for line in self._bodies(item.nodes[0], level + 1):
                yield _cut(f"{row.below:<{lane}}    {line}".rstrip())

    def _bodies(self, node: PlanNode, level: int) -> Iterator[str]:
        if node.body is not None:
            yield from self._inside(node.body, level)
        for arm in node.arms:
            yield arm_title(node, arm)
            for line in self._inside(arm.body, level):
                yield f"  {line}"

    def _inside(self, fragment: Fragment, level: int) -> Iterator[str]:
        if level > _DEEPEST:
            yield f"... {_many(count_nodes(fragment), 'node')} inside"
            return
        yield from self.body(fragment, level)

    def _listed(self, fragment: Fragment, items: Sequence[_Item]) -> Iterator[str]:
        """Too many lines to draw: the nodes by step, each with what it needs."""
        depth = depths(fragment)
        for step, members in groupby(items, lambda item: depth[item.nodes[0].position]):
            yield f"step {step + 1}"
            for item in members:
                yield _cut(f"  {_name(item)}  {self._note(fragment, item)}".rstrip())

    def _note(self, fragment: Fragment, item: _Item) -> str:
        node = item.nodes[0]
        each = each_of(fragment, node)
        plain = [text for text in _takes(fragment, node) if text not in each]
        if len(plain) > _ALIKE + 1:
            plain = [*plain[:_ALIKE], f"{len(plain) - _ALIKE} more"]
        parts = [*plain, *(f"each of {text}" for text in each)]
        note = "<- " + ", ".join(parts) if parts else ""
        note = "  ".join([note, *(f"({mark})" for mark in marks(node))]).strip()
        if node.task is not None and self._tasks[node.task].backend not in _DEFAULT_BACKENDS:
            note = f"{note}  ({self._tasks[node.task].backend})"
        return note


def _items(fragment: Fragment) -> list[_Item]:
    """The rows of a fragment, in the order of its layers."""
    ordered = [node for layer in layers(fragment) for node in layer]
    bunches: dict[object, list[PlanNode]] = {}
    for node in ordered:
        inside = tuple(map(id, node.bodies))
        like = (node.waits, node.feeds, node.kind, node.task, inside, node.always)
        bunches.setdefault(like, []).append(node)
    merge = len(ordered) > 2 * _ALIKE
    groups: list[list[PlanNode]] = []
    for bunch in bunches.values():
        groups.extend([bunch] if merge and len(bunch) >= _ALIKE else [[node] for node in bunch])
    rank = {node.position: at for at, node in enumerate(ordered)}
    groups.sort(key=lambda group: rank[group[0].position])
    row = {node.position: at for at, group in enumerate(groups) for node in group}
    return [_Item(group, tuple(sorted({row[need] for need in group[0].waits}))) for group in groups]


def _takes(fragment: Fragment, node: PlanNode) -> list[str]:
    """What a node takes, in words: parameters and nodes; order-only needs as `after x`."""
    data = data_needs(node)
    leaves = (leaf for value in takes(node) for leaf in sources(value))
    found = [leaf.name for leaf in leaves if isinstance(leaf, FromParam)]
    found.extend(called(fragment.nodes[need]) for need in node.waits if need in data)
    found.extend(f"after {called(fragment.nodes[n])}" for n in node.waits if n not in data)
    return list(dict.fromkeys(found))


def _name(item: _Item) -> str:
    nodes = item.nodes
    if len(nodes) == 1:
        return title(nodes[0])
    return f"{title(nodes[0])} ... {title(nodes[-1])}  x{len(nodes)}"


def _steps(fragment: Fragment) -> Iterator[str]:
    """One line a step; long runs of steps are counted too."""
    found = layers(fragment)
    head, tail = found[: _MOST_ROWS // 2], found[_MOST_ROWS // 2 :]
    for number, layer in enumerate(head, 1):
        names = [title(node) for node in layer]
        shown = names if len(names) <= _ALIKE else [*names[:3], "...", names[-1]]
        yield _cut(f"step {number:<4} {_many(len(layer), 'node'):<12} {', '.join(shown)}")
    if tail:
        rest = sum(map(len, tail))
        yield f"... {_many(len(tail), 'more step')} with {_many(rest, 'node')}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _cut(line: str) -> str:
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 3]}..."
