"""What annotations can say before anything runs: the type of a part of a value, and clashes.

Conservative on purpose: a clash is only reported where no value of the one annotation could be
read as the other. "Unknown" (MISSING) clashes with nothing.

Rule of this room: pure functions of annotations; no graph, no values.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import types
import typing
from typing import Any, Final

from onready.engine.graph.functions import MISSING, resolve_hints
from onready.engine.graph.refs import Projection

_NUMBERS: Final = (bool, int, float, complex)
_SEQUENCES: Final = (list, tuple, set, frozenset, collections.abc.Sequence, collections.abc.Set)
_MAPPINGS: Final = (dict, collections.abc.Mapping)


def strip(annotation: object) -> object:
    """The annotation without `Annotated`, `Required`, NewType and type aliases around it."""
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated or origin in {
            typing.Required,
            typing.NotRequired,
            typing.Final,
        }:
            annotation = typing.get_args(annotation)[0]
        elif isinstance(annotation, typing.NewType):
            annotation = annotation.__supertype__
        elif hasattr(annotation, "__value__") and type(annotation).__name__ == "TypeAliasType":
            # 3.12's `type` statement.
            annotation = getattr(annotation, "__value__")  # noqa: B009 # pragma: no cover
        else:
            return None.__class__ if annotation is None else annotation


def members(annotation: object) -> tuple[object, ...]:
    """The alternatives of a union; of anything else, itself alone."""
    annotation = strip(annotation)
    if typing.get_origin(annotation) in {typing.Union, types.UnionType}:
        return tuple(part for arg in typing.get_args(annotation) for part in members(arg))
    return (annotation,)


# --- parts of a value -------------------------------------------------------------------------


def arity(annotation: object) -> int | None:
    """How many items a value of this annotation has, where it tells: `tuple[int, str]` is 2."""
    annotation = strip(annotation)
    args = typing.get_args(annotation)
    if typing.get_origin(annotation) is tuple:
        if len(args) == 2 and args[1] is Ellipsis:
            return None
        return 0 if args == ((),) else len(args)
    fields = getattr(annotation, "_fields", None)  # a NamedTuple
    if isinstance(annotation, type) and issubclass(annotation, tuple) and isinstance(fields, tuple):
        return len(fields)
    return None


class NoSuchPart(Exception):
    """The annotation shows that the value has no such part; the text says what it has."""


def part(annotation: object, path: tuple[Projection, ...]) -> object:
    """The annotation of the part of a value at `path`; MISSING where it does not tell.

    Raises NoSuchPart where it shows that there is no such part.
    """
    for step in path:
        annotation = _attribute(annotation, step) if step.attribute else _item(annotation, step)
        if annotation is MISSING:
            return MISSING
    return annotation


def _attribute(annotation: object, step: Projection) -> object:
    owner = strip(annotation)
    name = str(step.key)
    if not isinstance(owner, type) or typing.is_typeddict(owner):
        return MISSING
    hints = class_hints(owner)
    if name in hints:
        return hints[name]
    record = dataclasses.is_dataclass(owner) or owner in {str, int, float, bool, list, tuple, dict}
    if record and not hasattr(owner, name) and not hasattr(owner, "__getattr__"):
        listed = ", ".join(field for field in hints if not field.startswith("_"))
        message = f"{owner.__name__} has no attribute {name!r}"
        raise NoSuchPart(f"{message}; it has {listed}" if listed else message)
    return MISSING


def _item(annotation: object, step: Projection) -> object:
    owner = strip(annotation)
    origin = typing.get_origin(owner) or owner
    args = typing.get_args(owner)
    count = arity(owner)
    if count is not None and isinstance(step.key, int):
        if not -count <= step.key < count:
            message = f"the tuple has {count} items, so there is no [{step.key}]"
            raise NoSuchPart(message)
        if args:
            return args[step.key]
        return MISSING
    if typing.is_typeddict(owner) and isinstance(step.key, str):
        hints = class_hints(typing.cast("type", owner))
        if step.key not in hints:
            message = f"the dict has no key {step.key!r}; it has {', '.join(hints)}"
            raise NoSuchPart(message)
        return hints[step.key]
    if origin in {bool, int, float, complex, type(None)}:
        message = f"a value of type {getattr(origin, '__name__', origin)} has no items"
        raise NoSuchPart(message)
    if not isinstance(origin, type):
        return MISSING
    if issubclass(origin, _MAPPINGS) and len(args) == 2:
        return args[1]
    if issubclass(origin, list | tuple | collections.abc.Sequence) and args:
        if isinstance(step.key, str):
            message = f"a {origin.__name__} has no key {step.key!r}: its items have numbers"
            raise NoSuchPart(message)
        return args[0]
    return MISSING


@functools.lru_cache(maxsize=1024)
def class_hints(owner: type) -> dict[str, Any]:
    """Annotations of a class's fields, those that resolve."""
    return resolve_hints(owner)


def element(annotation: object) -> object:
    """The annotation of what `each()` takes from a value of this annotation.

    MISSING where it does not tell; NoSuchPart where it shows that there are no items.
    """
    owner = strip(annotation)
    origin = typing.get_origin(owner) or owner
    args = typing.get_args(owner)
    if origin in {bool, int, float, complex, str, bytes, type(None)}:
        name = getattr(origin, "__name__", str(origin))
        message = f"a value of type {name.replace('NoneType', 'None')} has no items to iterate over"
        raise NoSuchPart(message)
    if not args or not isinstance(origin, type):
        return MISSING
    if origin is tuple:
        return args[0] if len(args) == 2 and args[1] is Ellipsis else MISSING
    if issubclass(origin, collections.abc.Mapping):
        return MISSING
    return args[0] if issubclass(origin, collections.abc.Iterable) and len(args) == 1 else MISSING


# --- clashes ----------------------------------------------------------------------------------


def clash(made: object, wanted: object) -> bool:
    """Whether no value annotated `made` can be read as `wanted`."""
    if made is MISSING or wanted is MISSING or made is wanted:
        return False
    return all(_clash(one, other) for one in members(made) for other in members(wanted))


def _clash(made: object, wanted: object) -> bool:
    made_literal = typing.get_origin(made) is typing.Literal
    wanted_literal = typing.get_origin(wanted) is typing.Literal
    if made_literal:
        return all(_clash(type(value), wanted) for value in typing.get_args(made)) or (
            wanted_literal and not set(typing.get_args(made)) & set(typing.get_args(wanted))
        )
    if wanted_literal:
        return all(_clash(made, type(value)) for value in typing.get_args(wanted))
    made_class = typing.get_origin(made) or made
    wanted_class = typing.get_origin(wanted) or wanted
    if not isinstance(made_class, type) or not isinstance(wanted_class, type):
        return False
    made_kind, wanted_kind = _kind(made_class), _kind(wanted_class)
    if not made_kind or not wanted_kind:
        return False
    if made_kind != wanted_kind:
        # A dict may be read as a record and the other way round; a text as many things.
        return {made_kind, wanted_kind} != {"mapping", "record"}
    if made_kind == "sequence":
        return _items_clash(made, wanted)
    if made_kind == "mapping":
        return _values_clash(made, wanted)
    if made_kind == "record":
        return _records_clash(made_class, wanted_class)
    return False


@functools.lru_cache(maxsize=1024)
def _kind(owner: type) -> str:
    """The family of values that a class belongs to; "" where it may be read from anything."""
    if owner is type(None):
        return "none"
    if owner in _NUMBERS:
        return "number"
    if owner is str:
        return "text"
    if owner in {bytes, bytearray}:
        return "bytes"
    if typing.is_typeddict(owner) or dataclasses.is_dataclass(owner):
        return "record"
    if hasattr(owner, "__pydantic_fields__") and not hasattr(owner, "root"):
        return "" if "__pydantic_root_model__" in vars(owner) else "record"
    if owner in _MAPPINGS:
        return "mapping"
    if owner in _SEQUENCES:
        return "sequence"
    return ""


def _items_clash(made: object, wanted: object) -> bool:
    counts = arity(made), arity(wanted)
    if None not in counts and counts[0] != counts[1]:
        return True
    ours, theirs = typing.get_args(made), typing.get_args(wanted)
    if counts[0] is not None and counts[0] == counts[1] and len(ours) == len(theirs):
        return any(clash(one, other) for one, other in zip(ours, theirs, strict=True))
    if len(ours) == 1 and len(theirs) == 1:
        return clash(ours[0], theirs[0])
    return False


def _values_clash(made: object, wanted: object) -> bool:
    ours, theirs = typing.get_args(made), typing.get_args(wanted)
    return len(ours) == 2 and len(theirs) == 2 and clash(ours[1], theirs[1])


def _records_clash(made: type, wanted: type) -> bool:
    """Whether the one lacks a field that the other cannot be without."""
    if wanted in made.__mro__ or made in wanted.__mro__:
        return False
    return not _required_fields(wanted) <= class_hints(made).keys()


def _required_fields(owner: type) -> set[str]:
    if typing.is_typeddict(owner):
        return set(getattr(owner, "__required_keys__", ()))
    if dataclasses.is_dataclass(owner):
        return {
            field.name
            for field in dataclasses.fields(owner)
            if field.init
            and field.default is dataclasses.MISSING
            and field.default_factory is dataclasses.MISSING
        }
    # A pydantic model: aliases and validators may fill any field.
    return set()
