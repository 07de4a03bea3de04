"""A plan as a plain dict: what `onready plan --format json` prints.

Rule of this room: JSON types only, and names instead of positions: it is read by people and by
their scripts. The form that is read back is in `dump`.
"""

from __future__ import annotations

from typing import Final

import msgspec

from onready.engine.plan.model import Arm, Fragment, ParamSpec, Plan, PlanNode, TaskSpec
from onready.engine.plan.shape import call_words, count_nodes, data_needs, literal, words
from onready.engine.spi import Call

VIEW_VERSION: Final = 1
_DEEPEST: Final = 64
"""Levels of bodies in bodies that are shown; what is deeper is counted, as no reader follows it."""

View = dict[str, object]


def view(plan: Plan) -> View:
    """The plan in JSON types: parameters, nodes in order with what they need, bodies inside."""
    return {
        "version": VIEW_VERSION,
        "graph": plan.name,
        "fingerprint": plan.fingerprint,
        "where": "" if plan.location is None else str(plan.location),
        "on_error": plan.on_error,
        "timeout": plan.timeout,
        "nodes_total": count_nodes(plan.root),
        **_body(plan.root, plan.tasks, 0),
    }


def _body(fragment: Fragment, tasks: tuple[TaskSpec, ...], level: int) -> View:
    if level > _DEEPEST:
        return {"nodes_total": count_nodes(fragment)}
    return {
        "parameters": [_parameter(param) for param in fragment.params],
        "nodes": [_node(fragment, node, tasks, level) for node in fragment.nodes],
        "result": words(fragment, fragment.result),
    }


def _parameter(param: ParamSpec) -> View:
    shown: View = {"name": param.name, "required": param.required, "type": param.type}
    if not param.required:
        shown["default"] = literal(param.default)
    return shown


def _node(fragment: Fragment, node: PlanNode, tasks: tuple[TaskSpec, ...], level: int) -> View:
    data = data_needs(node)
    names = [(position, fragment.nodes[position].name) for position in node.waits]
    shown: View = {
        "name": node.name,
        "kind": node.kind,
        "where": node.where,
        "needs": [name for position, name in names if position in data],
        "after": [name for position, name in names if position not in data],
        "arguments": call_words(fragment, node.args),
    }
    if node.limit:
        shown["limit"] = node.limit
    shown.update({name: True for name in ("always", "tolerant") if getattr(node, name)})
    if node.most:
        shown["most"] = node.most
        shown["on_limit"] = node.on_limit
    if node.task is not None:
        shown["task"] = _task(tasks[node.task])
    if node.body is not None:
        shown["body"] = {"graph": node.body.name, **_body(node.body, tasks, level + 1)}
    if node.arms:
        shown["arms"] = [
            {
                **_arm(fragment, node, arm),
                "body": {"graph": arm.body.name, **_body(arm.body, tasks, level + 1)},
            }
            for arm in node.arms
        ]
    return shown


def _arm(fragment: Fragment, node: PlanNode, arm: Arm) -> View:
    """One arm; `key` is there in a switch alone, and not for its default."""
    shown: View = {"name": arm.name, "arguments": call_words(fragment, arm.args)}
    if node.kind == "switch" and arm.key is not None:
        shown["key"] = arm.key
    return shown


def _task(task: TaskSpec) -> View:
    """Name, work and backend always; of the options those that differ from their defaults."""
    work = task.work
    shown: View = {"name": task.name, "backend": task.backend}
    if isinstance(work, Call):
        shown["function"] = work.reference
    else:
        shown["command"] = list(work.argv)
    plain = TaskSpec(name="", work=work, backend="")
    for name in _OPTIONS:
        value = getattr(task, name)
        if value != getattr(plain, name):
            shown[name] = msgspec.json.decode(msgspec.json.encode(value))
    return shown


_OPTIONS: Final = tuple(
    name
    for name in TaskSpec.__struct_fields__
    if name not in {"name", "work", "backend", "is_async", "source", "params"}
)
