"""TypedDicts: their keys, and what pydantic takes: before Python 3.12 not those of `typing`.

Rule of this room: annotations in, annotations out.
"""

from __future__ import annotations

import sys
import types
from functools import reduce
from operator import or_
from typing import Any, Final, NotRequired, Required, Union, get_args, get_origin, get_type_hints

NEEDED: Final = sys.version_info < (3, 12)


def modernise(annotation: Any, inside: tuple[object, ...] = ()) -> Any:
    """The annotation with each TypedDict in it replaced by one that pydantic takes.

    One that contains itself takes anything at that place.
    """
    if is_typed_dict(annotation):
        return Any if annotation in inside else _rebuilt(annotation, (*inside, annotation))
    args = get_args(annotation)
    new = tuple(modernise(arg, inside) for arg in args)
    if all(after is before for after, before in zip(new, args, strict=True)):
        return annotation
    origin = get_origin(annotation)
    if origin is Union or origin is types.UnionType:
        return reduce(or_, new)
    if hasattr(annotation, "copy_with"):
        return annotation.copy_with(new)
    return origin[new]


def is_typed_dict(kind: object) -> bool:
    """Whether this is a TypedDict class, of either module."""
    return isinstance(kind, type) and issubclass(kind, dict) and hasattr(kind, "__required_keys__")


def fields_of(kind: type) -> dict[str, tuple[object, bool]]:
    """The annotation of each key, and whether it is required.

    `__required_keys__` alone is wrong where annotations are texts (`from __future__`).
    """
    plain: frozenset[str] = getattr(kind, "__required_keys__", frozenset())
    found: dict[str, tuple[object, bool]] = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        origin = get_origin(hint)
        if origin is Required or origin is NotRequired:
            found[name] = (get_args(hint)[0], origin is Required)
        else:
            found[name] = (hint, name in plain)
    return found


def _rebuilt(kind: type, inside: tuple[object, ...]) -> Any:
    from typing_extensions import TypedDict  # pydantic depends on it

    fields: dict[str, Any] = {}
    for name, (hint, required) in fields_of(kind).items():
        new = modernise(hint, inside)
        fields[name] = Required[new] if required else NotRequired[new]
    return TypedDict(kind.__name__, fields)  # type: ignore[operator] # a function at run time
