"""What one node instance was given, worked out of a run's inputs and the values in its log.

For people who look at a run afterwards: the error block, `onready show`. The dispatcher has its
own way (`dispatcher/flow.py`), which also fetches blobs.

Rule of this room: pure look-ups, no I/O; a value that cannot be worked out without I/O or the
user's classes is `UNKNOWN`, never an error; it says what it is made of where that is known.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal, cast

import msgspec

from onready.engine.names import NodeKey
from onready.engine.plan.model import (
    Arg,
    Binding,
    Const,
    Fragment,
    FromNode,
    FromParam,
    Gather,
    Plan,
    PlanNode,
    Step,
)
from onready.engine.values.stored import Compound, Encoded, Live, Stored


class Unknown:
    """A value that is not at hand."""

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = Unknown()


class PartOf(Unknown):
    """A part of a value that is at hand, but in a blob, or of a class of the user's.

    `task` is the position of the task whose value the whole is, None where it is another.
    """

    def __init__(self, whole: Stored, path: tuple[Step, ...], task: int | None = None) -> None:
        self.whole = whole
        self.path = path
        self.task = task


class MadeOf(Unknown):
    """A list, tuple or dict of values some of which are `PartOf`."""

    def __init__(
        self, kind: Literal["list", "tuple", "dict"], items: list[Known], keys: tuple[str, ...]
    ) -> None:
        self.kind = kind
        self.items = items
        self.keys = keys


Known = Stored | Unknown
_STATE: Final = "state"
"""The parameter of a repeat's body that changes from one iteration to the next."""


class Arguments:
    """Answers for one run, out of what its log says.

    `values` are those of the task nodes that succeeded, by key. `counts` are the numbers of items
    of the maps that opened, and of iterations of the repeats; `arms` the arm that each branch,
    switch and rescue opened last.
    """

    def __init__(
        self,
        plan: Plan,
        inputs: Mapping[str, Stored],
        values: Mapping[NodeKey, Stored],
        counts: Mapping[NodeKey, int],
        arms: Mapping[NodeKey, str] | None = None,
    ) -> None:
        self._plan = plan
        self._inputs = inputs
        self._values = values
        self._counts = counts
        self._arms = arms or {}

    def of(self, key: NodeKey) -> tuple[dict[str, Known], frozenset[str]]:
        """The arguments of the node at `key` by name, and which of them are its item's own.

        Empty where the plan has no such node.
        """
        fragment = self._plan.root
        scope: NodeKey | None = None
        params = self._params(fragment, self._inputs)
        *outer, last = _chain(key)
        for part in outer:
            node = _named(fragment, part.name)
            inside = None if node is None else self._inside(node, fragment, scope, params, part)
            if inside is None:
                return {}, frozenset()
            fragment, params = inside
            scope = part
        node = _named(fragment, last.name)
        if node is None:
            return {}, frozenset()
        own = frozenset(arg.name for arg in node.args if arg.each)
        return self._made(node, fragment, scope, params, last), own

    def _made(
        self,
        node: PlanNode,
        fragment: Fragment,
        scope: NodeKey | None,
        params: Mapping[str, Known],
        key: NodeKey,
    ) -> dict[str, Known]:
        """The arguments of `node`, whose instance is `key`."""
        return {arg.name: self._argument(arg, fragment, scope, params, key) for arg in node.args}

    def _inside(
        self,
        node: PlanNode,
        fragment: Fragment,
        scope: NodeKey | None,
        params: Mapping[str, Known],
        part: NodeKey,
    ) -> tuple[Fragment, dict[str, Known]] | None:
        """The body that the segment `part` of a key leads into, with its parameters' values."""
        if node.body is not None:
            made = self._made(node, fragment, scope, params, part)
            if node.kind == "repeat" and part.index:
                made[_STATE] = self._state(node.body, made, part, part.index)
            return node.body, self._params(node.body, made)
        for arm in node.arms:
            if arm.name == part.arm:
                made = {a.name: self._argument(a, fragment, scope, params, part) for a in arm.args}
                return arm.body, self._params(arm.body, made)
        return None

    def _state(self, body: Fragment, given: Mapping[str, Known], key: NodeKey, done: int) -> Known:
        """The state of the repeat at `key` after `done` iterations."""
        step = body.nodes[0]
        if step.task is not None and done:
            return self._values.get(key.item(done - 1).child(step.name), UNKNOWN)
        # One after the other and not by recursion: a repeat may go round thousands of times.
        made = dict(given)
        for index in range(done):
            inner = self._params(body, made)
            made[_STATE] = self._resolve(body.result, body, key.item(index), inner)
        return made[_STATE]

    def _params(self, fragment: Fragment, given: Mapping[str, Known]) -> dict[str, Known]:
        values: dict[str, Known] = {param.name: param.default for param in fragment.params}
        values.update(given)
        return values

    def _argument(
        self,
        arg: Arg,
        fragment: Fragment,
        scope: NodeKey | None,
        params: Mapping[str, Known],
        part: NodeKey,
    ) -> Known:
        value = self._resolve(arg.value, fragment, scope, params)
        if arg.each and part.index is not None:
            return _member(value, Step(part.index))
        return value

    def _resolve(
        self,
        binding: Binding,
        fragment: Fragment,
        scope: NodeKey | None,
        params: Mapping[str, Known],
    ) -> Known:
        if isinstance(binding, Const):
            return binding.value
        if isinstance(binding, FromParam):
            return _project(params.get(binding.name, UNKNOWN), binding.path)
        if isinstance(binding, FromNode):
            node = fragment.nodes[binding.node]
            found = _project(self._value(node, fragment, scope, params), binding.path)
            return _typed(found, node)
        if isinstance(binding, Gather):
            items = [self._resolve(item, fragment, scope, params) for item in binding.items]
            return _compound(binding.kind, items, binding.keys)
        return UNKNOWN

    def _value(
        self,
        node: PlanNode,
        fragment: Fragment,
        scope: NodeKey | None,
        params: Mapping[str, Known],
    ) -> Known:
        """The value of a node of `fragment`, whose instance is `scope`."""
        key = NodeKey(node.name, scope)
        if node.kind == "map":
            count = self._counts.get(key)
            if count is None:
                return UNKNOWN
            items = [self._one(node, key.item(i), fragment, scope, params) for i in range(count)]
            return _compound("list", items, ())
        return self._one(node, key, fragment, scope, params)

    def _one(
        self,
        node: PlanNode,
        key: NodeKey,
        fragment: Fragment,
        scope: NodeKey | None,
        params: Mapping[str, Known],
    ) -> Known:
        if not node.bodies:
            return self._values.get(key, UNKNOWN)
        if node.kind == "repeat" and node.body is not None:
            given = self._made(node, fragment, scope, params, key)
            done = self._counts.get(key)
            return UNKNOWN if done is None else self._state(node.body, given, key, done)
        if node.arms:
            key = key.choose(self._arms.get(key, ""))
        inside = self._inside(node, fragment, scope, params, key)
        if inside is None:
            return UNKNOWN
        body, inner = inside
        return self._resolve(body.result, body, key, inner)


def _chain(key: NodeKey) -> list[NodeKey]:
    parts: list[NodeKey] = []
    here: NodeKey | None = key
    while here is not None:
        parts.append(here)
        here = here.parent
    parts.reverse()
    return parts


def _named(fragment: Fragment, name: str) -> PlanNode | None:
    return next((node for node in fragment.nodes if node.name == name), None)


def _compound(
    kind: Literal["list", "tuple", "dict"], items: list[Known], keys: tuple[str, ...]
) -> Known:
    if any(type(item) is Unknown for item in items):
        return UNKNOWN
    if any(isinstance(item, Unknown) for item in items):
        return MadeOf(kind, items, keys)
    return Compound(kind, tuple(cast("list[Stored]", items)), keys)


def _project(value: Known, path: tuple[Step, ...]) -> Known:
    for step in path:
        value = _member(value, step)
    return value


def _member(value: Known, step: Step) -> Known:
    """One item of a list, tuple or dict; PartOf for what only the user's classes can tell."""
    key = step.key
    if isinstance(value, PartOf):
        return PartOf(value.whole, (*value.path, step), value.task)
    if isinstance(value, Compound | MadeOf) and value.kind != "parts":
        if value.kind == "dict":
            return value.items[value.keys.index(str(key))] if key in value.keys else UNKNOWN
        return value.items[key] if isinstance(key, int) and key < len(value.items) else UNKNOWN
    if isinstance(value, Unknown | Live):
        return UNKNOWN
    member: Known = UNKNOWN
    if isinstance(value, Encoded) and value.codec == "json" and value.data is not None:
        member = _json_member(value.data, key)
    return PartOf(value, (step,)) if member is UNKNOWN else member


def _typed(value: Known, node: PlanNode) -> Known:
    """With the task that made the whole, where `value` is a part of a task's value."""
    if isinstance(value, PartOf) and value.task is None and not node.bodies:
        return PartOf(value.whole, value.path, node.task)
    return value


def _json_member(data: bytes, key: str | int) -> Known:
    try:
        whole: object = msgspec.json.decode(data)
        item: object = cast("dict[str | int, object]", whole)[key]
    except (msgspec.DecodeError, LookupError, TypeError):
        return UNKNOWN
    if item is None or isinstance(item, bool | int | float | str):
        return item
    raw = msgspec.json.encode(item)
    return Encoded("json", raw, None, len(raw))
