"""Reading annotations: quick checks in plain Python, and the classes that one mentions.

Most values fit their annotation, and most annotations are simple. A quick check says a sure yes
for those, at the speed of C loops and without importing pydantic; whatever it does not say yes
to goes to `validation.py`, which converts or explains.

Rule of this room: a yes is certain, a no means nothing. No pydantic here.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import sys
import types
from collections.abc import Callable, Collection, Iterable
from inspect import Parameter, Signature
from typing import (
    Annotated,
    Any,
    Final,
    Literal,
    NewType,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from onready.engine.values.typed_dicts import fields_of, is_typed_dict

NONE: Final = type(None)
SCALARS: Final[frozenset[type]] = frozenset({NONE, bool, int, float, str})
_WIDER: Final[dict[type, frozenset[type]]] = {
    # As type checkers see it: a bool is an int, an int serves as a float.
    int: frozenset({int, bool}),
    float: frozenset({float, int, bool}),
}
_LISTS: Final = (collections.abc.Sequence, collections.abc.Iterable, collections.abc.Collection)
_DICTS: Final = (collections.abc.Mapping, collections.abc.MutableMapping)


class _NotSimpleError(Exception):
    """The annotation has no quick check."""


class Check:
    """A quick check: values of an exact type in `kinds` pass; others if `test` says so."""

    __slots__ = ("kinds", "test")

    def __init__(
        self, kinds: Iterable[type] = (), test: Callable[[Any], bool] | None = None
    ) -> None:
        self.kinds = frozenset(kinds)
        self.test = test

    def passes(self, value: object) -> bool:
        """Whether `value` surely fits."""
        return type(value) in self.kinds or (self.test is not None and self.test(value))

    def all_pass(self, values: Collection[object]) -> bool:
        """Whether each of `values` surely fits."""
        if self.kinds.issuperset(map(type, values)):
            return True
        return self.test is not None and all(map(self.passes, values))


def is_any(annotation: object) -> bool:
    """Whether the annotation says nothing about the value."""
    return (
        annotation is Any
        or annotation is object
        or annotation is Signature.empty
        or annotation is Parameter.empty
    )


def quick_check(annotation: object) -> Check | None:
    """The quick check of an annotation, or None where only pydantic can tell."""
    try:
        return _build(annotation, {})
    except (_NotSimpleError, TypeError, NameError, AttributeError):
        return None


def _build(annotation: object, seen: dict[type, Check]) -> Check:
    if annotation is None:
        return Check({NONE})
    if is_any(annotation):
        return Check(SCALARS, lambda _: True)
    if isinstance(annotation, NewType):
        return _build(annotation.__supertype__, seen)
    origin = get_origin(annotation)
    if origin is not None:
        return _build_generic(origin, get_args(annotation), seen)
    if isinstance(annotation, type):
        return _build_class(annotation, seen)
    raise _NotSimpleError


def _build_generic(origin: Any, args: tuple[Any, ...], seen: dict[type, Check]) -> Check:
    if origin is Union or origin is types.UnionType:
        checks = [_build(arg, seen) for arg in args]
        tests = [check.test for check in checks if check.test is not None]
        kinds = frozenset().union(*(check.kinds for check in checks))
        return Check(kinds, (lambda value: any(test(value) for test in tests)) if tests else None)
    if origin is Literal:
        wanted = {(type(arg), arg) for arg in args}
        return Check((), lambda value: _hashable(value) and (type(value), value) in wanted)
    if origin is tuple:
        return _build_tuple(args, seen)
    if origin in {list, set, frozenset} or origin in _LISTS:
        exact: tuple[Any, ...] = (list, tuple) if origin in _LISTS else (origin,)
        return _items_check(exact, _build(args[0], seen))
    if origin is dict or origin in _DICTS:
        keys, values = _build(args[0], seen), _build(args[1], seen)
        return Check(
            (),
            lambda value: (
                type(value) is dict and keys.all_pass(value) and values.all_pass(value.values())
            ),
        )
    if origin is Annotated or not isinstance(origin, type) or dataclasses.is_dataclass(origin):
        raise _NotSimpleError
    if origin.__module__ == "numpy":
        return _build_class(origin, seen)
    raise _NotSimpleError


def _hashable(value: object) -> bool:
    return type(value).__hash__ is not None and type(value) is not tuple


def _items_check(exact: tuple[type, ...], item: Check) -> Check:
    return Check((), lambda value: type(value) in exact and item.all_pass(value))


def _build_tuple(args: tuple[Any, ...], seen: dict[type, Check]) -> Check:
    if len(args) == 2 and args[1] is Ellipsis:
        return _items_check((tuple,), _build(args[0], seen))
    checks = [_build(arg, seen) for arg in args]

    def test(value: Any) -> bool:
        return (
            type(value) is tuple
            and len(value) == len(checks)
            and all(check.passes(item) for check, item in zip(checks, value, strict=True))
        )

    return Check((), test)


def _build_class(kind: type, seen: dict[type, Check]) -> Check:
    if kind in SCALARS:
        return Check(_WIDER.get(kind, (kind,)))
    if kind in {list, dict, tuple, set, frozenset, bytes, bytearray}:
        return Check({kind})
    if kind in seen:
        return seen[kind]
    if dataclasses.is_dataclass(kind) or _is_named_tuple(kind):
        if getattr(kind, "__parameters__", ()) or hasattr(kind, "__pydantic_config__"):
            raise _NotSimpleError
        return _fields_check(kind, seen)
    if is_typed_dict(kind):
        return _typed_dict_check(kind, seen)
    if getattr(kind, "_is_protocol", False) or kind in _LISTS or kind in _DICTS:
        raise _NotSimpleError
    if issubclass(kind, enum.Enum) or not hasattr(kind, "__pydantic_validator__"):
        return Check((), lambda value: isinstance(value, kind))
    config = getattr(kind, "model_config", {})
    if config.get("revalidate_instances", "never") != "never":
        raise _NotSimpleError
    return Check((), lambda value: isinstance(value, kind))


def _is_named_tuple(kind: Any) -> bool:
    return issubclass(kind, tuple) and hasattr(kind, "_fields")


def _fields_check(kind: type, seen: dict[type, Check]) -> Check:
    """Dataclasses and named tuples: the exact class, and each field's own check."""
    result = seen[kind] = Check()
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
    else:
        names = list(getattr(kind, "_fields", ()))
    hints = get_type_hints(kind, include_extras=True)
    checks = [(name, _build(hints.get(name, Any), seen)) for name in names]

    def test(value: object) -> bool:
        return type(value) is kind and all(
            check.passes(getattr(value, name)) for name, check in checks
        )

    result.test = test
    return result


def _typed_dict_check(kind: type, seen: dict[type, Check]) -> Check:
    result = seen[kind] = Check()
    fields = fields_of(kind)
    required = {name for name, (_, needed) in fields.items() if needed}
    checks = [(name, _build(hint, seen)) for name, (hint, _) in fields.items()]

    def test(value: object) -> bool:
        return (
            type(value) is dict
            and required <= value.keys()
            and all(name not in value or check.passes(value[name]) for name, check in checks)
        )

    result.test = test
    return result


def classes_in(annotation: object) -> frozenset[type]:
    """Every class that an annotation mentions, also through the fields of such classes."""
    found: set[type] = set()
    _collect(annotation, found)
    return frozenset(found)


def _collect(annotation: object, found: set[type]) -> None:
    if isinstance(annotation, NewType):
        _collect(annotation.__supertype__, found)
        return
    for arg in get_args(annotation):
        _collect(arg, found)
    kind = get_origin(annotation) or annotation
    if not isinstance(kind, type) or kind in found or kind.__module__ == "builtins":
        return
    found.add(kind)
    if kind.__module__.partition(".")[0] not in sys.stdlib_module_names:
        subclass: type
        for subclass in type.__subclasses__(kind):
            _collect(subclass, found)
    if dataclasses.is_dataclass(kind) or _is_named_tuple(kind) or is_typed_dict(kind):
        hints: dict[str, object] = {}
        try:
            hints = get_type_hints(kind, include_extras=True)
        except (NameError, TypeError, AttributeError):
            return
        for hint in hints.values():
            _collect(hint, found)
    for field in getattr(kind, "__pydantic_fields__", {}).values():
        _collect(field.annotation, found)
