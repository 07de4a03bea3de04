"""Bindings: where an argument's or a result's value comes from, as the plan says it.

Rule of this room: one value of a graph to one binding of a plan; pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

from onready.engine.graph.body import Argument, Gathered, Input, Node, Value
from onready.engine.graph.refs import Projection, Ref, path_of, source_of
from onready.engine.plan.model import Arg, Binding, Const, FromNode, FromParam, Gather, Step


def bind(value: Value) -> Binding:
    """Where the value comes from."""
    kind = type(value)
    if kind is Ref:
        ref = cast("Ref", value)
        source = source_of(ref)
        path = _steps(path_of(ref))
        if isinstance(source, Node):
            return FromNode(source.index, path)
        return FromParam(cast("Input", source).name, path)
    if kind is Gathered:
        gathered = cast("Gathered", value)
        return Gather(gathered.kind, tuple([bind(item) for item in gathered.items]), gathered.keys)
    return Const(value)  # type: ignore[arg-type] # what is neither is a stored value


def bind_all(arguments: Iterable[Argument]) -> list[Arg]:
    """The arguments of a node, or of an arm."""
    return [Arg(argument.name, bind(argument.value), argument.each) for argument in arguments]


def _steps(path: tuple[Projection, ...]) -> tuple[Step, ...]:
    return tuple([Step(step.key, step.attribute) for step in path]) if path else ()
