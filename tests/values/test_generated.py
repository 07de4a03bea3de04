"""Property: for generated annotations and values, what is decoded is what was encoded."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Literal, TypeAlias
from uuid import UUID

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from onready.engine.values import ValueType
from onready.engine.values.stored import Durable
from tests.values.kinds import Box, Colour, Frozen, Inner, Level, Model, Point

Case: TypeAlias = tuple[Any, Any]
Draw: TypeAlias = Callable[..., Any]

texts = st.text(max_size=6) | st.sampled_from(["\ud800", "\0", "$a", "$tuple", "é"])
LEAVES: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (int, st.integers() | st.integers(-(2**70), 2**70)),
    (float, st.floats(allow_nan=False)),
    (bool, st.booleans()),
    (str, texts),
    (None, st.none()),
    (bytes, st.binary(max_size=8)),
    (Any, st.integers() | texts | st.tuples(st.integers()) | st.sets(st.integers(), max_size=3)),
    (Decimal, st.decimals(allow_nan=False)),
    (dt.datetime, st.datetimes(timezones=st.none() | st.timezones())),
    (dt.date, st.dates()),
    (dt.timedelta, st.timedeltas()),
    (UUID, st.uuids()),
    (Colour, st.sampled_from(Colour)),
    (Level, st.sampled_from(Level)),
    (Literal["a", 1], st.sampled_from(["a", 1])),
    (Inner, st.builds(Inner, size=st.integers())),
    (Frozen, st.builds(Frozen, texts, st.integers())),
    (Point, st.builds(Point, st.integers(), st.floats(allow_nan=False))),
    (Model, st.builds(Model, st.floats(allow_nan=False), st.lists(texts, max_size=2))),
]
HASHABLE = [
    leaf
    for leaf in LEAVES
    if leaf[0] in {int, str, bool, bytes, Decimal, UUID, dt.date, Colour, Frozen}
]


def generic(origin: Any, *args: Any) -> Any:
    """`origin[args]`, out of sight of type checkers: it is made at run time."""
    return origin[args] if len(args) > 1 else origin[next(iter(args))]


@st.composite
def types(draw: Draw, depth: int = 3) -> Any:
    """An annotation and the strategy of its values."""
    if depth == 0 or draw(st.integers(0, 2)) == 0:
        return draw(st.sampled_from(LEAVES))
    shape = draw(
        st.sampled_from(["list", "dict", "set", "tuple", "tuples", "optional", "union", "box"])
    )
    inner, values = draw(types(depth - 1))
    if shape == "list":
        return generic(list, inner), st.lists(values, max_size=3)
    if shape == "tuples":
        return generic(tuple, inner, ...), st.lists(values, max_size=3).map(tuple)
    if shape == "optional":
        return (None if inner is None else inner | None), st.none() | values
    if shape == "box":
        return generic(Box, inner), st.builds(Box, values)
    if shape == "set":
        key, keys = draw(st.sampled_from(HASHABLE))
        return generic(set, key), st.sets(keys, max_size=3)
    if shape == "dict":
        key, keys = draw(st.sampled_from(HASHABLE))
        return generic(dict, key, inner), st.dictionaries(keys, values, max_size=3)
    other, others = draw(types(depth - 1))
    if shape == "tuple":
        return generic(tuple, inner, other), st.tuples(values, others)
    return inner | other if inner is not None or other is not None else None, values | others


@st.composite
def cases(draw: Draw) -> Case:
    annotation, values = draw(types())
    return annotation, draw(values)


def same(left: Any, right: Any) -> bool:
    """Equal, and of the same classes all the way down."""
    if type(left) is not type(right) or left != right:
        return False
    if isinstance(left, list | tuple):
        return all(map(same, left, right))
    if isinstance(left, dict):
        return same(list(left), list(right)) and same(list(left.values()), list(right.values()))
    return True


@settings(max_examples=400, deadline=None)
@given(cases())
def test_decode_is_the_inverse_of_encode(case: Case) -> None:
    annotation, value = case
    value_type = ValueType.of(annotation)
    stored = value_type.encode(value)
    kept = msgspec.msgpack.decode(msgspec.msgpack.encode(stored), type=Durable)
    assert same(value_type.decode(kept), value)
    assert same(ValueType.any().decode(kept), value)
    assert ValueType.any().encode(value) == stored


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=300, deadline=None)
@given(JSON)
def test_json_comes_back_as_it_was(value: object) -> None:
    assert same(ValueType.any().decode(ValueType.any().encode(value)), value)


@settings(max_examples=200, deadline=None)
@given(cases(), cases())
def test_a_value_either_fits_or_is_refused(producer: Case, consumer: Case) -> None:
    """Never another exception, whatever meets whatever."""
    from onready.engine.errors import ValueMismatch

    value_type = ValueType.of(consumer[0])
    try:
        first = value_type.decode(value_type.encode(producer[1]))
    except ValueMismatch:
        return
    assert same(value_type.decode(value_type.encode(first)), first)
