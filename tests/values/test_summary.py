"""Summaries: short, never an error, never another codec's bytes decoded."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onready.engine.values import File, ValueType, combine, summarise
from onready.engine.values.stored import Compound, Encoded, Live, Stored
from tests.values.kinds import Colour, Inner, Model, Outer, Plain, Point, Rights

ANY = ValueType.any()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.5"),
        ("a\nb", r"'a\nb'"),
        (None, "None"),
        ([80, 71, 91, *range(940)], "[80, 71, 91, ... 943 ints]"),
        ([1.5] * 4, "[1.5, 1.5, 1.5, ... 4 floats]"),
        (["a", "b", "c", "d"], "['a', 'b', 'c', ... 4 texts]"),
        ([1, "a", None, 2], "[1, 'a', None, ... 4 items]"),
        ([True] * 5, "[True, True, True, ... 5 bools]"),
        ([], "[]"),
        ([1, 2], "[1, 2]"),
        ((1,), "(1,)"),
        ((1, 2, 3, 4), "(1, 2, 3, ... 4 ints)"),
        ({1}, "{1}"),
        ({"a": 1, "b": [1, 2, 3, 4]}, "{'a': 1, 'b': [1, 2, 3, ... 4 ints]}"),
        ({"a": 1, "b": 2, "c": 3, "d": 4}, "{'a': 1, 'b': 2, 'c': 3, ... 4 keys}"),
        ({1: (2,)}, "{1: (2,)}"),
        (b"x" * 2048, "<bytes 2.0 KiB>"),
        ([b"abc"], "[<bytes 3 B>]"),
        (np.zeros(1557), "<numpy 12.3 KiB>"),
        ({"X": np.zeros(10_000), "n": 1}, "{'X': <numpy 78.2 KiB>, 'n': 1}"),
        ([np.zeros(1)], "[<numpy 136 B>]"),
        (Model(0.5, ["a"]), "Model(alpha=0.5, tags=['a'], parent=None)"),
        (Inner(size=2), "Inner(size=2)"),
        (Point(1), "Point(1, 0.5)"),
        (Colour.RED, "Colour.RED"),
        (Rights.READ | Rights.WRITE, "Rights(3)"),
        (2**70, str(2**70)),
        (float("inf"), "inf"),
        ([float("inf")], "[inf]"),
        (defaultdict(list), "<defaultdict>"),
        (["\ud800"], r"['\ud800']"),
        (File("/data/train.csv"), "<File train.csv>"),
        (Path("/data/folder"), "<Path folder>"),
        ([[[[[[1]]]]]], "[[[[...]]]]"),
        (Encoded("file", None, "ab", 2048, "File:-:a:b.csv"), "<file a:b.csv 2.0 KiB>"),
        (Encoded("json", None, "ab", 5 * 1024**2), "<json 5.0 MiB>"),
        (Encoded("json", b"[1]" * 200_000, None, 600_000), "<json 585.9 KiB>"),
        (Encoded("pickle", b"\x80\x04", None, 2), "<pickle 2 B>"),
        (Encoded("matrix", None, "ab", 3 * 1024**4), "<matrix 3.0 TiB>"),
        (Live(Plain()), "<live Plain>"),
        (combine("list", [1, 2, 3, 4]), "[1, 2, 3, ... 4 ints]"),
        (combine("dict", [1, Live(2)], ["a", "b"]), "{'a': 1, 'b': <live int>}"),
        (combine("tuple", [Encoded("json", b"{", None, 1)]), "<Compound>"),
        (Encoded("json", b"{", None, 1), "<Encoded>"),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_what_people_see(value: Any, text: str) -> None:
    stored = value if isinstance(value, Encoded | Compound | Live) else ANY.encode(value)
    assert summarise(stored, 60) == text


def test_parts_are_named() -> None:
    from tests.values.kinds import Fitted

    stored = ANY.encode(Fitted(np.zeros(10_000)))
    assert summarise(stored, 60) == "Fitted(weights=<numpy 78.2 KiB>, report=None)"
    assert isinstance(stored, Compound)
    away = Compound("parts", (Encoded("json", None, "ab", 1), *stored.items[1:]))
    assert summarise(away, 60) == "<1 part>"


@given(
    st.recursive(st.none() | st.floats() | st.text() | st.binary() | st.integers(), st.lists),
    st.integers(-5, 200),
)
def test_any_summary_fits_on_its_line(value: object, width: int) -> None:
    text = summarise(ANY.encode(value), width)
    assert len(text) <= max(width, 8)
    assert text.isprintable()


def test_a_long_text_keeps_both_ends() -> None:
    text = summarise("start" + "x" * 500 + "end", 40)
    assert len(text) == 40
    assert text.startswith("'start")
    assert text.endswith("end'")


def test_secrets_of_the_outside_are_not_touched() -> None:
    stored: Stored = ANY.encode(Outer(inner=Inner()))
    assert summarise(stored, 60).startswith("Outer(inner=Inner(size=1), items=[], by_id={}")
