"""What annotations tell: parts of values, and clashes that are none but sure ones."""

from __future__ import annotations

import datetime as dt
import enum
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NewType, Optional, TypedDict, TypeVar, Union

import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onready.engine.errors import ValueMismatch
from onready.engine.graph.annotations import NoSuchPart, arity, clash, element, part
from onready.engine.graph.functions import MISSING, annotation_text
from onready.engine.graph.refs import Projection
from onready.engine.values import ValueType
from tests.graph.defs import Model, Point, Score

T = TypeVar("T")
UserId = NewType("UserId", int)


@dataclass
class Other:
    alpha: float
    size: int


class Loose(TypedDict, total=False):
    anything: int


class Config(pydantic.BaseModel):
    alpha: float


class Colour(enum.Enum):
    RED = "red"


class Child(Model): ...


class Pair(NamedTuple):
    a: int
    b: int


CLASHES = [
    (int, str),
    (str, int),
    (list[int], int),
    (list[int], str),
    (int, list[int]),
    (dict[str, int], list[int]),
    (list[int], list[str]),
    (list[dict[str, int]], Sequence[list[int]]),
    (dict[str, int], dict[str, str]),
    (tuple[int, str], tuple[str, str]),
    (tuple[int, int], tuple[int, int, int]),
    (None, int),
    (int, None),
    (Optional[int], str),  # noqa: UP045 - both spellings
    (int | None, str | list[int]),
    (Model, int),
    (str, Model),
    (Model, Other),
    (Literal["a"], int),
    (Literal["a", "b"], Literal["c"]),
    (str, Literal[1, 2]),
    (UserId, str),
    (Annotated[int, "unit"], str),
]
FITS = [
    (int, int),
    (int, float),
    (bool, int),
    (int, bool),
    (float, int),
    (int, object),
    (int, Any),
    (Any, int),
    (int, MISSING),
    (MISSING, int),
    (list[int], list),
    (list, list[int]),
    (list[int], Sequence[int]),
    (list[int], Iterable[int]),
    (list[int], tuple[int, ...]),
    (tuple[int, ...], list[int]),
    (dict[str, int], Mapping[str, int]),
    (dict[str, Any], Model),
    (Model, dict[str, Any]),
    (Score, dict[str, Any]),
    (Child, Model),
    (Model, Child),
    (Other, Loose),
    (Config, Model),
    (Model, Config),
    (int | None, int),
    (int, int | None),
    (int | str, str | bytes),
    (Union[int, str], str),  # noqa: UP007 - both spellings
    (str, dt.datetime),
    (str, Path),
    (str, Colour),
    (Literal["a"], str),
    (str, Literal["a"]),
    (Literal["a", "b"], Literal["b"]),
    (UserId, int),
    (int, UserId),
    (list[T], list[int]),  # type: ignore[valid-type] # what un-bound code has
    (Point, tuple[int, str]),
]


@pytest.mark.parametrize(("made", "wanted"), CLASHES, ids=str)
def test_clash(made: object, wanted: object) -> None:
    assert clash(made, wanted)


@pytest.mark.parametrize(("made", "wanted"), FITS, ids=str)
def test_no_clash(made: object, wanted: object) -> None:
    assert not clash(made, wanted)


LEAVES: dict[Any, st.SearchStrategy[Any]] = {
    int: st.integers(-5, 5),
    float: st.floats(-5, 5),
    bool: st.booleans(),
    str: st.text(max_size=3),
    type(None): st.none(),
    Model: st.builds(Model, st.floats(-1, 1)),
    Other: st.builds(Other, st.floats(-1, 1), st.integers(0, 3)),
    Score: st.just({"value": 1.0, "label": "x"}),
    Pair: st.just(Pair(1, 2)),
    Literal["a", "b"]: st.sampled_from(["a", "b"]),
    Colour: st.just(Colour.RED),
}


def wrap(kinds: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        kinds.map(lambda kind: list[kind]),  # type: ignore[valid-type] # built at run time
        kinds.map(lambda kind: dict[str, kind]),  # type: ignore[valid-type] # as above
        kinds.map(lambda kind: tuple[kind, ...]),  # type: ignore[valid-type] # as above
        st.tuples(kinds, kinds).map(lambda pair: tuple[pair]),  # type: ignore[valid-type] # as above
        st.tuples(kinds, kinds).map(lambda pair: pair[0] | pair[1]),
    )


KINDS = st.recursive(st.sampled_from(list(LEAVES)), wrap, max_leaves=3)


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    if kind in LEAVES:
        return LEAVES[kind]
    origin, args = getattr(kind, "__origin__", None), kind.__args__
    if origin is list:
        return st.lists(values_of(args[0]), min_size=1, max_size=2)
    if origin is dict:
        return st.dictionaries(st.just("k"), values_of(args[1]), min_size=1)
    if origin is tuple and args[-1] is Ellipsis:
        return st.lists(values_of(args[0]), min_size=1, max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*(values_of(arg) for arg in args))
    return st.one_of(*(values_of(arg) for arg in args))


@given(KINDS, KINDS, st.data())
@settings(max_examples=400, deadline=None)
def test_what_can_be_read_never_clashes(made: Any, wanted: Any, data: st.DataObject) -> None:
    """The judge is the engine's own reading of values: made by the one type, read by the other."""
    value = data.draw(values_of(made))
    try:
        ValueType.of(wanted).decode(ValueType.of(made).encode(value))
    except ValueMismatch:
        return
    assert not clash(made, wanted)


@given(KINDS)
@settings(max_examples=200, deadline=None)
def test_nothing_clashes_with_itself(kind: Any) -> None:
    assert not clash(kind, kind)


@pytest.mark.parametrize(
    ("annotation", "count"),
    [
        (tuple[int, str], 2),
        (tuple[()], 0),
        (tuple[int, ...], None),
        (tuple, None),
        (Point, 2),
        (list[int], None),
        (Annotated[tuple[int, int, int], "x"], 3),
        (MISSING, None),
    ],
    ids=str,
)
def test_arity(annotation: object, count: int | None) -> None:
    assert arity(annotation) == count


def key(value: str | int) -> Projection:
    return Projection(value)


def attribute(value: str) -> Projection:
    return Projection(value, attribute=True)


@pytest.mark.parametrize(
    ("annotation", "path", "found"),
    [
        (tuple[int, str], (key(1),), str),
        (tuple[int, str], (key(-2),), int),
        (tuple[int, ...], (key(7),), int),
        (list[dict[str, int]], (key(0), key("a")), int),
        (Mapping[str, list[int]], (key("a"),), list[int]),
        (Model, (attribute("alpha"),), float),
        (list[Model], (key(0), attribute("name")), str),
        (Score, (key("label"),), str),
        (Point, (attribute("y"),), str),
        (Point, (key(0),), MISSING),
        (Config, (attribute("alpha"),), float),
        (Config, (attribute("computed"),), MISSING),
        (Score, (attribute("label"),), MISSING),
        (T, (key("a"),), MISSING),
        (Any, (key(0), attribute("x")), MISSING),
        (str, (key(0),), MISSING),
        (Model, (attribute("__class__"),), MISSING),
        (list, (key(0),), MISSING),
        (int | str, (key(0),), MISSING),
    ],
    ids=str,
)
def test_part(annotation: object, path: tuple[Projection, ...], found: object) -> None:
    assert part(annotation, path) == found


@pytest.mark.parametrize(
    ("annotation", "path", "message"),
    [
        (int, (key("a"),), "a value of type int has no items"),
        (None, (key(0),), "NoneType has no items"),
        (tuple[int, str], (key(2),), "the tuple has 2 items"),
        (list[int], (key("a"),), "a list has no key 'a'"),
        (Score, (key("lable"),), "the dict has no key 'lable'; it has value, label"),
        (Model, (attribute("size"),), "Model has no attribute 'size'; it has alpha, name"),
        (int, (attribute("size"),), "int has no attribute 'size'"),
    ],
    ids=str,
)
def test_no_such_part(annotation: object, path: tuple[Projection, ...], message: str) -> None:
    with pytest.raises(NoSuchPart, match=message.replace("[", r"\[")):
        part(annotation, path)


@pytest.mark.parametrize(
    ("annotation", "found"),
    [
        (list[int], int),
        (Sequence[str], str),
        (tuple[int, ...], int),
        (tuple[int, str], MISSING),
        (dict[str, int], MISSING),
        (list, MISSING),
        (Any, MISSING),
        (Model, MISSING),
        (MISSING, MISSING),
    ],
    ids=str,
)
def test_element(annotation: object, found: object) -> None:
    assert element(annotation) == found


@pytest.mark.parametrize("annotation", [int, None, str, bytes, float], ids=str)
def test_no_elements(annotation: object) -> None:
    with pytest.raises(NoSuchPart, match="no items to iterate over"):
        element(annotation)


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "int"),
        (list[int], "list[int]"),
        (Model, "Model"),
        (int | None, "int | None"),
        (Optional[str], "Optional[str]"),  # noqa: UP045 - as people write it
        (Literal["a"], "Literal['a']"),
        (MISSING, ""),
        (None, "None"),
    ],
    ids=str,
)
def test_text(annotation: object, text: str) -> None:
    assert annotation_text(annotation) == text
