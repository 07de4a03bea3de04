"""Running a part of a graph: which nodes a selection means, and the plan of those nodes alone.

A pattern is a node's name or a glob (`tr*`); `+` before it adds all that it needs, `+` behind it
all that needs it: `+train`, `train+`, `+train+`. Nodes are those of the graph itself: a composite
(a sub-graph, a map, a branch...) is one of them and comes with its bodies.

Rule of this room: pure functions from plan to plan.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Final

import msgspec

from onready.engine.errors import GraphError
from onready.engine.plan.fingerprint import fingerprint
from onready.engine.plan.model import (
    Arg,
    Binding,
    Fragment,
    FromNode,
    FromParam,
    Gather,
    ParamSpec,
    Plan,
    PlanNode,
)
from onready.engine.plan.shape import data_needs, sources, takes

NO_NODE: Final = "G070"
LEFT_OUT: Final = "G071"

_Onward = Callable[[PlanNode], tuple[int, ...]]


def select_nodes(plan: Plan, patterns: Sequence[str]) -> Plan:
    """The plan that runs only the nodes that `patterns` mean; without patterns `plan` itself.

    The value of the reduced graph is the graph's own where it can still be made. Otherwise it is
    the value of the last selected node, or a dict by name where there are several last ones.
    Parameters that no selected node takes need no value any more.

    GraphError `G070` where a pattern means no node, `G071` where a selected
    node takes the value of one that is left out.
    """
    if not patterns:
        return plan
    kept = sorted(_positions(plan.root, patterns))
    _check_needs(plan.root, kept)
    root, whole = _reduced(plan.root, kept)
    return replace(
        plan,
        root=root,
        fingerprint=fingerprint(root, plan.tasks),
        result_type=plan.result_type if whole else None,
    )


# --- which nodes ------------------------------------------------------------------------------


def _positions(root: Fragment, patterns: Sequence[str]) -> set[int]:
    chosen: set[int] = set()
    for pattern in patterns:
        name = pattern.strip("+")
        found = {node.position for node in root.nodes if fnmatchcase(node.name, name)}
        if not found:
            raise _unknown(root, pattern, name)
        chosen |= found
        if pattern.startswith("+"):
            chosen |= _reach(found, lambda node: node.waits, root)
        if pattern.endswith("+"):
            chosen |= _reach(found, lambda node: node.feeds, root)
    return chosen


def _reach(start: set[int], onward: _Onward, root: Fragment) -> set[int]:
    seen = set(start)
    stack = list(start)
    while stack:
        for position in onward(root.nodes[stack.pop()]):
            if position not in seen:
                seen.add(position)
                stack.append(position)
    return seen


def _unknown(root: Fragment, pattern: str, name: str) -> GraphError:
    names = [node.name for node in root.nodes]
    close = difflib.get_close_matches(name, names, n=1)
    message = f"the selection {pattern!r} means no node of {root.name}"
    hint = f"did you mean {close[0]!r}? " if close else ""
    return GraphError(NO_NODE, message, None, f"{hint}nodes: {_listed(names)}")


def _check_needs(root: Fragment, kept: Sequence[int]) -> None:
    inside = set(kept)
    for position in kept:
        node = root.nodes[position]
        missing = sorted(data_needs(node) - inside)
        if missing:
            names = _listed(root.nodes[other].name for other in missing)
            message = f"{node.name} takes the value of {names}, which is not selected"
            cure = f"select '+{node.name}' to run what it needs too"
            raise GraphError(LEFT_OUT, message, None, cure)


def _listed(names: Iterable[str], most: int = 20) -> str:
    all_names = list(names)
    more = f" and {len(all_names) - most} more" if len(all_names) > most else ""
    return ", ".join(all_names[:most]) + more


# --- the smaller fragment ---------------------------------------------------------------------


def _reduced(root: Fragment, kept: Sequence[int]) -> tuple[Fragment, bool]:
    """The fragment of the kept nodes, and whether its value is still the graph's own."""
    moved = {old: new for new, old in enumerate(kept)}
    nodes = tuple(_renumbered(root.nodes[old], moved) for old in kept)
    own = _moved(root.result, moved)
    result = _last_values(nodes) if own is None else own
    used = _params_of(nodes, result)
    params = tuple(
        param if param.name in used else ParamSpec(param.name, False, param.default, param.type)
        for param in root.params
    )
    made = Fragment(name=root.name, params=params, nodes=nodes, result=result)
    return made, own is not None


def _renumbered(node: PlanNode, moved: dict[int, int]) -> PlanNode:
    return msgspec.structs.replace(
        node,
        position=moved[node.position],
        args=_moved_args(node.args, moved),
        arms=tuple(
            msgspec.structs.replace(arm, args=_moved_args(arm.args, moved)) for arm in node.arms
        ),
        **{
            name: tuple(moved[old] for old in getattr(node, name) if old in moved)
            for name in ("waits", "feeds", "needs", "cleans")
        },
    )


def _moved_args(args: tuple[Arg, ...], moved: dict[int, int]) -> tuple[Arg, ...]:
    return tuple(
        Arg(arg.name, value, arg.each)
        for arg in args
        if (value := _moved(arg.value, moved)) is not None
    )


def _moved(binding: Binding, moved: dict[int, int]) -> Binding | None:
    """The binding with new positions; None where it needs a node that is left out."""
    if isinstance(binding, FromNode):
        new = moved.get(binding.node)
        return None if new is None else FromNode(new, binding.path)
    if isinstance(binding, Gather):
        items = [_moved(item, moved) for item in binding.items]
        whole = [item for item in items if item is not None]
        return (
            Gather(binding.kind, tuple(whole), binding.keys) if len(whole) == len(items) else None
        )
    return binding


def _last_values(nodes: Sequence[PlanNode]) -> Binding:
    last = [node for node in nodes if not node.feeds]
    if len(last) == 1:
        return FromNode(last[0].position)
    return Gather(
        "dict",
        tuple(FromNode(node.position) for node in last),
        tuple(node.name for node in last),
    )


def _params_of(nodes: Sequence[PlanNode], result: Binding) -> set[str]:
    bindings = [value for node in nodes for value in takes(node)]
    return {
        leaf.name
        for binding in (*bindings, result)
        for leaf in sources(binding)
        if isinstance(leaf, FromParam)
    }
