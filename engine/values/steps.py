"""Parts of values: projections (`ref["key"]`, `ref.attribute`), and values built of others.

Rule of this room: no plans; a step is a key and whether it is an attribute.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, Protocol

from onready.engine.errors import ValueMismatch
from onready.engine.values.misfit import Attribute, path_text, shown, type_name
from onready.engine.values.stored import Compound, Live, Stored
from onready.engine.values.types import ValueType


class StepLike(Protocol):
    """A projection: of a plan, or of anything shaped like it."""

    @property
    def key(self) -> str | int: ...

    @property
    def attribute(self) -> bool: ...


def apply_step(value: object, key: str | int, attribute: bool = False) -> object:
    """`value[key]`, or `value.key` for an attribute; ValueMismatch names what is there instead."""
    try:
        if attribute:
            return getattr(value, str(key))
        return value[key]  # type: ignore[index] # whatever has no items raises TypeError
    except (KeyError, IndexError, TypeError, AttributeError):
        step = Attribute(key) if attribute else key
        path = path_text([step])
        message = f"{path}: {_missing(value, key, attribute)}"
        raise ValueMismatch(message, path) from None


def _missing(value: object, key: str | int, attribute: bool) -> str:
    kind = type_name(type(value))
    if attribute:
        return f"{kind} has no attribute {key!r}: it is {shown(value)}"
    if isinstance(value, Mapping):
        return f"no key {key!r}; there are {shown(list(value))}"
    if isinstance(value, Sequence) and isinstance(key, int):
        return f"{kind} has {len(value)} items, none at {key}"
    return f"{kind} has no item {key!r}: it is {shown(value)}"


def project(stored: Stored, path: Iterable[StepLike]) -> Stored:
    """The stored form of a part of `stored`, whose blobs along `path` must be inline.

    Compound values are taken apart as they are; others are decoded, and the part encoded anew.
    A part without a codec comes back live if the whole was live.
    """
    steps = list(path)
    while steps and isinstance(stored, Compound) and stored.kind != "parts":
        key, attribute = steps[0].key, steps[0].attribute
        if attribute:
            break
        stored = _take(stored, key)
        del steps[0]
    if not steps:
        return stored
    value = ValueType.any().decode(stored)
    for position, step in enumerate(steps):
        try:
            value = apply_step(value, step.key, step.attribute)
        except ValueMismatch as error:
            done = path_text(_shown_step(each) for each in steps[: position + 1])
            message = f"{done}: {str(error).partition(': ')[2]}"
            raise ValueMismatch(message, done) from None
    return Live(value) if isinstance(stored, Live) else ValueType.any().encode(value)


def _shown_step(step: StepLike) -> object:
    return Attribute(step.key) if step.attribute else step.key


def _take(stored: Compound, key: str | int) -> Stored:
    try:
        if stored.kind == "dict":
            return stored.items[stored.keys.index(key)]
        return stored.items[key]  # type: ignore[index] # TypeError
    except (ValueError, IndexError, TypeError):
        path = path_text([key])
        there = f"keys {shown(list(stored.keys))}" if stored.kind == "dict" else "items"
        count = len(stored.items)
        message = f"{path}: a {stored.kind} of {count} has none at {key!r} ({there})"
        raise ValueMismatch(message, path) from None


def combine(
    kind: Literal["list", "tuple", "dict"], items: Iterable[Stored], keys: Iterable[str] = ()
) -> Compound:
    """A list, tuple or dict of stored values, without decoding any."""
    return Compound(kind, tuple(items), tuple(keys))
