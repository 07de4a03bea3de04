"""Annotations of what flows along the edges of a graph: clashes, found before anything runs.

Rule of this room: compares annotations; values are checked when they are encoded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onready.engine.graph.annotations import NoSuchPart, clash, element, part
from onready.engine.graph.body import Argument, Body, Input, Node
from onready.engine.graph.codes import Code
from onready.engine.graph.composites import Choice, Loop
from onready.engine.graph.definition import Definition
from onready.engine.graph.functions import MISSING, annotation_text
from onready.engine.graph.refs import Ref, describe, path_of, source_of
from onready.engine.graph.repeating import STATE

if TYPE_CHECKING:
    from onready.engine.names import Location


class TypeCheck:
    """Checks the edges of one compilation; each pair of annotations is compared once."""

    def __init__(self) -> None:
        self._fitting: set[tuple[int, bool, tuple[object, ...], int, str, bool]] = set()

    def node(self, node: Node) -> None:
        """GraphError for an argument whose annotation shows that it cannot fit."""
        callee = node.callee
        if isinstance(callee, Choice):
            self._choice(node, callee)
        elif isinstance(callee, Loop):
            self._loop(node, callee)
        if not isinstance(callee, Definition):
            return
        function = callee.function
        for argument in node.arguments:
            value = argument.value
            if type(value) is not Ref:
                continue
            source = source_of(value)
            made_by = _owner(source)
            # Positions of these two in memory are stable while the graph is compiled.
            key = (
                id(made_by),
                isinstance(source, Node) and source.kind == "map",
                path_of(value),
                id(function),
                argument.name,
                argument.each,
            )
            if key in self._fitting:
                continue
            wanted = function.accepts(argument.name)
            goes_to = f"{callee.label}({argument.name})"
            self._compare(value, wanted, goes_to, node.location, each=argument.each)
            self._fitting.add(key)

    def _choice(self, node: Node, choice: Choice) -> None:
        """What decides, and what the arms take."""
        for argument in node.arguments:
            goes_to = f"{choice.label}({argument.name})"
            self._argument(argument, choice.accepts, goes_to, node.location)
        for arm in choice.arms:
            for argument in arm.arguments:
                wanted = arm.body.inputs[argument.name].annotation
                goes_to = f"{arm.body.name}({argument.name})"
                self._argument(argument, wanted, goes_to, node.location)

    def _loop(self, node: Node, loop: Loop) -> None:
        """What an iteration takes; that the state it makes can be its next; that the test tells."""
        for argument in node.arguments:
            wanted = loop.body.inputs[argument.name].annotation
            goes_to = f"{loop.label}({argument.name})"
            self._argument(argument, wanted, goes_to, node.location)
        step, test = (part.callee for part in loop.body.nodes)
        made, taken = step.result_annotation, loop.body.inputs[STATE].annotation
        if clash(made, taken):
            message = (
                f"{step.label} returns {annotation_text(made)}, but its own {loop.state}, "
                f"which gets that in the next iteration, is {annotation_text(taken)}"
            )
            raise Code.G005.error(message, node.location)
        if clash(test.result_annotation, bool):
            have = annotation_text(test.result_annotation)
            message = f"{test.label} says when to stop, and returns {have}"
            raise Code.G005.error(message, node.location, "Return a bool.")

    def _argument(self, argument: Argument, wanted: object, goes_to: str, where: Location) -> None:
        if type(argument.value) is Ref:
            self._compare(argument.value, wanted, goes_to, where, each=argument.each)

    def result(self, body: Body) -> None:
        """GraphError where the result is a ref whose annotation shows that it cannot fit."""
        if type(body.result) is Ref and body.result_annotation is not MISSING:
            place = body.location
            target = f"the result of {body.name}"
            self._compare(body.result, body.result_annotation, target, place, each=False)

    def _compare(
        self, ref: Ref, wanted: object, goes_to: str, where: Location | None, *, each: bool
    ) -> None:
        try:
            made = part(_annotation(ref), path_of(ref))
            if each:
                made = element(made)
        except NoSuchPart as error:
            message = f"{describe(ref)}: {error}"
            raise Code.G005.error(message, where) from None
        if clash(made, wanted):
            have = annotation_text(made)
            message = f"{describe(ref)} is {have}, but {goes_to} is {annotation_text(wanted)}"
            raise Code.G005.error(message, where)


def _owner(source: object) -> object:
    """What decides the annotation of a source: the function that makes it, or the input."""
    if isinstance(source, Node):
        callee = source.callee
        return callee.function if isinstance(callee, Definition) else callee
    return source


def _annotation(ref: Ref) -> object:
    source = source_of(ref)
    return source.annotation if isinstance(source, Node | Input) else MISSING
