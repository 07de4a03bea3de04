"""What changed between two plans, for people: before a resume, after an edit.

The fingerprint says whether plans differ; this says where, in the words of whoever wrote the
graph: a task's code, an option, an argument, an order, an arm.

Rule of this room: pure; names instead of positions, places as they are in the plan. What a change
means for a run is decided elsewhere.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

import msgspec

from onready.engine.plan.model import (
    Arg,
    Arm,
    Binding,
    Const,
    Fragment,
    FromNode,
    Gather,
    ParamSpec,
    Plan,
    PlanNode,
    TaskSpec,
)
from onready.engine.plan.shape import literal, sources, words
from onready.engine.plan.sources import source_hash
from onready.engine.spi import Call, Work
from onready.engine.values.stored import Compound, Live, Stored

ChangeKind = Literal[
    "added",
    "removed",
    "kind",
    "code",
    "work",
    "option",
    "argument",
    "order",
    "arm",
    "parameter",
    "result",
    "form",
]


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. `node` is the node's place in the graph (`train/fit`, `gate?high/report`),
    "" for the graph itself. `what` is the option, argument, arm or parameter meant. `old` and
    `new` are in words, "" where there is none. `where` is `file:line`, "" where unknown.
    """

    kind: ChangeKind
    node: str
    what: str = ""
    old: str = ""
    new: str = ""
    where: str = ""

    def __str__(self) -> str:
        place = f" ({self.where})" if self.where else ""
        return f"{self.node or 'the graph'}: {self.text}{place}"

    @property
    def text(self) -> str:
        """What happened to the node, in words."""
        if self.kind in _WHOLE:
            return _WHOLE[self.kind]
        name = f"{self.kind} {self.what}" if self.what else self.kind
        if self.kind in {"option", "work", "kind", "result", "order"}:
            name = self.what or self.kind
        if not self.old:
            return f"{name} is new: {self.new}" if self.new else f"{name} is new"
        if not self.new:
            return f"{name} is gone: was {self.old}"
        return f"{name} was {self.old}, is {self.new}"


_WHOLE: Final[dict[str, str]] = {
    "added": "is new",
    "removed": "is gone",
    "code": "its code changed",
    "form": "the form of its plan changed: another order of nodes, or another onready",
}
_NOT_OPTIONS: Final = frozenset({"name", "work", "is_async", "source", "params"})
_OPTIONS: Final = tuple(name for name in TaskSpec.__struct_fields__ if name not in _NOT_OPTIONS)
_NODE_OPTIONS: Final = ("limit", "always", "most", "on_limit", "tolerant")


def diff_plans(old: Plan, new: Plan) -> tuple[Change, ...]:
    """Every difference between two plans, in the order of the new one; () where they are equal.

    A body that several nodes share is told once. Plans of equal fingerprint may still differ in
    what it does not cover: `on_error` and the run's `timeout`.
    """
    found = [
        *_option("", "on_error", old.on_error, new.on_error, ""),
        *_option("", "timeout", old.timeout, new.timeout, ""),
    ]
    seen: set[tuple[int, int]] = set()
    todo: list[tuple[str, Fragment, Fragment]] = [("", old.root, new.root)]
    while todo:
        prefix, before, after = todo.pop()
        if (id(before), id(after)) in seen:
            continue
        seen.add((id(before), id(after)))
        found += _fragments(prefix, old, before, new, after)
        todo += reversed(list(_inside(prefix, before, after)))
    if not found and old.fingerprint != new.fingerprint:
        found.append(Change("form", ""))
    return tuple(found)


def drift_of(plan: Plan) -> tuple[Change, ...]:
    """Of a plan that was loaded and linked: the tasks whose functions are not what they were."""
    changed = {
        number: _place_of(runtime.function)
        for number, (task, runtime) in enumerate(zip(plan.tasks, plan.runtimes, strict=True))
        if runtime.function is not None and task.source != source_hash(runtime.function)
    }
    return tuple(
        Change("code", path, where=changed[node.task] or node.where)
        for path, node in _nodes(plan.root)
        if node.task is not None and node.task in changed
    )


def _nodes(root: Fragment) -> Iterator[tuple[str, PlanNode]]:
    """Every node with its place, in order; shared bodies once."""
    seen: set[int] = set()
    todo: list[tuple[str, Fragment]] = [("", root)]
    while todo:
        prefix, fragment = todo.pop()
        if id(fragment) in seen:
            continue
        seen.add(id(fragment))
        for node in fragment.nodes:
            yield prefix + node.name, node
        todo += reversed(
            [
                (f"{prefix}{inner}/", body)
                for node in fragment.nodes
                for inner, body in _bodies(node).items()
            ]
        )


def _bodies(node: PlanNode) -> dict[str, Fragment]:
    """The bodies of a node by what keys show: `train` of a map, `gate?high` of an arm."""
    if node.body is not None:
        return {node.name: node.body}
    return {f"{node.name}?{arm.name}": arm.body for arm in node.arms}


def _inside(
    prefix: str, before: Fragment, after: Fragment
) -> Iterator[tuple[str, Fragment, Fragment]]:
    """The bodies that both fragments have."""
    old = {node.name: node for node in before.nodes}
    for node in after.nodes:
        if node.name in old:
            were = _bodies(old[node.name])
            for inner, body in _bodies(node).items():
                if inner in were:
                    yield f"{prefix}{inner}/", were[inner], body


# --- fragments and nodes ------------------------------------------------------------------------


def _fragments(
    prefix: str, old: Plan, before: Fragment, new: Plan, after: Fragment
) -> Iterator[Change]:
    path = prefix.removesuffix("/")
    yield from _parameters(path, before.params, after.params)
    were = {node.name: node for node in before.nodes}
    are = {node.name for node in after.nodes}
    for node in before.nodes:
        if node.name not in are:
            yield Change("removed", prefix + node.name, where=node.where)
    for node in after.nodes:
        known = were.get(node.name)
        if known is None:
            yield Change("added", prefix + node.name, where=node.where)
        else:
            yield from _node(prefix + node.name, (old, before, known), (new, after, node))
    if _plain(before, before.result) != _plain(after, after.result):
        yield Change("result", path, "", words(before, before.result), words(after, after.result))


_Place = tuple[Plan, Fragment, PlanNode]


def _node(path: str, before: _Place, after: _Place) -> Iterator[Change]:
    old_plan, old_in, old = before
    new_plan, new_in, new = after
    if old.kind != new.kind:
        yield Change("kind", path, "", old.kind, new.kind, new.where)
    if old.task is not None and new.task is not None:
        runtime = new_plan.runtimes[new.task] if new_plan.runtimes else None
        place = _place_of(runtime.function) if runtime is not None else ""
        tasks = old_plan.tasks[old.task], new_plan.tasks[new.task]
        yield from _task(path, *tasks, place or new.where, new.where)
    for name in _NODE_OPTIONS:
        yield from _option(path, name, getattr(old, name), getattr(new, name), new.where)
    make = partial(Change, "argument", path, where=new.where)
    yield from _arguments(make, old_in, old.args, new_in, new.args)
    yield from _arms(path, old_in, old, new_in, new)
    orders = _order(old_in, old), _order(new_in, new)
    if set(orders[0]) != set(orders[1]):
        was, now = (", ".join(order) for order in orders)
        yield Change("order", path, "after", was, now, new.where)


def _task(path: str, old: TaskSpec, new: TaskSpec, code: str, call: str) -> Iterator[Change]:
    if old.work != new.work:
        what, was = _work(old.work)
        _, now = _work(new.work)
        yield Change("work", path, what, was, now, call)
    elif old.source != new.source or old.params != new.params or old.is_async != new.is_async:
        yield Change("code", path, where=code)
    for name in _OPTIONS:
        yield from _option(path, name, getattr(old, name), getattr(new, name), call)


def _work(work: Work) -> tuple[str, str]:
    if isinstance(work, Call):
        codec = f" with codec {work.codec}" if work.codec else ""
        return "function", work.reference + codec
    return "program", msgspec.json.encode(work).decode()


def _option(path: str, name: str, old: object, new: object, where: str) -> Iterator[Change]:
    """One option, or those inside one that is a record or a table."""
    if old == new:
        return
    were, are = _table(old), _table(new)
    if were is None or are is None:
        yield Change("option", path, name, _said(old), _said(new), where)
        return
    for key in dict.fromkeys([*were, *are]):
        was, now = were.get(key), are.get(key)
        if was != now:
            yield Change("option", path, f"{name}.{key}", _said(was), _said(now), where)


def _table(value: object) -> Mapping[str, object] | None:
    if isinstance(value, msgspec.Struct):
        return msgspec.structs.asdict(value)
    return value if isinstance(value, dict) else None


def _said(value: object) -> str:
    if value is None or value in ("", ()):
        return "unset"
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


# --- arguments, arms, parameters, order ---------------------------------------------------------


def _arguments(
    make: Callable[[str, str, str], Change],
    old_in: Fragment,
    old: tuple[Arg, ...],
    new_in: Fragment,
    new: tuple[Arg, ...],
) -> Iterator[Change]:
    were = {arg.name: arg for arg in old}
    are = {arg.name: arg for arg in new}
    for name in dict.fromkeys([*were, *are]):
        before, after = were.get(name), are.get(name)
        if before is not None and after is not None and _same(old_in, before, new_in, after):
            continue
        said = _argument(old_in, before), _argument(new_in, after)
        if said[0] == said[1]:
            # Longer than what is shown, or another type that reads the same.
            said = said[0], f"another {said[1]}"
        yield make(name, *said)


def _same(old_in: Fragment, old: Arg, new_in: Fragment, new: Arg) -> bool:
    return old.each == new.each and _plain(old_in, old.value) == _plain(new_in, new.value)


def _argument(fragment: Fragment, arg: Arg | None) -> str:
    if arg is None:
        return ""
    text = words(fragment, arg.value)
    return f"each({text})" if arg.each else text


def _arms(
    path: str, old_in: Fragment, old: PlanNode, new_in: Fragment, new: PlanNode
) -> Iterator[Change]:
    were = {arm.name: arm for arm in old.arms}
    are = {arm.name: arm for arm in new.arms}
    for name in dict.fromkeys([*were, *are]):
        before, after = were.get(name), are.get(name)
        if before is None or after is None:
            said = ("", _arm(after)) if after is not None else (_arm(before), "")
            yield Change("arm", path, name, *said, new.where)
            continue
        if repr(before.key) != repr(after.key):
            yield Change("arm", path, name, _arm(before), _arm(after), new.where)
        make = partial(Change, "argument", f"{path}?{name}", where=new.where)
        yield from _arguments(make, old_in, before.args, new_in, after.args)


def _arm(arm: Arm | None) -> str:
    if arm is None:
        return ""
    return arm.body.name if arm.key is None else f"{arm.body.name} for {arm.key!r}"


def _parameters(
    path: str, old: tuple[ParamSpec, ...], new: tuple[ParamSpec, ...]
) -> Iterator[Change]:
    were = {param.name: param for param in old}
    are = {param.name: param for param in new}
    for name in dict.fromkeys([*were, *are]):
        before, after = were.get(name), are.get(name)
        if repr(before) != repr(after):
            yield Change("parameter", path, name, _parameter(before), _parameter(after))


def _parameter(param: ParamSpec | None) -> str:
    if param is None:
        return ""
    text = param.type or "any value"
    return text if param.required else f"{text} = {literal(param.default)}"


def _order(fragment: Fragment, node: PlanNode) -> list[str]:
    """The nodes that this one waits for without taking their values."""
    given = [*node.args, *(arg for arm in node.arms for arg in arm.args)]
    taken = {
        leaf.node for arg in given for leaf in sources(arg.value) if isinstance(leaf, FromNode)
    }
    return [fragment.nodes[place].name for place in node.waits if place not in taken]


# --- values that can be compared ----------------------------------------------------------------


def _plain(fragment: Fragment, binding: Binding) -> object:
    """A binding without positions, so that two plans' can be compared."""
    if isinstance(binding, Const):
        return _value(binding.value)
    if isinstance(binding, FromNode):
        return "node", fragment.nodes[binding.node].name, binding.path
    if isinstance(binding, Gather):
        return binding.kind, binding.keys, [_plain(fragment, item) for item in binding.items]
    return binding


def _value(value: Stored) -> object:
    if isinstance(value, Live):
        return "live", type(value.value).__qualname__
    if isinstance(value, Compound):
        return value.kind, value.keys, [_value(item) for item in value.items]
    # By its text: 1 is no True here, and nan is nan.
    return "const", repr(value)


def _place_of(function: Callable[..., object] | None) -> str:
    """`file:line` of a function's definition; "" where it has no Python code."""
    while isinstance(function, partial):
        function = function.func
    code = getattr(inspect.unwrap(function), "__code__", None) if function is not None else None
    return f"{code.co_filename}:{code.co_firstlineno}" if inspect.iscode(code) else ""
