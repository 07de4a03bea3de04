"""Marks that a user puts into calls and signatures: `each(...)` and `Provided(...)`.

Rule of this room: marks only; what they lead to is in the recorder and in the compiler.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, TypeVar, cast, overload

from onready.engine.graph.codes import Code
from onready.engine.graph.locate import here
from onready.engine.graph.refs import Ref

T = TypeVar("T")

CONTEXT: Final = "NodeContext"
"""The name under which every backend provides the node's own context."""
FAILURE: Final = "Failure"
"""The name under which the nodes of a handler get what failed."""
SPECIAL: Final = frozenset({CONTEXT, FAILURE})
"""What every backend provides, in or out of process."""
_HOMES: Final = {CONTEXT: "onready.engine.context", FAILURE: "onready.engine.errors"}

_UNORDERED: Final = (set, frozenset)
_TEXTS: Final = (str, bytes, bytearray)


class Each:
    """What a map iterates over: a ref, or the items themselves."""

    __slots__ = ("items",)

    def __init__(self, items: Ref | list[object]) -> None:
        self.items = items


def each(values: Iterable[T], /) -> T:
    """Mark an argument of `.map(...)` as what to iterate over.

    `values` is the result of another node, or any iterable with an order. All `each` arguments of
    one map go together, first with first, and must have equal lengths. Raises GraphError for a
    text, a set and what cannot be iterated.
    """
    given: object = values
    if isinstance(given, Ref):
        return cast("T", Each(given))
    if isinstance(given, Each):
        message = "each() inside each()"
        raise Code.G032.error(message, here(), "For a map of maps, map over a graph.")
    if isinstance(values, _TEXTS):
        message = f"each() of a {type(values).__name__}: its items would be characters"
        raise Code.G032.error(message, here(), "Give a list; list(text) if you mean characters.")
    if isinstance(values, _UNORDERED):
        message = f"each() of a {type(values).__name__}, whose items have no order"
        raise Code.G032.error(message, here(), "Give sorted(values): items are known by position.")
    try:
        items = list(values)
    except TypeError as error:
        message = f"each() of a {type(values).__name__}, which cannot be iterated"
        raise Code.G032.error(message, here()) from error
    return cast("T", Each(cast("list[object]", items)))


class ProvidedObject:
    """Stands in a signature for a live object that the engine fills in."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Provided({self.name!r})"


@overload
def Provided(what: type[T], /) -> T: ...
@overload
def Provided(what: str, /) -> Any: ...
def Provided(what: str | type[object], /) -> object:  # noqa: N802 - reads as a type in signatures
    """Stand, as a parameter's default, for a live object that the engine fills in.

    `conn: Pool = Provided("db")` receives what was given as `Engine(provided={"db": pool})` or
    per run; it works on in-process backends. `Provided(NodeContext)` receives the node's context,
    `Provided(Failure)`, in the handler of a rescue, what failed; both work on every backend. The
    result is `Any` for a name, because only the annotation knows the type. GraphError for
    anything else.
    """
    if isinstance(what, str) and what.isidentifier() and what not in SPECIAL:
        return ProvidedObject(what)
    if isinstance(what, type) and _HOMES.get(what.__qualname__) == what.__module__:
        return ProvidedObject(what.__qualname__)
    shown = what.__qualname__ if isinstance(what, type) else repr(what)
    message = f"Provided({shown}) names nothing that can be provided"
    raise Code.G042.error(message, here())
