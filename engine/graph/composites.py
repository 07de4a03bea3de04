"""Composites: nodes that choose among bodies (branch, switch, rescue) or run one again (repeat).

Rule of this room: what such a node holds, and the checks of its parts. What users call is in
`choosing` and `repeating`; both go through the recorder, like every other call.
"""

from __future__ import annotations

import typing
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, cast

from onready.engine.graph.body import Argument, Body, Node
from onready.engine.graph.codes import Code, did_you_mean
from onready.engine.graph.definition import Bound, Definition
from onready.engine.graph.functions import MISSING
from onready.engine.graph.locate import here
from onready.engine.graph.recorder import Recorder
from onready.engine.graph.refs import Ref, describe

OnLimit = Literal["fail", "return"]
"""What a repeat does that reached its limit: fail, or give the state that it has."""


@dataclass(slots=True, eq=False)
class Choice:
    """What a branch, a switch or a rescue calls: one of its arms."""

    label: str
    arms: tuple[ArmCall, ...]
    accepts: object = MISSING
    """The annotation of the value that decides. A constant of a switch may be any of its keys."""

    @property
    def result_annotation(self) -> object:
        """The union of what the arms give, or MISSING."""
        return union_of([arm.body.result_annotation for arm in self.arms])


@dataclass(slots=True, eq=False)
class ArmCall:
    """One arm: `body` with its arguments; `name` is what keys show, `key` what chooses it."""

    name: str
    body: Body
    arguments: list[Argument]
    key: str | int | bool | None = None


@dataclass(slots=True, eq=False)
class Loop:
    """What a repeat calls: `body` is one iteration, the call of `step` and then the test."""

    label: str
    body: Body
    most: int
    on_limit: OnLimit
    step: Definition[..., object]
    state: str
    """The parameter of `step` that takes the state."""

    @property
    def result_annotation(self) -> object:
        """The annotation of what the body gives, or MISSING."""
        return self.step.result_annotation


def inputs_of(node: Node) -> Iterator[Argument]:
    """All that a node takes from its graph: its own arguments and those of its arms."""
    yield from node.arguments
    if isinstance(node.callee, Choice):
        for arm in node.callee.arms:
            yield from arm.arguments


def bodies_of(node: Node) -> list[Body]:
    """The bodies inside a node, in the order in which it names them."""
    callee = node.callee
    if isinstance(callee, Choice):
        return [arm.body for arm in callee.arms]
    if isinstance(callee, Loop):
        return [callee.body]
    if isinstance(callee, Definition) and callee.kind == "subgraph":
        return [cast("Definition[..., object]", callee).body({})]
    return []


def union_of(annotations: Iterable[object]) -> object:
    """The annotation of a value that is any of these; MISSING where one does not tell."""
    known = list(annotations)
    if MISSING in known:
        return MISSING
    try:
        made: object = typing.Union[tuple(known)]  # noqa: UP007 - known at run time only
    except TypeError:  # an annotation that is no type
        return MISSING
    return made


# --- arms -------------------------------------------------------------------------------------


def arm_of(
    recorder: Recorder, label: str, name: str, bound: object, key: str | int | bool | None = None
) -> ArmCall:
    """One arm of the composite `label`; GraphError where `bound` cannot be one."""
    if type(bound) is not Bound:
        raise _no_arm(label, name, bound)
    made = cast("Bound[object]", bound)
    definition = made.definition
    if definition is not None:
        definition.prepare()
        if definition.kind == "subgraph" and definition.node_name:
            message = f"the arm {name} of {label} is a graph with the name {definition.node_name!r}"
            cure = "The arm is the graph itself, no node of its own: leave the name out."
            raise Code.G041.error(message, here(), cure)
    body = made.graph
    given = made.inputs
    for known in given:
        if known not in body.inputs:
            message = f"{body.name} has no input {known!r}"
            raise Code.G003.error(message, here(), did_you_mean(known, body.inputs))
    missing = [entry.name for entry in body.inputs.values() if entry.required]
    missing = [entry for entry in missing if entry not in given]
    if missing:
        message = f"{body.name}, the arm {name} of {label}, is not given {', '.join(missing)}"
        raise Code.G002.error(message, here())
    arguments = [
        Argument(known, recorder.value(value, body.inputs[known].annotation, body.name, known))
        for known, value in given.items()
    ]
    return ArmCall(name, body, arguments, key)


def _no_arm(label: str, name: str, given: object) -> Exception:
    cure = ""
    if type(given) is Ref:
        what = f"{describe(given)}, whose node runs in any case"
        cure = "Write name.bind(...) where name(...) stands: it then runs only if it is chosen."
    elif isinstance(given, Definition):
        what = repr(cast("object", given))
        cure = f"Write {given.label}.bind(...) with its inputs."
    else:
        what = f"{given!r:.60}"
    return Code.G033.error(f"the arm {name} of {label} is {what}", here(), cure)


def add_choice(
    recorder: Recorder,
    choice: Choice,
    kind: Literal["branch", "switch", "rescue"],
    given: dict[str, object],
    name: str,
    after: Sequence[object],
    always: bool,
) -> Ref:
    """Add the node of a choice to `recorder`; the ref of its value."""
    accepts = choice.accepts if kind == "branch" else MISSING
    return recorder.add(
        choice, given, lambda _: accepts, kind, name=name, after=after, always=always
    )
