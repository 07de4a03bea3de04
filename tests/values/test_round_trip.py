"""What comes back is equal and of the same type: hand-picked values, hostile ones among them."""

from __future__ import annotations

import datetime as dt
import ipaddress
import math
import re
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID

import msgspec
import pytest
from pydantic import HttpUrl

from onready.engine.values import File, ValueType
from onready.engine.values.misfit import shown
from onready.engine.values.stored import Durable, Encoded, Stored
from tests.values.kinds import (
    Box,
    Checked,
    Colour,
    Doubling,
    Frozen,
    Halving,
    Inner,
    Level,
    Mode,
    Model,
    Movie,
    MyList,
    Numbers,
    Open,
    Outer,
    Page,
    Plain,
    Point,
    Rights,
    Special,
    Word,
)

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
NAIVE = dt.datetime.fromisoformat("2024-02-28T01:02:03.000004")
LONG = dt.timezone(dt.timedelta(hours=1, microseconds=1), "odd")


def private(value: int) -> Outer:
    model = Outer(inner=Inner(), otherName="x", link=HttpUrl("http://example.org/a?b=c"))
    model._private = value
    return model


def deep(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels):
        value = [value]
    return value


VALUES: dict[str, list[object]] = {
  "scalars": [
    *(None, True, False, 0, -1, 1.5, -0.0, 5e-324, 1.7976931348623157e308, "", "text", "é", "\0", "a\0b"),
    *(2**63 - 1, -(2**63), 2**63, 2**64 - 1, 2**64, -(2**64), 10**4000, 16**6000, "x" * 1024, "x" * 1025),
    *(float("inf"), float("-inf"), "\ud800", "\udfff tail", "\U0001f600", "\u2028", "\\u0000", '"', "$int"),
  ],
  "structures": [
    *([], {}, (), set(), frozenset(), [[]], [()], [{}], ((), []), {"a": {}}, {"": ""}, deep(100)),
    *([1, "1", 1.0, True, None], [1.0, float("inf")], [1e308, 1e308], [2**70, 1], ["\ud800"], {"\ud800": 1}),
    *({"$tuple": [1]}, {"$": 1}, {"$a": 1, "b": 2}, {"$dict": []}, {"$unknown": {"$data": [0, {}]}}),
    *({1: 2}, {None: 1, True: 2, 2.5: 3, (1, 2): 4}, {frozenset({1}): b"x"}, {"é": 1}, {"é": {1, 2}}),
    *((1, 2), [(1,), [1]], {1, "a", None}, {(1, 2)}, frozenset({frozenset()}), {"k": ({1}, [b"\xff"])}),
  ],
  "standard library": [
    *(b"", b"\x00\xff", bytearray(b"ab"), [b"x", bytearray(b"y")], memoryview(b"mv"), [memoryview(b"")]),
    *(dt.date(1, 1, 1), NAIVE, NAIVE.replace(9999), dt.time(23, 59), dt.timedelta.min),
    *(dt.datetime(2024, 1, 1, tzinfo=dt.UTC), dt.datetime(2024, 1, 1, tzinfo=LONG), dt.time(1, tzinfo=dt.UTC)),
    *(dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=BERLIN), dt.datetime(1800, 1, 1, tzinfo=BERLIN), BERLIN, LONG),
    *(dt.time(2, tzinfo=BERLIN), dt.UTC, dt.timedelta(days=-1, microseconds=1)),
    *(Decimal("1.10"), Decimal("-0"), Decimal("1E+999"), Decimal("Infinity"), Fraction(1, 3), Fraction(10**5000, 3)),
    *(complex(1, -2), complex("inf"), complex(-0.0, 0), UUID(int=1), range(1, 10**30, 3), range(0)),
    *(re.compile("a.b", re.IGNORECASE), re.compile(b"\xff"), PurePosixPath("a/b"), PureWindowsPath("C:\\x")),
    *(ipaddress.ip_address("::1"), ipaddress.ip_network("10.0.0.0/8"), ipaddress.ip_interface("10.0.0.1/8")),
    *(deque([1, 2], maxlen=3), OrderedDict([("b", 1), ("a", 2)]), Counter("abca"), defaultdict(list, {"a": [1]})),
    defaultdict(None, {1: 2}),
  ],
  "classes": [
    *(Colour.RED, Colour.BLUE, Level.HIGH, Word.YES, Rights.READ | Rights.WRITE, Rights(0), [Level.LOW, 1]),
    *(Point(1), Point(1, 2.0), [Point(1)], {"p": Point(3)}, Model(1.0), Model(1, ["a"], Model(2)), Frozen("f")),
    *(Doubling(2), [Doubling(3, 5)], Box([Box((1, b"x"))]), Special(1.0, extra=3), {Frozen("k"): Frozen("v")}),
    *(Inner(), Inner(size=3), private(7), Open.model_validate({"name": "n", "more": [1, {2}]}), Halving(value=4)),
    *(Page[int](items=[1]), Page[Inner](items=[Inner()]), Page[Page[int]](items=[]), Numbers([1, 2]), Checked(1)),
    *(HttpUrl("https://example.org/"), [HttpUrl("http://a.b/")], Outer(inner=Inner(), by_id={3: Inner(size=9)})),
  ],
}  # fmt: skip


def through_events(stored: Stored) -> Stored:
    """As a run log and a worker's frame would carry it."""
    kept: Durable = msgspec.msgpack.decode(msgspec.msgpack.encode(stored), type=Durable)
    return kept


def text_of(value: object) -> str:
    """A text that says all of a value; for some classes, that there is one."""
    unordered = isinstance(value, set | frozenset | Fraction)
    return type(value).__name__ if unordered else re.sub("0x[0-9a-f]+", "0x", shown(value, 500))


def same(left: object, right: object) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        return repr(left) == repr(right)
    return type(left) is type(right) and left == right


@pytest.mark.parametrize("group", VALUES)
def test_values_without_annotation_come_back_equal(group: str) -> None:
    for value in VALUES[group]:
        back = ValueType.any().decode(through_events(ValueType.any().encode(value)))
        assert same(back, value), text_of(value)
        assert text_of(back) == text_of(value)


@pytest.mark.parametrize("group", VALUES)
def test_values_come_back_equal_by_their_own_class(group: str) -> None:
    for value in VALUES[group]:
        value_type = ValueType.of(type(value))
        back = value_type.decode(through_events(value_type.encode(value)))
        assert same(back, value), text_of(value)


@pytest.mark.parametrize("value", [[1, {"a": [2.5]}], Model(1.0, ["x"]), Outer(inner=Inner())])
def test_each_consumer_gets_a_value_of_its_own(value: Any) -> None:
    stored = ValueType.any().encode(value)
    first, second = ValueType.any().decode(stored), ValueType.any().decode(stored)
    assert first == second == value
    assert first is not second
    assert first is not value
    if isinstance(first, list):
        first[1]["a"].append(1)
        assert second == value


def test_nan_comes_back() -> None:
    any_value = ValueType.any()
    for value in (float("nan"), [float("nan")], {"a": float("nan")}, [1.0, float("nan")]):
        back = any_value.decode(any_value.encode(value))
        assert repr(back) == repr(value)
    assert math.isnan(float(str(any_value.decode(any_value.encode(Decimal("nan"))))))


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (int, True),
        (float, 3),
        (list[float], [1, 2.5, True]),
        (dict[str, list[float]], {"a": [1]}),
        (dict[int, set[str]], {1: {"a"}}),
        (tuple[int, ...], (1, 2, 3)),
        (tuple[int, str], (1, "a")),
        (list[int] | None, None),
        (int | str | None, "a"),
        (list[int | None], [1, None]),
        (Mode, "fast"),
        (Mode, None),
        (Mode, 1),
        (list[Model], [Model(1, parent=Model(2)), Special(2.0, extra=1)]),
        (Model | None, Special(2.0)),
        (Box[int], Box(1)),
        (Page[int], Page[int](items=[1])),
        (dict[str, Movie], {"a": {"title": "t"}, "b": {"title": "u", "year": 1}}),
        (Movie, {"title": "t", "unknown": [1]}),
        (list[Point], [Point(1, 2)]),
        (int, Level.HIGH),
        (str, Word.YES),
        (list[Level], [Level.LOW]),
        (set[Colour], {Colour.RED}),
        (dt.date, NAIVE),
        (Outer, private(3)),
        (list[Inner], [Inner(size=2)]),
        (list[Any], [1, (2,), {3}]),
        (object, (1, {2})),
        (dict[str, Any], {"a": (1, b"x")}),
        ("Unresolved", [1, (2,)]),
        (bytes | None, b"\xff"),
        (dict[str, bytes], {"a": b"\xff\x00"}),
        (list[Decimal | dt.datetime], [Decimal("1.0"), NAIVE]),
    ],
    ids=str,
)  # fmt: skip
def test_a_value_that_fits_its_annotation_stays_as_it_is(annotation: object, value: object) -> None:
    value_type = ValueType.of(annotation)
    stored = through_events(value_type.encode(value))
    assert same(value_type.decode(stored), value)
    assert same(ValueType.any().decode(stored), value)


def test_sets_are_stored_the_same_whatever_their_order() -> None:
    words = [f"word{number}" for number in range(50)]
    grown = {f"other{number}" for number in range(1000)} | set(words)
    grown.difference_update({f"other{number}" for number in range(1000)})
    stored = ValueType.any().encode(set(words))
    assert list(grown) != list(set(words))
    assert stored == ValueType.any().encode(grown)
    assert isinstance(stored, Encoded)
    assert msgspec.json.decode(stored.data or b"") == {"$set": sorted(words)}


def test_plain_structures_are_plain_json() -> None:
    stored = ValueType.any().encode({"a": [1, 2.5, None, "é"], "b": {"c": True}})
    assert stored == Encoded("json", '{"a":[1,2.5,null,"é"],"b":{"c":true}}'.encode(), None, 38)


def test_fields_that_are_not_fields_come_back_and_caches_do_not() -> None:
    value = Doubling(2)
    assert value.cached() == 4
    back = ValueType.any().decode(ValueType.any().encode(value))
    assert isinstance(back, Doubling)
    assert (back.value, back.result, back.note) == (4, 5, "made")
    assert "cached" not in vars(back)


def test_models_keep_what_their_json_would_lose() -> None:
    value = private(9)
    back = ValueType.of(Outer).decode(ValueType.of(Outer).encode(value))
    assert isinstance(back, Outer)
    assert back._private == 9
    assert back.model_fields_set == value.model_fields_set
    assert back.hidden == "h"


@pytest.mark.parametrize(
    "value",
    [
        Plain(),
        [Plain()],
        {"a": (Plain(),)},
        MyList(),
        {MyList},
        lambda: 1,
        iter([1]),
        object(),
        int,
    ],
    ids=["object", "list", "dict", "subclass", "set", "lambda", "iterator", "bare", "class"],
)
def test_what_nothing_handles_is_refused_with_the_cures(value: object) -> None:
    from onready.engine.errors import NoCodec

    with pytest.raises(NoCodec, match="no codec gives") as caught:
        ValueType.any().encode(value)
    text = str(caught.value)
    assert "annotate it with a supported type" in text
    assert "onready.codecs" in text
    assert 'codec="pickle"' in text


def test_no_codec_says_where_it_is() -> None:
    from onready.engine.errors import NoCodec

    with pytest.raises(NoCodec, match=r"^\$\.a\[1\]: no codec gives .*Plain"):
        ValueType.any().encode({"a": [1, Plain()]})
    with pytest.raises(NoCodec, match=r"^\$\.content\[0\]"):
        ValueType.any().encode(Box([Plain()]))


def test_a_value_that_refers_to_itself_is_refused() -> None:
    from onready.engine.errors import NoCodec

    circle: list[object] = []
    circle.append(circle)
    tagged: dict[object, object] = {1: b""}
    tagged[2] = tagged
    for value in (circle, tagged, (circle,)):
        for annotation in (Any, list[Any], dict[Any, Any]):
            with pytest.raises(NoCodec, match="refers to itself"):
                ValueType.of(annotation).encode(value, validate=False)


def test_a_class_inside_a_function_needs_the_annotation() -> None:
    from dataclasses import dataclass

    from onready.engine.errors import NoCodec

    @dataclass
    class Local:
        x: int

    with pytest.raises(NoCodec, match="move it to the top level of a module"):
        ValueType.any().encode([Local(1)])
    value_type = ValueType.of(list[Local])
    assert value_type.decode(value_type.encode([Local(1)])) == [Local(1)]


def test_default_factories_that_run_code_are_refused() -> None:
    from onready.engine.errors import NoCodec

    with pytest.raises(NoCodec, match="factory"):
        ValueType.any().encode(defaultdict(lambda: 1))
    with pytest.raises(NoCodec, match="factory"):
        ValueType.any().encode(defaultdict(Model))  # type: ignore[arg-type] # a class of the user's


def test_paths_are_files_and_pure_paths_are_texts() -> None:
    stored = ValueType.any().encode(Path("/somewhere"))
    assert stored == Encoded("path", b"/somewhere", None, 10, "Path")
    assert ValueType.any().decode(stored) == Path("/somewhere")
    assert ValueType.of(File).decode(ValueType.of(File).encode("/a/b")) == File("/a/b")
