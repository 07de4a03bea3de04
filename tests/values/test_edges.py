"""Odd corners: annotations that are hard to read, values whose classes misbehave."""

from __future__ import annotations

import copy
import datetime as dt
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Dict, List, NewType, Protocol, TypedDict, TypeVar  # noqa: UP035 - as users write
from uuid import UUID

import pytest
from pydantic import BaseModel, ConfigDict, SecretStr

from onready.engine.errors import InternalError, NoCodec, StoreError, ValueMismatch
from onready.engine.values import Dir, File, ValueType, bring, settle
from onready.engine.values.codec import named_codec
from onready.engine.values.stored import Compound, Encoded
from onready.storage.memory import MemoryCatalog
from tests.values.kinds import Doubling, Inner, Model, Movie, Plain

ANY = ValueType.any()
T = TypeVar("T")
Alpha = NewType("Alpha", Model)


class Sized(Protocol):
    size: int


class Fresh(BaseModel):
    model_config = ConfigDict(revalidate_instances="always")
    size: int = 0


class Tree(TypedDict):
    name: str
    children: list[Tree]


class Shelf(TypedDict):
    movies: list[Movie | None]
    by_name: Dict[str, Movie]  # noqa: UP006 - the old spelling is the subject
    more: List[Movie]  # noqa: UP006 - as above


class Nowhere(dt.tzinfo):
    """A time zone that knows nothing."""

    def utcoffset(self, when: dt.datetime | None) -> None:
        return None

    dst = tzname = utcoffset


class Broken:
    """Pydantic asks it, and gets an error."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        raise ZeroDivisionError


REFUSING: list[object] = [Callable[[int], int], type[int]]


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (T, [1, (2,)]),
        (list[T], [1]),  # type: ignore[valid-type] # unbound on purpose
        (Callable[[int], int], Doubling(1)),
        (Sized, Inner()),
        (type[int], 3),
        ("no.such[", {1}),
        (list["Unknown"], [1]),  # type: ignore[name-defined] # noqa: F821
        (5, "x"),
    ],
    ids=str,
)
def test_an_annotation_that_cannot_be_read_does_no_harm(annotation: object, value: object) -> None:
    value_type = ValueType.of(annotation)
    if annotation in REFUSING:
        with pytest.raises(ValueMismatch, match=r"^\$: expected"):
            value_type.encode(value)
    else:
        assert value_type.decode(value_type.encode(value)) == value


@pytest.mark.parametrize(
    ("annotation", "value"),
    [
        (Sequence[int], [1]),
        (Sequence[int], (1, 2)),
        (Iterable[int], [1]),
        (Iterable[int], {1}),
        (Mapping[str, int], {"a": 1}),
        (Mapping[str, Sequence[int]], {"a": (1,)}),
        (Sequence, [1]),
        (Mapping, {"a": 1}),
        (Fresh, Fresh(size=3)),
        (Alpha, Model(1.0)),
    ],
    ids=str,
)
def test_abstract_annotations_keep_what_they_are_given(annotation: object, value: object) -> None:
    value_type = ValueType.of(annotation)
    back = value_type.decode(value_type.encode(value))
    assert back == value
    assert type(back) is type(value)


def test_typed_dicts_of_typed_dicts() -> None:
    value = {"movies": [{"title": "a"}, None], "by_name": {}, "more": [{"title": "b", "year": 1}]}
    assert ValueType.of(Shelf).decode(ANY.encode(value)) == value
    wrong = {**value, "more": [{"title": 1}]}
    with pytest.raises(ValueMismatch, match=r"^\$\.more\[0\]\.title: expected str"):
        ValueType.of(Shelf).encode(wrong)
    with pytest.raises(ValueMismatch, match=r"^\$\.movies: is missing"):
        ValueType.of(list[Shelf] | Shelf).encode({"by_name": {}, "more": []})
    tree = {"name": "a", "children": [{"name": "b", "children": []}]}
    assert ValueType.of(Tree).encode(tree) == ANY.encode(tree)
    with pytest.raises(ValueMismatch, match=r"^\$\.name: expected str"):
        ValueType.of(Tree).encode({"name": 1, "children": []})


def test_paths_through_keys_that_are_no_texts() -> None:
    with pytest.raises(ValueMismatch, match=r"^\$\[1\]: expected int") as caught:
        ValueType.of(dict[int, int]).encode({1: "x"})
    assert caught.value.path == "$[1]"
    with pytest.raises(ValueMismatch, match=r"^\$\[UUID\(.*\)\]: expected int"):
        ValueType.of(dict[UUID, int]).encode({UUID(int=0): "x"})
    with pytest.raises(NoCodec, match=r"^\$\[\(1, 2\)\]: "):
        ANY.encode({(1, 2): Plain()})


def test_a_dataclass_whose_annotations_do_not_resolve_is_not_checked() -> None:
    @dataclass
    class Loose:
        x: Unknown  # type: ignore[name-defined] # noqa: F821

    value_type = ValueType.of(Loose)
    assert value_type.decode(value_type.encode(Loose("anything"))) == Loose("anything")
    nested = ValueType.of(list[Loose | Fresh])
    assert nested.decode(nested.encode([Loose(1)])) == [Loose(1)]


def test_numbers_too_large_to_add_up() -> None:
    value = [10**400, 0.5]
    assert ANY.decode(ANY.encode(value)) == value


def test_classes_that_pydantic_knows_only_half() -> None:
    with pytest.raises(NoCodec, match="loses something"):
        ANY.encode([SecretStr("hidden")])
    with pytest.raises(NoCodec, match="Broken"):
        ANY.encode(Broken())


def test_time_zones_without_an_offset_are_refused() -> None:
    for value in (dt.datetime(2024, 1, 1, tzinfo=Nowhere()), dt.time(1, tzinfo=Nowhere())):
        with pytest.raises(NoCodec, match="without an offset"):
            ANY.encode(value)


def test_files_and_folders_are_plain_immutable_values() -> None:
    file = File("/a/b")
    assert file == File("/a/b") != File("/a/c")
    assert file != Dir("/a/b")
    assert file != "/a/b"
    assert len({file, File("/a/b"), Dir("/a/b")}) == 2
    assert repr(file) == "File('/a/b')"
    assert str(file) == "/a/b"
    assert copy.deepcopy(file) == file
    with pytest.raises(AttributeError, match="cannot be changed"):
        file.path = file.path


def test_what_was_not_brought_is_not_decoded() -> None:
    body = Encoded("json", None, "ab" * 32, 5, "[]")
    with pytest.raises(InternalError, match="before it was brought"):
        ANY.decode(Compound("parts", (body,)))


@pytest.mark.anyio
async def test_settling_what_is_settled_changes_nothing(tmp_path: Any) -> None:
    stored = Encoded("json", None, "ab" * 32, 5)
    assert await settle(stored, MemoryCatalog()) is stored
    with pytest.raises(StoreError, match="neither data nor digest"):
        await bring(Encoded("json", None, None, 5), MemoryCatalog(), tmp_path)


def test_bytes_and_pickle_are_chosen_by_name_alone() -> None:
    assert named_codec("bytes").handles(bytes)
    assert not named_codec("pickle").handles(Plain)


def test_pandas_without_pyarrow_is_refused_clearly() -> None:
    script = """
import sys
sys.modules["pyarrow"] = None
import pandas
from onready.engine.errors import NoCodec
from onready.engine.values import ValueType
try: ValueType.any().encode(pandas.DataFrame({"a": [1]}))
except NoCodec as error: print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "the codec of pandas needs pyarrow" in done.stdout
