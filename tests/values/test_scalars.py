"""Scalars are their own stored form, within bounds; `exact` says when that is sure."""

from __future__ import annotations

from typing import Any, NewType

import pytest

from onready.engine.errors import ValueMismatch
from onready.engine.values import TEXT_LIMIT, ValueType, is_scalar
from onready.engine.values.stored import Encoded

UserId = NewType("UserId", int)


@pytest.mark.parametrize(
    ("annotation", "exact"),
    [
        *((int, int), (float, float), (str, str), (bool, bool), (None, type(None))),
        *((Any, None), (object, None), (int | None, None), (list[int], None), (bytes, None)),
    ],
    ids=str,
)
def test_exact_is_the_class_of_a_scalar_annotation(annotation: object, exact: type | None) -> None:
    assert ValueType.of(annotation).exact is exact


@pytest.mark.parametrize(
    "value", [None, True, 0, -(2**63), 2**63 - 1, 1.5, float("inf"), "", "é", "x" * TEXT_LIMIT]
)
def test_scalars_are_stored_as_they_are(value: object) -> None:
    assert is_scalar(value)
    for annotation in (Any, type(value), type(value) | None):
        assert ValueType.of(annotation).encode(value) is value
        assert ValueType.of(annotation).decode(value) is value


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, "x" * (TEXT_LIMIT + 1), "\ud800", [], b""])
def test_what_is_large_or_odd_is_encoded(value: object) -> None:
    assert not is_scalar(value)
    for annotation in (Any, type(value)):
        stored = ValueType.of(annotation).encode(value)
        assert isinstance(stored, Encoded)
        assert ValueType.of(annotation).decode(stored) == value


def test_a_new_type_is_its_base() -> None:
    value_type = ValueType.of(UserId)
    assert value_type.encode(5) == 5
    with pytest.raises(ValueMismatch):
        value_type.encode("5")


def test_the_type_says_what_it_is() -> None:
    assert repr(ValueType.of(list[int])) == "ValueType(list[int])"
    assert ValueType.any().takes_any
    assert not ValueType.of(int).takes_any
