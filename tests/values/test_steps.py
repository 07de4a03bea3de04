"""Projections: of values, and of stored values without decoding what is not needed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from onready.engine.errors import ValueMismatch
from onready.engine.plan.model import Step
from onready.engine.values import ValueType, apply_step, combine, project
from onready.engine.values.stored import Compound, Encoded, Live
from tests.values.kinds import Inner, Model, Outer, Plain, Point

ANY = ValueType.any()


@dataclass
class Result:
    scores: dict[str, list[int]]
    best: Model


RESULT = Result({"a": [1, 2]}, Model(0.5))


@pytest.mark.parametrize(
    ("value", "key", "attribute", "expected"),
    [
        ({"a": 1}, "a", False, 1),
        ({1: "x"}, 1, False, "x"),
        ([1, 2], -1, False, 2),
        ((1, 2), 0, False, 1),
        (Point(1, 2.0), 1, False, 2.0),
        (Point(1, 2.0), "x", True, 1),
        (RESULT, "best", True, RESULT.best),
        (Inner(size=3), "size", True, 3),
        (np.array([5, 6]), 1, False, 6),
        ("text", 0, False, "t"),
    ],
    ids=str,
)
def test_steps(value: object, key: str | int, attribute: bool, expected: object) -> None:
    assert apply_step(value, key, attribute) == expected


@pytest.mark.parametrize(
    ("value", "key", "attribute", "text"),
    [
        ({"a": 1}, "b", False, "$.b: no key 'b'; there are ['a']"),
        ([1], 3, False, "$[3]: list has 1 items, none at 3"),
        (5, "a", False, "$.a: int has no item 'a': it is 5"),
        (5, 0, False, "$[0]: int has no item 0"),
        (RESULT, "worst", True, "$.worst: "),
        (RESULT, "best", False, "has no item 'best'"),
        ([1], "a", False, "$.a: list has no item 'a'"),
    ],
    ids=str,
)
def test_a_missing_part_says_what_is_there(
    value: object, key: str | int, attribute: bool, text: str
) -> None:
    with pytest.raises(ValueMismatch) as caught:
        apply_step(value, key, attribute)
    assert text in str(caught.value)
    assert caught.value.path in str(caught.value)


def test_projections_of_stored_values() -> None:
    stored = ANY.encode(RESULT)
    assert project(stored, []) is stored
    assert project(stored, [Step("best", attribute=True), Step("alpha", attribute=True)]) == 0.5
    assert ANY.decode(project(stored, [Step("scores", attribute=True), Step("a")])) == [1, 2]
    assert (
        project(ANY.encode(Outer(inner=Inner(size=7))), [Step("inner", True), Step("size", True)])
        == 7
    )


def test_compounds_are_taken_apart_without_their_blobs() -> None:
    away = Encoded("numpy", None, "ab" * 32, 100_000)
    table = combine("dict", [away, combine("list", [1, away, 3])], ["X", "rest"])
    assert project(table, [Step("X")]) is away
    assert project(table, [Step("rest"), Step(1)]) is away
    assert project(table, [Step("rest"), Step(-1)]) == 3
    for path, text in (
        ([Step("Y")], "none at 'Y' (keys ['X', 'rest'])"),
        ([Step("rest"), Step(5)], "a list of 3 has none at 5"),
        ([Step("rest"), Step("a")], "a list of 3 has none at 'a'"),
    ):
        with pytest.raises(ValueMismatch) as caught:
            project(table, path)
        assert text in str(caught.value)


def test_a_dict_has_keys_and_no_attributes() -> None:
    with pytest.raises(ValueMismatch, match=r"^\$\.rest: dict has no attribute 'rest'"):
        project(combine("dict", [1], ["rest"]), [Step("rest", attribute=True)])


def test_the_error_names_the_whole_path() -> None:
    with pytest.raises(ValueMismatch, match=r"^\$\.scores\.a\[9\]: list has 2 items") as caught:
        project(ANY.encode(RESULT), [Step("scores", attribute=True), Step("a"), Step(9)])
    assert caught.value.path == "$.scores.a[9]"


def test_parts_are_projected_as_the_value_they_are() -> None:
    stored = ANY.encode(Point(1, np.arange(10_000)))  # type: ignore[arg-type] # any value serves
    assert isinstance(stored, Compound)
    assert stored.kind == "parts"
    assert project(stored, [Step(0)]) == 1
    part: Any = ANY.decode(project(stored, [Step("y", attribute=True)]))
    np.testing.assert_array_equal(part, np.arange(10_000))


def test_a_part_of_a_live_value_is_live() -> None:
    plain = Plain()
    part = project(Live({"a": plain}), [Step("a")])
    assert isinstance(part, Live)
    assert part.value is plain
