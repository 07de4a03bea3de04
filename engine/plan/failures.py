"""Failures as values: who may take one, and which maps put them into their lists.

Rule of this room: annotations and edges of one body; no backends, no values.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from onready.engine.errors import Failure
from onready.engine.graph.annotations import NoSuchPart, element, members, part
from onready.engine.graph.body import Body, Gathered, Node, Value
from onready.engine.graph.codes import Code
from onready.engine.graph.composites import Choice, Loop
from onready.engine.graph.definition import Definition
from onready.engine.graph.functions import MISSING
from onready.engine.graph.refs import Projection, Ref, path_of, source_of
from onready.engine.names import Location


class Wanted(NamedTuple):
    """A task that wants the failure of the rescue around it, and where it is called."""

    name: str
    location: Location

    def refuse(self) -> Exception:
        """The GraphError where no rescue is around it."""
        message = f"{self.name} wants the failure, and it is not in the handler of a rescue"
        return Code.G046.error(message, self.location)


class _Use(NamedTuple):
    """One use of a map's items: by whom, where, and as what (MISSING: as anything)."""

    goes_to: str
    location: Location | None
    item: object

    @property
    def takes_failures(self) -> bool:
        return Failure in members(self.item)


def tolerant_maps(body: Body) -> frozenset[int]:
    """Positions of the maps whose consumers take failures among the items.

    GraphError where one consumer of a map does and another, by its annotation, does not.
    """
    maps = {node.index for node in body.nodes if node.kind == "map"}
    if not maps:
        return frozenset()
    uses: dict[int, list[_Use]] = {}
    for position, use in _uses(body, maps):
        uses.setdefault(position, []).append(use)
    found: list[int] = []
    for position, known in uses.items():
        willing = next((use for use in known if use.takes_failures), None)
        if willing is None:
            continue
        for use in known:
            if use.item is not MISSING and not use.takes_failures:
                name = body.nodes[position].name
                message = (
                    f"{willing.goes_to} takes failures among the items of {name}, "
                    f"but {use.goes_to} does not"
                )
                raise Code.G036.error(message, use.location)
        found.append(position)
    return frozenset(found)


def _uses(body: Body, maps: set[int]) -> Iterator[tuple[int, _Use]]:
    for node in body.nodes:
        for goes_to, value, annotation, each in _inputs(node):
            for position, item in _items(value, annotation, maps, each=each):
                yield position, _Use(goes_to, node.location, item)
    for position, item in _items(body.result, body.result_annotation, maps, each=False):
        yield position, _Use(f"the result of {body.name}", body.location, item)


def _inputs(node: Node) -> Iterator[tuple[str, Value, object, bool]]:
    """What a node takes: where it goes, the value, the annotation there, whether one by one."""
    callee = node.callee
    for argument in node.arguments:
        annotation: object = MISSING
        if isinstance(callee, Definition):
            annotation = callee.function.accepts(argument.name)
        elif isinstance(callee, Loop):
            annotation = callee.body.inputs[argument.name].annotation
        yield f"{callee.label}({argument.name})", argument.value, annotation, argument.each
    if isinstance(callee, Choice):
        for arm in callee.arms:
            for argument in arm.arguments:
                goes_to = f"{arm.body.name}({argument.name})"
                annotation = arm.body.inputs[argument.name].annotation
                yield goes_to, argument.value, annotation, argument.each


def _items(
    value: Value, annotation: object, maps: set[int], *, each: bool
) -> Iterator[tuple[int, object]]:
    """The maps whose items go where `annotation` stands, each with the annotation of an item."""
    if type(value) is Gathered:
        keys: Sequence[str | int] = value.keys or range(len(value.items))
        for key, inner in zip(keys, value.items, strict=True):
            # Of a literal, one by one means: each of its parts, so their items are not looked at.
            yield from _items(inner, MISSING if each else _part(annotation, key), maps, each=False)
        return
    if type(value) is not Ref:
        return
    source = source_of(value)
    if type(source) is not Node or source.index not in maps:
        return
    path = path_of(value)
    if not path:
        yield source.index, annotation if each else _element(annotation)
    elif len(path) == 1 and not each:
        yield source.index, annotation


def _element(annotation: object) -> object:
    try:
        return element(annotation)
    except NoSuchPart:
        return MISSING


def _part(annotation: object, key: str | int) -> object:
    try:
        return part(annotation, (Projection(key),))
    except NoSuchPart:
        return MISSING
