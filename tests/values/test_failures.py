"""Failures as values: alone, in unions, in structures, from node to node and to workers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from onready.engine.errors import Failure, Frame, StoreError, ValueMismatch
from onready.engine.values import ValueType
from onready.engine.values.stored import Encoded, Stored

FAILURE = Failure(
    "error",
    "not 5: 'ü'",
    "ValueError",
    "train[1]",
    2,
    (Frame("p.py", 13, "train", "raise ValueError"),),
    "exit 1",
    ("last", "words"),
    1,
    ("ValueError", "Exception"),
)
PLAIN = Failure("lost", "gone")


@dataclass
class Report:
    done: int
    failed: Failure | None
    others: list[int | Failure]


CASES: list[tuple[object, object]] = [
    (FAILURE, Failure),
    (PLAIN, Failure),
    (FAILURE, int | Failure),
    (3, int | Failure),
    (None, Failure | None),
    ([1, FAILURE, 2, PLAIN], list[int | Failure]),
    ([], list[int | Failure]),
    ([1, FAILURE], Sequence[int | Failure]),
    ((FAILURE, 1), tuple[int | Failure, ...]),
    ({"a": FAILURE, "b": "x"}, dict[str, str | Failure]),
    ([[FAILURE], [{"k": [1]}]], list[list[dict[str, list[int]] | Failure]]),
    (Report(1, FAILURE, [2, PLAIN]), Report),
    (FAILURE, object),
]


def through(value: object, kind: ValueType) -> object:
    """`value` after it was stored, written to an event and read, as a worker gets it."""
    stored = kind.encode(value)
    data = msgspec.json.encode(stored)
    return kind.decode(msgspec.json.decode(data, type=Stored))


@pytest.mark.parametrize(("value", "annotation"), CASES)
def test_a_failure_comes_back_as_it_was(value: object, annotation: object) -> None:
    made = through(value, ValueType.of(annotation))
    assert made == value
    assert type(made) is type(value)


def test_its_stored_form_is_json() -> None:
    stored = ValueType.of(Failure).encode(FAILURE)
    assert isinstance(stored, Encoded)
    assert stored.codec == "json"
    assert stored.data is not None
    assert list(msgspec.json.decode(stored.data)) == ["$failure"]


@given(
    st.builds(
        Failure,
        kind=st.sampled_from(["error", "timeout", "oom"]),
        message=st.text(st.characters(exclude_categories=["Cs"])),
        attempt=st.integers(0, 99),
        log=st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=3).map(tuple),
        exit_code=st.none() | st.integers(-9, 255),
    )
)
def test_any_failure_comes_back(failure: Failure) -> None:
    assert through([failure, 1], ValueType.of(list[int | Failure])) == [failure, 1]


@pytest.mark.parametrize(
    ("value", "annotation", "message"),
    [
        (FAILURE, int, "expected int"),
        ("no", Failure, r"expected .*Failure.*, got str 'no'"),
        ([1, "no"], list[int | Failure], r"\$\[1\]: expected int or Failure"),
    ],
)
def test_what_does_not_fit_is_refused(value: object, annotation: object, message: str) -> None:
    with pytest.raises(ValueMismatch, match=message):
        ValueType.of(annotation).encode(value)


def test_a_damaged_failure_is_a_fault_of_the_store() -> None:
    stored = ValueType.of(Failure).encode(FAILURE)
    assert isinstance(stored, Encoded)
    assert stored.data is not None
    damaged = stored.data.replace(b'"error"', b'"eror!"')
    with pytest.raises(StoreError, match="does not decode"):
        ValueType.of(Failure).decode(msgspec.structs.replace(stored, data=damaged))
