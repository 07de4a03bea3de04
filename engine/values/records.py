"""Instances of the user's classes: their state out, and back in.

Dataclasses, named tuples, enums and pydantic models are stored by their fields and rebuilt
without running `__init__`, validators or `__post_init__`: what comes out equals what went in,
also where those are not idempotent.

Rule of this room: a class that is none of these kinds is refused, whatever the stored data says.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

from onready.engine.values.misfit import Misfit, type_name


def record_kind(kind: Any) -> str:
    """`enum`, `named`, `data`, `model`, or "" where the class is none of these."""
    if issubclass(kind, enum.Enum):
        return "enum"
    if issubclass(kind, tuple):
        return "named" if hasattr(kind, "_fields") and hasattr(kind, "_make") else ""
    if hasattr(kind, "__dataclass_fields__"):
        return "data"
    pydantic = sys.modules.get("pydantic")  # a model's class has imported it
    if pydantic is not None and issubclass(kind, pydantic.BaseModel):
        return "model"
    return ""


def enum_state(value: enum.Enum) -> object:
    """The member's name; the value of an unnamed combination of flags."""
    kind = type(value)
    # A combination of flags is no member: its name is None, or several in one text.
    return value._name_ if value._name_ in kind.__members__ else value._value_


def build_enum(kind: type, state: object) -> object:
    """The inverse of `enum_state`."""
    _require(kind, "enum")
    try:
        return kind[state] if isinstance(state, str) else kind(state)  # type: ignore[index] # enum
    except (KeyError, ValueError):
        message = f"{type_name(kind)} has no member {state!r} any more"
        raise Misfit(message) from None


def build_named(kind: type, items: list[object]) -> object:
    """A named tuple of `items`."""
    _require(kind, "named")
    try:
        return kind._make(items)  # type: ignore[attr-defined] # checked by record_kind
    except TypeError as error:
        message = f"{type_name(kind)} does not take the stored fields: {error}"
        raise Misfit(message) from None


def data_state(value: Any) -> dict[str, object]:
    """All instance attributes of a dataclass, cached properties aside."""
    kind = type(value)
    state = {
        field.name: getattr(value, field.name)
        for field in dataclasses.fields(value)
        if hasattr(value, field.name)
    }
    for name, item in getattr(value, "__dict__", {}).items():
        if name not in state and not _is_cached(kind, name):
            state[name] = item
    return state


def build_data(kind: type, state: Mapping[str, object]) -> object:
    """A dataclass instance with `state`; fields that are new since get their defaults."""
    _require(kind, "data")
    result: object = object.__new__(kind)
    attributes = dict(state)
    for field in dataclasses.fields(kind):
        if field.name not in attributes and _has_default(kind, field):
            attributes[field.name] = _default(field)
    for name, item in attributes.items():
        try:
            object.__setattr__(result, name, item)
        except AttributeError:
            message = f"{type_name(kind)} has no field {name!r} any more"
            raise Misfit(message) from None
    return result


def _has_default(kind: type, field: dataclasses.Field[object]) -> bool:
    missing = dataclasses.MISSING
    if field.default is not missing or field.default_factory is not missing:
        return True
    if field.init:
        message = f"the stored {type_name(kind)} has no field {field.name!r}"
        raise Misfit(message)
    return False  # its class had not set it when it was stored


def _default(field: dataclasses.Field[object]) -> object:
    factory = field.default_factory
    return field.default if factory is dataclasses.MISSING else factory()


class ModelState(NamedTuple):
    """What makes up a pydantic model; `given` are the names of the fields that were set."""

    fields: dict[str, object]
    given: list[str]
    extra: dict[str, object] | None
    private: dict[str, object] | None


def model_state(value: Any) -> ModelState:
    """All of a model but its cached properties."""
    from pydantic_core import PydanticUndefined

    declared = type(value).__pydantic_fields__
    private = value.__pydantic_private__
    if private is not None:
        private = {name: item for name, item in private.items() if item is not PydanticUndefined}
    fields = {name: item for name, item in value.__dict__.items() if name in declared}
    return ModelState(
        fields, sorted(value.__pydantic_fields_set__), value.__pydantic_extra__, private
    )


def build_model(
    kind: Any,
    fields: dict[str, object],
    given: list[str],
    extra: dict[str, object] | None,
    private: dict[str, object] | None,
) -> object:
    """The inverse of `model_state`; a model whose fields changed since is validated anew."""
    _require(kind, "model")
    if set(fields) != set(kind.__pydantic_fields__):
        return _validated(kind, {**fields, **(extra or {})})
    result: Any = kind.__new__(kind)
    result.__setstate__(
        {
            "__dict__": fields,
            "__pydantic_fields_set__": set(given),
            "__pydantic_extra__": extra,
            "__pydantic_private__": private,
        }
    )
    return result


def _validated(kind: Any, fields: dict[str, object]) -> object:
    from pydantic import ValidationError

    try:
        return kind.model_validate(fields, by_name=True)
    except ValidationError as error:
        message = f"the stored {type_name(kind)} does not fit the class any more: {error}"
        raise Misfit(message) from None


def _is_cached(kind: type, name: str) -> bool:
    return isinstance(getattr(kind, name, None), functools.cached_property)


def _require(kind: type, wanted: str) -> None:
    if record_kind(kind) != wanted:
        message = f"the stored value names {type_name(kind)}, which is no such class"
        raise Misfit(message)
