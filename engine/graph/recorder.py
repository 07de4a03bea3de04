"""The recorder: turns calls into the nodes of a body, whether traced or built.

Rule of this room: all that makes a node goes through `Recorder.add`, so that a decorated graph
and a built one cannot differ. It is called once per node and is kept cheap.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, cast

from onready.engine.graph.annotations import NoSuchPart, part
from onready.engine.graph.body import Argument, Body, CallKind, Gathered, Input, Node, Value
from onready.engine.graph.codes import Code
from onready.engine.graph.constants import holds_ref, store
from onready.engine.graph.functions import MISSING
from onready.engine.graph.locate import caller, here
from onready.engine.graph.markers import Each
from onready.engine.graph.refs import Projection, Ref, describe, source_of
from onready.engine.names import Location, is_name
from onready.engine.values.stored import Compound, Stored

if TYPE_CHECKING:
    from collections.abc import Callable

    from onready.engine.graph.body import Callee
    from onready.engine.graph.locate import Where


class Recorder:
    """Adds nodes to one body. `owner` is the graph that is traced, None for a builder."""

    __slots__ = ("_counts", "_names", "body", "outer", "owner")

    def __init__(self, body: Body, owner: object = None, outer: Recorder | None = None) -> None:
        self.body = body
        self.owner = owner
        self.outer = outer
        self._names: dict[str, Node] = {}
        self._counts: dict[str, int] = {}

    def add(
        self,
        callee: Callee,
        given: Mapping[str, object],
        accepts: Callable[[str], object],
        kind: CallKind,
        *,
        name: str = "",
        after: Sequence[object] = (),
        limit: int = 0,
        always: bool = False,
    ) -> Ref:
        """Add the call of `callee` with the inputs `given`; the ref of its value."""
        where = caller()
        mapped = kind == "map"
        arguments: list[Argument] = []
        any_each = False
        for key, value in given.items():
            if type(value) is Each:
                any_each = True
                items = self._items(value, accepts(key), f"{callee.label}({key})", where, mapped)
                arguments.append(Argument(key, items, each=True))
            else:
                arguments.append(Argument(key, self.value(value, accepts(key), callee.label, key)))
        if mapped and not any_each:
            message = f"{callee.label}.map() has no each() argument"
            raise Code.G031.error(message, Location(*where))
        body = self.body
        index = len(body.nodes)
        node = Node(body, index, self._name(callee.label, name, where), callee, arguments, where)
        node.kind = kind
        node.limit = limit
        node.always = always
        if after:
            node.after = tuple([self._before(item, where) for item in after])
        # Last: a call that is refused leaves nothing behind.
        self._names[node.name] = node
        body.nodes.append(node)
        return Ref(node)

    # --- names --------------------------------------------------------------------------------

    def _name(self, label: str, explicit: str, where: Where) -> str:
        """The node's name: its own, or its task's with `-2`, `-3`... by the order of calls."""
        names = self._names
        if explicit:
            if not is_name(explicit):
                message = f"{explicit!r} cannot name a node"
                raise Code.G021.error(message, Location(*where))
            if explicit in names:
                message = (
                    f"two nodes are named {explicit!r}; the first is at {names[explicit].location}"
                )
                raise Code.G020.error(message, Location(*where))
            return explicit
        if label not in names:
            return label
        count = self._counts.get(label, 1) + 1
        while (name := f"{label}-{count}") in names:
            count += 1
        self._counts[label] = count
        return name

    # --- edges --------------------------------------------------------------------------------

    def _before(self, item: object, where: Where) -> Node | str:
        """What an entry of `after=` names; a builder may name nodes that come later."""
        if type(item) is Ref:
            self.own(item)
            source = source_of(item)
            if isinstance(source, Node):
                return source
            message = f"after= holds {describe(item)}, which is no node: it is there from the start"
            raise Code.G022.error(message, Location(*where))
        if isinstance(item, str) and self.owner is None:
            return item
        message = f"after= holds {item!r:.60}, which is no result of a call in this graph"
        raise Code.G022.error(message, Location(*where))

    # --- values -------------------------------------------------------------------------------

    def own(self, ref: Ref) -> Ref:
        """The ref itself; GraphError if it belongs to another graph."""
        body = source_of(ref).body
        if body is not self.body:
            message = f"{describe(ref)} belongs to the graph {body.name}, not to {self.body.name}"
            raise Code.G014.error(message, here())
        return ref

    def value(self, value: object, annotation: object, label: str, name: str) -> Value:
        """An argument or a result as the body keeps it."""
        kind = type(value)
        if kind is Ref:
            return self.own(cast("Ref", value))
        if holds_ref(value):
            return self._gather(value, annotation, label, name)
        return store(value, annotation, f"{label}({name})" if name else label)

    def _gather(self, value: object, annotation: object, label: str, name: str) -> Gathered:
        """A literal with refs in it."""
        if isinstance(value, dict):
            entries = cast("dict[object, object]", value)
            keys = [key for key in entries if isinstance(key, str)]
            if len(keys) != len(entries):
                message = "a dict with refs in it has keys that are no texts"
                raise Code.G015.error(message, here())
            made = [
                self.value(item, _part_or_missing(annotation, key), label, name)
                for key, item in zip(keys, entries.values(), strict=True)
            ]
            return Gathered("dict", made, tuple(keys))
        items = cast("Sequence[object]", value)
        made = [
            self.value(item, _part_or_missing(annotation, index), label, name)
            for index, item in enumerate(items)
        ]
        return Gathered("list" if isinstance(value, list) else "tuple", made)

    def _items(
        self, mark: Each, annotation: object, target: str, where: Where, mapped: bool
    ) -> Value:
        if not mapped:
            message = f"each() in a call of {target.partition('(')[0]} that is no map"
            raise Code.G030.error(message, Location(*where))
        items = mark.items
        if isinstance(items, Ref):
            return self.own(items)
        if holds_ref(items):
            label, _, name = target.rstrip(")").partition("(")
            return Gathered("list", [self.value(item, annotation, label, name) for item in items])
        stored: list[Stored] = [store(item, annotation, target) for item in items]
        return Compound("list", tuple(stored))


def _part_or_missing(annotation: object, key: str | int) -> object:
    try:
        return part(annotation, (Projection(key),))
    except NoSuchPart:
        return MISSING


def input_ref(body: Body, entry: Input) -> Ref:
    """Add a parameter to a body; its ref."""
    body.inputs[entry.name] = entry
    return Ref(entry)


_recorder: Final[ContextVar[Recorder | None]] = ContextVar("onready_recorder", default=None)


def recording(what: str) -> Recorder:
    """The recorder of the graph that is being traced; GraphError outside of one."""
    recorder = _recorder.get()
    if recorder is None:
        message = f"{what} is called outside a graph"
        raise Code.G001.error(message, here())
    return recorder


current_recorder = _recorder
