"""Names: the grammar, keys that print and parse, hostile names, dispatch names."""

from __future__ import annotations

import contextlib
import operator
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onready.engine.names import Location, NodeKey, dispatch_name, is_name, is_run_id

segment_names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,10}", fullmatch=True)
arms = st.from_regex(r"[A-Za-z0-9_.-]{1,6}", fullmatch=True)


@st.composite
def keys(draw: Callable[[st.SearchStrategy[Any]], Any]) -> NodeKey:  # Any: as hypothesis has it
    """A key of one to five segments: plain ones, map items, arms."""
    key: NodeKey | None = None
    for _ in range(draw(st.integers(1, 5))):
        name: str = draw(segment_names)
        made = NodeKey(name) if key is None else key.child(name)
        how: str = draw(st.sampled_from(["plain", "item", "arm"]))
        if how == "item":
            made = made.item(draw(st.integers(0, 10**9)))
        elif how == "arm":
            made = made.choose(draw(arms))
        key = made
    assert key is not None
    return key


@given(keys())
def test_what_a_key_prints_is_read_back_as_that_key(key: NodeKey) -> None:
    again = NodeKey.parse(str(key))
    assert again == key
    assert operator.eq(key, key)
    assert hash(again) == hash(key)
    first, second = str(key), str(key)  # the second time it is remembered
    assert first == second == str(again)
    assert repr(key) == f"NodeKey({str(key)!r})"


@given(keys(), keys())
def test_keys_are_equal_when_their_texts_are(first: NodeKey, second: NodeKey) -> None:
    assert (first == second) == (str(first) == str(second))


@given(st.text(max_size=12))
def test_any_text_is_a_key_that_prints_so_or_is_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        key = NodeKey.parse(text)
        # `x[007]` names the seventh item too; nothing else is read that does not print so.
        assert NodeKey.parse(str(key)) == key
        assert re.sub(r"\[0+(?=\d)", "[", text) == str(key)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "/",
        "a/",
        "/a",
        "a//b",
        "..",
        "../a",
        ".a",
        "-rf",
        "1st",
        "a b",
        "a\n",
        "a\0b",
        "a[",
        "a[]",
        "a[-1]",
        "a[1",
        "a[1][2]",
        "a[1]?x",
        "a?",
        "a?x/",
        "a?x y",
        "ä",
        "a[\u0661]",
        "a;b",
        "$(a)",
        "a\\b",
    ],
)
def test_hostile_texts_are_no_keys(text: str) -> None:
    with pytest.raises(ValueError, match="not a node key"):
        NodeKey.parse(text)


def test_a_key_is_no_text() -> None:
    assert NodeKey("a") != "a"
    assert NodeKey("a") not in {"a": 1}


def test_keys_differ_in_every_part() -> None:
    plain = NodeKey("a")
    others = [NodeKey("b"), plain.item(0), plain.item(1), plain.choose("x"), plain.child("a")]
    assert len({plain, *others}) == 6
    assert plain not in others
    assert [str(key) for key in others] == ["b", "a[0]", "a[1]", "a?x", "a/a"]


def test_names() -> None:
    for good in ("a", "_", "A1", "a.b-c_d", "x" * 128):
        assert is_name(good)
    for bad in ("", "1a", "-a", ".a", "a b", "a/b", "a[0]", "a?b", "a\n", "ä", "x" * 129):
        assert not is_name(bad)


def test_run_ids() -> None:
    for good in ("a", "7", "20260101T000000-ab", "a.b_c", "x" * 128):
        assert is_run_id(good)
    for bad in ("", ".", "..", "-a", "_a", "a/b", "../a", "a\n", "a b", "a\0", "x" * 129):
        assert not is_run_id(bad)


@given(st.tuples(st.text(max_size=5), keys(), st.integers(1, 9)))
def test_dispatch_names_suit_the_narrowest_platform(attempt: tuple[str, NodeKey, int]) -> None:
    name = dispatch_name(*attempt)
    assert re.fullmatch(r"onready-[a-z0-9]{20,}", name)
    assert len(name) <= 52  # a Kubernetes Job's
    assert name == dispatch_name(*attempt)


def test_dispatch_names_of_different_attempts_differ() -> None:
    one, two = NodeKey("a"), NodeKey("b")
    attempts = [(run, key, n) for run in ("r", "s") for key in (one, two) for n in (1, 2, 12)]
    assert len({dispatch_name(*attempt) for attempt in attempts}) == len(attempts)


def test_a_location_is_shown_as_editors_read_it() -> None:
    assert str(Location("a/b.py", 7)) == "a/b.py:7"
