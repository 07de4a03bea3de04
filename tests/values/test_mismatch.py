"""What does not fit its annotation fails with the path to it; what reads as it is taken."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pytest
from pydantic import Field

from onready.engine.errors import ValueMismatch
from onready.engine.values import File, ValueType
from onready.engine.values.stored import Compound, Encoded, Stored
from tests.values.kinds import (
    Box,
    Checked,
    Colour,
    Fitted,
    Inner,
    Level,
    Mode,
    Model,
    Movie,
    Numbers,
    Outer,
    Page,
    Point,
)


@dataclass
class Registry:
    models: list[Model]


@dataclass
class Node:
    name: str
    children: list[Node]


# Out of sight of type checkers, who would find these mismatches themselves.
wrong_model: Any = Model
wrong_point: Any = Point
wrong_node: Any = Node
wrong_fitted: Any = Fitted

MISMATCHES: list[tuple[object, object, str, str]] = [
    (int, "1", "$", "expected int, got str '1'"),
    (int, 1.0, "$", "expected int, got float 1.0"),
    (float, "1.0", "$", "expected float, got str"),
    (str, 1, "$", "expected str, got int 1"),
    (str, b"a", "$", "expected str, got bytes"),
    (bytes, 1, "$", "expected bytes, got int"),
    (bool, 1, "$", "expected bool, got int 1"),
    (bool, "yes", "$", "expected bool, got str"),
    (None, 0, "$", "expected None, got int 0"),
    (list[int], {"a": 1}, "$", "expected list[int], got dict {'a': 1}"),
    (list[int], [1, "2"], "$[1]", "expected int, got str '2'"),
    (list[int], "12", "$", "got str"),
    (dict[str, int], {"a": None}, "$.a", "expected int, got None None"),
    (dict[str, int], {"two words": None}, "$['two words']", "expected int"),
    (dict[int, int], {"a": 1}, "$.a", "int"),
    (dict[str, list[int | str]], {"a": [1, 2.5]}, "$.a[1]", "expected int or str, got float 2.5"),
    (tuple[int, str], (1, 2), "$[1]", "expected str, got int 2"),
    (tuple[int, str], (1,), "$[1]", "is missing"),
    (tuple[int, str], (1, "a", 2), "$", "got tuple"),
    (set[int], {"a"}, "$", "int"),
    (int | None, "x", "$", "expected int | None, got str 'x'"),
    (Literal["a", "b"], "c", "$", "'a' or 'b'"),
    (Mode, "other", "$", "got str 'other'"),
    (Colour, "r!", "$", "got str 'r!'"),
    (Registry, Registry([Model(1), Model(2), Model(3), wrong_model("x")]), "$.models[3].alpha", "expected float, got str 'x'"),
    (list[Model], [wrong_model(1, tags=[1])], "$[0].tags[0]", "expected str, got int 1"),
    (Model, Model(1, parent=Model(2, parent=wrong_model(None))), "$.parent.parent.alpha", "expected float"),
    (Node, Node("a", [Node("b", [wrong_node(1, [])])]), "$.children[0].children[0].name", "expected str, got int 1"),
    (dict[str, Model | None], {"k": wrong_model("bad")}, "$.k.alpha", "expected float"),
    (Annotated[list[Model], Field(min_length=1)], [wrong_model("bad")], "$[0].alpha", "expected float"),
    (Annotated[int, Field(ge=0)], -1, "$", "greater than or equal to 0"),
    (Annotated[list[int], Field(max_length=1)], [1, 2], "$", "at most 1 item"),
    (Box[int], Model(1), "$", "Box"),
    (Point, wrong_point("x"), "$.x", "expected int, got str 'x'"),
    (list[Point], [wrong_point(1, "y")], "$[0].y", "expected float"),
    (Movie, {"year": 1}, "$.title", "is missing"),
    (list[Movie], [{"title": 1}], "$[0].title", "expected str"),
    (Inner, {"size": "x"}, "$.size", "expected int, got str 'x'"),
    (Outer, {"inner": {"size": None}}, "$.inner.size", "expected int"),
    (Outer, {}, "$.inner", "is missing"),
    (list[Inner], [Inner(), 3], "$[1]", "Inner"),
    (Page[int], {"items": ["a"]}, "$.items[0]", "expected int"),
    (Numbers, ["a"], "$[0]", "expected int"),
    (Checked, {"size": -1}, "$.size", "greater than or equal"),
    (dt.datetime, "not a date", "$", "datetime"),
    (dt.date, 5, "$", "date"),
    (UUID, "x", "$", "UUID"),
    (File, 5, "$", "File"),
    (Path, 5, "$", "path"),
    (npt.NDArray[np.float64], [1.0], "$", "ndarray"),
    (dict[str, np.ndarray], {"X": 3}, "$.X", "ndarray"),
    (list[np.ndarray], [np.zeros(1), "x"], "$[1]", "ndarray"),
    (Fitted, wrong_fitted("x"), "$.weights", "ndarray"),
    (int, np.float64(1.5), "$", "expected int"),
    (list[int], [np.int64(1), np.str_("a")], "$[1]", "expected int"),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "value", "path", "text"), MISMATCHES, ids=str)
def test_a_wrong_value_fails_with_its_path(
    annotation: object, value: object, path: str, text: str
) -> None:
    with pytest.raises(ValueMismatch) as caught:
        ValueType.of(annotation).encode(value)
    assert caught.value.path == path
    assert str(caught.value).startswith(f"{path}: ")
    assert text in str(caught.value)


READ_AS: list[tuple[object, object, object]] = [
    (tuple[int, str], [1, "a"], (1, "a")),
    (list[int], (1, 2), [1, 2]),
    (set[int], [1, 2, 2], {1, 2}),
    (frozenset[str], ["a"], frozenset({"a"})),
    (dict[int, str], {"1": "a"}, {1: "a"}),
    (dt.datetime, "2024-01-02T03:04:05Z", dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.UTC)),
    (dt.date, "2024-01-02", dt.date(2024, 1, 2)),
    (UUID, "00000000-0000-0000-0000-000000000001", UUID(int=1)),
    (Level, 2, Level.HIGH),
    (Colour, "r", Colour.RED),
    (bytes, "é", "é".encode()),
    (Path, "/a", Path("/a")),
    (list[File], ["/a"], [File("/a")]),
    (File, Path("/a"), File("/a")),
    (Inner, {"size": 2}, Inner(size=2)),
    (list[Inner], [{"size": 2}, Inner()], [Inner(size=2), Inner()]),
    (Model, {"alpha": 1, "parent": {"alpha": 2}}, Model(1.0, parent=Model(2.0))),
    (dict[str, Model], {"a": {"alpha": 1.5}}, {"a": Model(1.5)}),
    (Point, [1, 2], Point(1, 2.0)),
    (Numbers, [1], Numbers([1])),
    (float, np.float64(0.5), 0.5),
    (int, np.int64(5), 5),
    (bool, np.bool_(True), True),
    (list[float], [np.float32(0.5), 1], [0.5, 1]),
    (dict[str, int], {np.str_("a"): np.int8(1)}, {"a": 1}),
    (tuple[int, float], (np.int64(1), 0.5), (1, 0.5)),
]  # fmt: skip


@pytest.mark.parametrize(("annotation", "value", "expected"), READ_AS, ids=str)
def test_what_reads_as_the_annotation_becomes_it(
    annotation: object, value: object, expected: object
) -> None:
    value_type = ValueType.of(annotation)
    back = value_type.decode(value_type.encode(value))
    assert back == expected
    assert type(back) is type(expected)


@pytest.mark.parametrize(("annotation", "value", "expected"), READ_AS, ids=str)
def test_a_consumer_reads_what_a_producer_left_open(
    annotation: object, value: object, expected: object
) -> None:
    stored = ValueType.any().encode(value)
    assert ValueType.of(annotation).decode(stored) == expected


@pytest.mark.parametrize(
    ("annotation", "stored", "path"),
    [
        (int, "x", "$"),
        (list[int], Encoded("json", b'[1,"a"]', None, 7), "$[1]"),
        (list[int], Compound("list", (1, "a")), "$[1]"),
        (str, Compound("dict", (1,), ("a",)), "$"),
        (Model, Encoded("json", b'{"alpha":"x"}', None, 13), "$.alpha"),
    ],
    ids=str,
)
def test_a_consumer_refuses_what_does_not_fit(
    annotation: object, stored: Stored, path: str
) -> None:
    with pytest.raises(ValueMismatch) as caught:
        ValueType.of(annotation).decode(stored)
    assert caught.value.path == path


def test_without_validation_anything_goes_through() -> None:
    value_type = ValueType.of(list[int])
    stored = value_type.encode(["x"], validate=False)
    assert ValueType.any().decode(stored) == ["x"]
    assert ValueType.of(Registry).encode(Registry(["x"]), validate=False)  # type: ignore[list-item]


def test_an_unreadable_repr_does_not_hide_the_error() -> None:
    class Bad:
        def __repr__(self) -> str:
            raise RuntimeError

    with pytest.raises(ValueMismatch, match=r"expected int, got .*Bad"):
        ValueType.of(int).encode(Bad())


def test_messages_stay_short() -> None:
    with pytest.raises(ValueMismatch) as caught:
        ValueType.of(int).encode(list(range(100_000)))
    assert len(str(caught.value)) < 120


def test_annotations_are_cached_even_unhashable_ones() -> None:
    assert ValueType.of(list[int]) is ValueType.of(list[int])
    assert ValueType.of(Any) is ValueType.any()
    odd = Annotated[int, Field(ge=0), ["unhashable"]]
    assert ValueType.of(odd) is ValueType.of(odd)
    with pytest.raises(ValueMismatch):
        ValueType.of(odd).encode(-1)


def test_recursion_in_a_checked_value_is_a_clear_error() -> None:
    from onready.engine.errors import NoCodec

    circle = Node("a", [])
    circle.children.append(circle)
    with pytest.raises(NoCodec, match="refers to itself"):
        ValueType.of(Node).encode(circle)
