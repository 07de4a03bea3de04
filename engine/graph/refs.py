"""Refs: what a call inside a graph gives, standing for a value that does not exist yet.

A ref is only passed on or taken apart (`ref["k"]`, `ref[0]`, `ref.attribute`, unpacking); all
else that one can do to a value is refused, at the place where the user wrote it. A Ref has no
public attribute of its own, because every attribute is a projection.

Rule of this room: knows what a ref points at only as a `Source`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn, cast

from onready.engine.graph.codes import Code
from onready.engine.graph.locate import here

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from onready.engine.graph.body import Body


class Projection(NamedTuple):
    """One step into a value: `["key"]`, `[0]` or `.attribute`."""

    key: str | int
    attribute: bool = False


class Source:
    """What a ref can stand for: the value of a node, or of a parameter, of one body."""

    __slots__ = ()

    body: Body

    def describe(self) -> str:
        """How messages call it: `the result of clean`, or `the input url`."""
        raise NotImplementedError  # pragma: no cover - nodes and inputs each have theirs

    def arity(self, path: tuple[Projection, ...]) -> int | None:
        """How many items the value at `path` has, where its annotation tells."""
        raise NotImplementedError  # pragma: no cover - nodes and inputs each have theirs


class Ref:
    """Stands for a value that is there only when the graph runs."""

    __slots__ = ("_onready_path", "_onready_source")

    _onready_source: Source
    _onready_path: tuple[Projection, ...]

    def __init__(self, source: Source, path: tuple[Projection, ...] = ()) -> None:
        self._onready_source = source
        self._onready_path = path

    # --- what one may do ----------------------------------------------------------------------

    def __getitem__(self, key: object) -> Ref:
        # A bool is an int to Python, and surely a slip here.
        if isinstance(key, str) or (isinstance(key, int) and not isinstance(key, bool)):
            return Ref(self._onready_source, (*self._onready_path, Projection(key)))
        message = f"[{key!r}] of {describe(self)}: only texts and integers take a value apart"
        raise Code.G013.error(message, here())

    def __getattr__(self, name: str) -> Ref:
        # Private and special names are asked for by debuggers, copy, pickle and notebooks.
        if name.startswith("_"):
            message = f"{describe(self)} is not there yet; it has no private attribute {name!r}"
            raise AttributeError(message)
        return Ref(self._onready_source, (*self._onready_path, Projection(name, attribute=True)))

    def __iter__(self) -> Iterator[Ref]:
        count = self._onready_source.arity(self._onready_path)
        if count is None:
            message = (
                f"cannot iterate over {describe(self)}: how many items it has is not known yet"
            )
            raise Code.G012.error(message, here())
        return iter([self[index] for index in range(count)])

    def __repr__(self) -> str:
        return f"<ref {describe(self)}>"

    __hash__ = object.__hash__

    def __copy__(self) -> Ref:
        return self

    def __deepcopy__(self, memo: object) -> Ref:
        return self

    # --- what one may not ---------------------------------------------------------------------

    def __bool__(self) -> NoReturn:
        message = f"{describe(self)} is used as a truth value, but it is not there yet"
        raise Code.G010.error(message, here())

    def __len__(self) -> NoReturn:
        message = f"len() of {describe(self)}, which is not there yet"
        raise Code.G011.error(message, here())

    def __call__(self, *args: object, **kwargs: object) -> NoReturn:
        del args, kwargs
        message = f"{describe(self)} is called, but it is a value that is not there yet"
        raise Code.G013.error(message, here())

    def __eq__(self, other: object) -> NoReturn:
        raise _refuse_operation(self, "==")

    def __reduce__(self) -> NoReturn:
        raise _refuse_operation(self, "pickle")


def describe(ref: Ref) -> str:
    """A ref as the user would write it: `clean["k"].size`."""
    return ref._onready_source.describe() + path_text(ref._onready_path)


def path_text(path: tuple[Projection, ...]) -> str:
    """The steps of a path as they are written."""
    return "".join(f".{step.key}" if step.attribute else f"[{step.key!r}]" for step in path)


def source_of(ref: Ref) -> Source:
    """What a ref stands for."""
    return ref._onready_source


def path_of(ref: Ref) -> tuple[Projection, ...]:
    """The way from that value to the part that is meant."""
    return ref._onready_path


def _refuse_operation(ref: Ref, operation: str) -> Exception:
    message = f"`{operation}` on {describe(ref)}, which is not there yet"
    return Code.G013.error(message, here())


_ARITHMETIC: Final = {
    "add": "+", "sub": "-", "mul": "*", "truediv": "/", "floordiv": "//", "mod": "%", "pow": "**",
    "matmul": "@", "and": "&", "or": "|", "xor": "^", "lshift": "<<", "rshift": ">>",
    "divmod": "divmod",
}  # fmt: skip
_REFUSED: Final = {
    **{f"__{name}__": sign for name, sign in _ARITHMETIC.items()},
    **{f"__r{name}__": sign for name, sign in _ARITHMETIC.items()},
    **{f"__i{name}__": sign for name, sign in _ARITHMETIC.items()},
    "__ne__": "!=", "__lt__": "<", "__le__": "<=", "__gt__": ">", "__ge__": ">=",
    "__neg__": "-", "__pos__": "+", "__invert__": "~", "__abs__": "abs", "__round__": "round",
    "__int__": "int", "__float__": "float", "__complex__": "complex", "__index__": "index",
    "__str__": "str", "__format__": "format", "__bytes__": "bytes", "__contains__": "in",
    "__setitem__": "[...] =", "__delitem__": "del", "__next__": "next", "__reversed__": "reversed",
    "__enter__": "with", "__await__": "await",
}  # fmt: skip


def _refusal(sign: str) -> object:
    def operation(self: Ref, *operands: object) -> NoReturn:
        del operands
        raise _refuse_operation(self, sign)

    return operation


for _name, _sign in _REFUSED.items():
    setattr(Ref, _name, _refusal(_sign))


def entries_of(after: object) -> tuple[object, ...]:
    """The entries of `after=`; one ref or one name alone stands for itself."""
    if type(after) is Ref or isinstance(after, str):
        return (after,)
    return tuple(cast("Iterable[object]", after))
