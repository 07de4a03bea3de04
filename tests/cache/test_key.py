"""Keys: equal inputs give equal keys, in every process; any difference gives another."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter, OrderedDict, defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

import msgspec
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from onready.engine.cache import Ingredients, ingredients_of
from onready.engine.cache.key import digest_of, portable
from onready.engine.errors import NoCodec
from onready.engine.options import Resources, RetryPolicy
from onready.engine.plan.model import TaskSpec
from onready.engine.spi import Call, Shell
from onready.engine.values import ValueType
from onready.engine.values.stored import Compound, Encoded, Live
from tests.strategies import durables

if TYPE_CHECKING:
    from onready.engine.values.stored import Stored

SPEC = TaskSpec(
    name="train", work=Call("mod:train"), backend="thread", source="abc", cache="1", codec=""
)
ANY = ValueType.any()

plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3), inner, max_size=3)
        | st.dictionaries(st.integers(), inner, max_size=3)
        | st.tuples(inner, inner)
    ),
    max_leaves=8,
)


@dataclass
class Point:
    x: int
    y: float


@dataclass
class Other:
    x: int
    y: float


def stored(value: object) -> Stored:
    return ANY.encode(value)


def key_of(value: object) -> str:
    return digest_of(stored(value))


def reordered(value: object) -> object:
    """An equal value whose dicts were filled the other way round."""
    if isinstance(value, dict):
        pairs = [*cast("dict[object, object]", value).items()]
        return {key: reordered(item) for key, item in reversed(pairs)}
    if isinstance(value, list):
        return [reordered(item) for item in cast("list[object]", value)]
    if isinstance(value, tuple):
        return tuple(reordered(item) for item in cast("tuple[object, ...]", value))
    return value


def exactly(value: object) -> object:
    """A form that compares equal only with the same types; dicts without their order."""
    if isinstance(value, dict):
        pairs = cast("dict[object, object]", value).items()
        return ("dict", frozenset((exactly(key), exactly(item)) for key, item in pairs))
    if isinstance(value, (list, tuple)):
        items = cast("list[object]", value)
        return (type(value).__name__, tuple(exactly(item) for item in items))
    return (type(value).__name__, repr(value))


# --- values -------------------------------------------------------------------------------------


@given(plain)
def test_equal_values_have_equal_digests_whatever_the_order_of_their_dicts(value: object) -> None:
    assert key_of(value) == key_of(reordered(value))


@given(plain, plain)
def test_digests_are_equal_only_for_equal_values(one: object, other: object) -> None:
    assert (key_of(one) == key_of(other)) is (exactly(one) == exactly(other))


@given(plain)
def test_a_value_in_pieces_is_the_same_as_in_one(value: object) -> None:
    whole = stored({"a": value, "b": [value]})
    pieces = Compound("dict", (stored(value), Compound("list", (stored(value),))), ("a", "b"))
    assert digest_of(whole) == digest_of(pieces)


@given(durables)
def test_every_stored_value_has_a_digest(value: Stored) -> None:
    assert digest_of(value) == digest_of(value)


@given(durables, durables)
def test_what_is_put_into_a_list_does_not_get_lost(one: Stored, other: Stored) -> None:
    assume(digest_of(one) != digest_of(other))
    assert digest_of(Compound("list", (one,))) != digest_of(Compound("list", (other,)))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (1, 1.0),
        (1, True),
        (0.0, -0.0),
        (1, "1"),
        (None, False),
        ([1, 2], (1, 2)),
        ([1, 2], [2, 1]),
        ({"a": 1}, {"a": 1.0}),
        ({"a": {"b": 1}}, {"a": {"b": 2}}),
        ({1: 2}, {"1": 2}),
        ({1}, frozenset({1})),
        (Point(1, 2.0), Other(1, 2.0)),
        (Point(1, 2.0), Point(1, 2.5)),
        (Point(1, 2.0), {"x": 1, "y": 2.0}),
        (b"ab", "ab"),
        (b"ab", bytearray(b"ab")),
        (2**63, 2**64),
        (2**200, 2**200 + 1),
        (float("inf"), float("-inf")),
        ("\ud800", "\ud801"),
        (OrderedDict(a=1, b=2), OrderedDict(b=2, a=1)),
        ({"$tuple": [1]}, (1,)),
        (["list", []], []),
        (["dict", []], {}),
    ],
    ids=str,
)
def test_different_values_have_different_digests(one: object, other: object) -> None:
    assert key_of(one) != key_of(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Counter(a=1, b=2), Counter(b=2, a=1)),
        (defaultdict(list, a=[1], b=[2]), defaultdict(list, b=[2], a=[1])),
        ({"é": 1, "b": 2}, {"b": 2, "é": 1}),
        ({1: "a", 2: "b"}, {2: "b", 1: "a"}),
        ({"p": Point(1, 2.0), "o": Other(1, 2.0)}, {"o": Other(1, 2.0), "p": Point(1, 2.0)}),
        ({"a", "b", "c"}, {"c", "b", "a"}),
        (float("nan"), float("nan")),
        (10**30, 10**30),
    ],
    ids=lambda value: type(value).__name__,
)
def test_equal_values_have_equal_digests(one: object, other: object) -> None:
    assert key_of(one) == key_of(other)


def test_large_values_count_by_the_digest_of_their_blob() -> None:
    one = Encoded("bytes", None, "ab" * 32, 70_000)
    assert digest_of(one) == digest_of(Encoded("bytes", None, "ab" * 32, 70_000))
    assert digest_of(one) != digest_of(Encoded("bytes", None, "ac" * 32, 70_000))
    assert digest_of(one) != digest_of(Encoded("bytes", None, "ab" * 32, 70_000, "name"))


def test_a_secret_counts_by_its_name() -> None:
    token = Encoded("secret", b"TOKEN", None, 5)
    assert digest_of(token) == digest_of(Encoded("secret", b"TOKEN", None, 5))
    assert digest_of(token) != digest_of(Encoded("secret", b"OTHER", None, 5))


def test_what_has_no_bytes_is_refused_with_the_name_of_the_input() -> None:
    class Connection:
        pass

    for value in (Live(Connection()), Compound("list", (1, Live(Connection())))):
        with pytest.raises(NoCodec, match="input 'db' of a cached task is a live object") as hit:
            ingredients_of(SPEC, {"x": 1, "db": value})
        assert "Connection" in str(hit.value)
        assert "leave cache= out" in str(hit.value)


def test_what_is_nested_without_end_is_refused() -> None:
    value: Stored = 1
    for _ in range(50_000):
        value = Compound("list", (value,))
    with pytest.raises(NoCodec, match="input 'x' of a cached task is nested too deeply"):
        ingredients_of(SPEC, {"x": value})
    # Let go of it from the outside in: the destructor of a deep one must not recurse.
    while isinstance(value, Compound):
        value = value.items[0]


# --- tasks --------------------------------------------------------------------------------------

SHELL = TaskSpec(name="make", work=Shell(("make", "{x}")), backend="subprocess", cache="1")


def changed(spec: TaskSpec, **changes: object) -> str:
    return ingredients_of(msgspec.structs.replace(spec, **changes), {"x": 1}).key


@pytest.mark.parametrize(
    "changes",
    [
        {"work": Call("mod:other")},
        {"cache": "2"},
        {"source": "abd"},
        {"codec": "pickle"},
        {"options": {"image": "python:3.13"}},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_each_of_these_makes_another_key(changes: dict[str, object]) -> None:
    assert changed(SPEC, **changes) != changed(SPEC)


@pytest.mark.parametrize(
    "work",
    [
        Shell(("make", "{x}", "-j")),
        Shell(("make", "{x}"), environment=(("CC", "gcc"),)),
        Shell(("make", "{x}"), outputs=("a.o",)),
        Shell(("make", "{x}"), image="gcc:14"),
    ],
)
def test_the_command_of_a_shell_task_counts(work: Shell) -> None:
    assert changed(SHELL, work=work) != changed(SHELL)


@pytest.mark.parametrize(
    "changes",
    [
        {"backend": "process"},
        {"retry": RetryPolicy(3)},
        {"timeout": 3.0},
        {"node_timeout": 3.0},
        {"pool": "gpu"},
        {"limit": 3},
        {"resources": Resources(cpu=2)},
        {"options": {"queue": "short"}},
        {"name": "other"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_where_and_how_a_task_runs_does_not_count(changes: dict[str, object]) -> None:
    assert changed(SPEC, **changes) == changed(SPEC)


def test_inputs_count_by_name_and_not_by_order() -> None:
    def key(**inputs: Stored) -> str:
        return ingredients_of(SPEC, inputs).key

    assert key(x=1, y=2) == key(y=2, x=1)
    assert len({key(x=1, y=2), key(x=2, y=1), key(x=1), key(y=1), key(), key(x=1, y=None)}) == 6


def test_a_file_counts_by_its_name_without_its_folder() -> None:
    here = msgspec.structs.replace(SPEC, work=Call("/home/ada/flow.py:train"))
    there = msgspec.structs.replace(SPEC, work=Call("/ci/build-7/flow.py:train"))
    assert ingredients_of(here, {}).name == ingredients_of(there, {}).name
    assert portable("/a/flow.py:train") == "flow.py:train"
    assert portable("package.flow:train") == "package.flow:train"


def test_records_of_one_task_are_in_one_place() -> None:
    one, other = ingredients_of(SPEC, {"x": 1}), ingredients_of(SPEC, {"x": 2})
    assert one.place == other.place
    assert one.place.startswith("cache/1/train-")
    assert one.name == f"{one.place}{one.key}.json"
    odd = Ingredients(task="mod:outer.<locals>.größe", version="1")
    assert odd.place.startswith("cache/1/gr_e-") or odd.place.startswith("cache/1/gr_")


EXAMPLES: dict[str, object] = {
    "text": "größe",
    "dict": {"a": 1, "é": [1.5, None]},
    "set": {"one", "two", "three"},
    "point": datetime(2026, 1, 2, tzinfo=UTC),
    "bytes": b"\x00\xff",
}

PROGRAM = """
from tests.cache.test_key import EXAMPLES, SPEC, stored
from onready.engine.cache import ingredients_of
print(ingredients_of(SPEC, {name: stored(value) for name, value in EXAMPLES.items()}).key)
"""


def test_another_process_gets_the_same_key() -> None:
    mine = ingredients_of(SPEC, {name: stored(value) for name, value in EXAMPLES.items()}).key
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "."},
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == mine
