"""A body: the nodes of one graph as they were traced or built, and what its value is.

Rule of this room: data, and the questions that refs ask of it. How calls become nodes is in
`recorder`; how bodies become fragments is the plan's business.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol

from onready.engine.graph.annotations import NoSuchPart, arity, part
from onready.engine.graph.functions import MISSING
from onready.engine.graph.refs import Projection, Ref, Source
from onready.engine.names import Location
from onready.engine.options import OnError
from onready.engine.values.stored import Stored

if TYPE_CHECKING:
    from onready.engine.graph.locate import Where

CallKind = Literal["task", "subgraph", "map", "branch", "switch", "repeat", "rescue"]


class Gathered:
    """A list, tuple or dict literal with refs in it; `keys` are a dict's."""

    __slots__ = ("items", "keys", "kind")

    def __init__(
        self, kind: Literal["list", "tuple", "dict"], items: list[Value], keys: tuple[str, ...] = ()
    ) -> None:
        self.kind: Literal["list", "tuple", "dict"] = kind
        self.items = items
        self.keys = keys


Value = Ref | Gathered | Stored
"""What an argument or a result is: a ref, a literal with refs in it, or a constant."""


class Argument:
    """One input of a call."""

    __slots__ = ("each", "name", "value")

    def __init__(self, name: str, value: Value, each: bool = False) -> None:
        self.name = name
        self.value = value
        self.each = each


class Callee(Protocol):
    """What a node calls: a task, a graph, a shell command, or the arms of a composite."""

    @property
    def label(self) -> str:
        """Its name, which its nodes get unless they are given their own."""
        ...

    @property
    def result_annotation(self) -> object:
        """The annotation of what one call gives, or MISSING."""
        ...


class Node(Source):
    """One call in a body: a Source of refs."""

    __slots__ = (
        "after",
        "always",
        "arguments",
        "body",
        "callee",
        "index",
        "kind",
        "limit",
        "name",
        "where",
    )

    def __init__(
        self,
        body: Body,
        index: int,
        name: str,
        callee: Callee,
        arguments: list[Argument],
        where: Where,
    ) -> None:
        self.body = body
        self.index = index
        self.name = name
        self.callee = callee
        self.arguments = arguments
        self.where = where
        self.kind: CallKind = "task"
        self.after: tuple[Node | str, ...] = ()
        self.limit = 0
        self.always = False

    @property
    def location(self) -> Location:
        """Where the call is written."""
        return Location(*self.where)

    @property
    def annotation(self) -> object:
        """The annotation of the node's value, or MISSING."""
        returned = self.callee.result_annotation
        if self.kind != "map" or returned is MISSING:
            return list if self.kind == "map" else returned
        return list[returned]  # type: ignore[valid-type] # built at run time

    def describe(self) -> str:
        """How messages call its value."""
        return f"the result of {self.name}"

    def arity(self, path: tuple[Projection, ...]) -> int | None:
        """How many items the value at `path` has, where the annotation tells."""
        return _arity(self.annotation, path)


@dataclass(slots=True, eq=False)
class Input(Source):
    """A parameter of a body: a Source of refs."""

    body: Body
    name: str
    annotation: object = MISSING
    text: str = ""
    required: bool = True
    default: Stored = None

    def describe(self) -> str:
        """How messages call its value."""
        return f"the input {self.name}"

    def arity(self, path: tuple[Projection, ...]) -> int | None:
        """How many items the value at `path` has, where the annotation tells."""
        return _arity(self.annotation, path)


def _arity(annotation: object, path: tuple[Projection, ...]) -> int | None:
    try:
        return arity(part(annotation, path))
    except NoSuchPart:
        return None


@dataclass(slots=True, eq=False)
class Body:
    """Nodes in the order in which they were called, and what the value of the whole is.

    `plans` is the compiler's memory of this body: a body does not change once it is complete.
    """

    name: str
    location: Location | None = None
    on_error: OnError | None = None
    timeout: float | None = None
    inputs: dict[str, Input] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    result: Value = None
    result_annotation: object = MISSING
    plans: dict[object, object] = field(default_factory=dict)
