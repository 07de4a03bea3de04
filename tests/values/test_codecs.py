"""The codecs of optional libraries, raw bytes, and the opt-in pickle."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from onready.engine.errors import NoCodec, PluginError, StoreError
from onready.engine.values import ValueType
from onready.engine.values.stored import INLINE_LIMIT, Compound, Encoded
from tests.values.kinds import Fitted, Frozen, Plain

ANY = ValueType.any()


def again(value: object) -> Any:
    return ANY.decode(ANY.encode(value))


ARRAYS: list[npt.NDArray[Any]] = [
    np.zeros((2, 3), order="F"),
    np.arange(6).reshape(2, 3)[:, ::2],
    np.array([1, 2], dtype=">i4"),
    np.array("text"),
    np.array([b"a\0b", b""]),
    np.array([("a", 1)], dtype=[("name", "U3"), ("value", "i4")]),
    np.array(["2024-01-01", "NaT"], dtype="M8[s]"),
    np.array([np.nan, np.inf]),
    np.array([]),
    np.zeros((0, 3)),
    np.array([True, False]),
    np.array([1 + 2j]),
    np.zeros(10_000, dtype=[(f"column{number}", "f8") for number in range(1000)])[:1],
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype!s:.20}-{array.shape}")
def test_arrays(array: npt.NDArray[Any]) -> None:
    back = again(array)
    assert type(back) is np.ndarray
    assert back.dtype == array.dtype
    assert back.shape == array.shape
    assert back.tobytes() == np.ascontiguousarray(array).tobytes() or back.flags.f_contiguous
    np.testing.assert_array_equal(back, array)
    assert back.flags.writeable
    assert back is not array


SCALARS: list[Any] = [
    *(np.float64(1.5), np.float32(0.1), np.int8(-1), np.uint64(2**64 - 1), np.bool_(True), np.complex64(1j)),
    *(np.datetime64("2024-01-01"), np.timedelta64(3, "h"), np.str_("a\0"), np.bytes_(b"a\0"), np.longdouble(1) / 3),
]  # fmt: skip


@pytest.mark.parametrize("value", SCALARS, ids=repr)
def test_numpy_scalars_keep_their_class_where_nothing_is_annotated(value: Any) -> None:
    assert type(again(value)) is type(value)
    assert again(value) == value
    inside = again({"a": [value, (value,)]})
    assert inside == {"a": [value, (value,)]}
    assert type(inside["a"][0]) is type(value)
    assert ValueType.of(type(value)).decode(ValueType.of(type(value)).encode(value)) == value


@pytest.mark.parametrize(
    "value",
    [
        np.array([object()]),
        np.array([("a", object())], dtype=[("a", "U1"), ("o", "O")]),
        np.ma.masked_array([1], mask=[True]),
        np.recarray((1,), dtype=[("a", "i4")]),
        [np.array([None])],
    ],
    ids=["objects", "structured", "masked", "record", "nested"],
)
def test_arrays_that_npy_would_change_are_refused(value: object) -> None:
    with pytest.raises(NoCodec):
        ANY.encode(value)


def test_arrays_inside_structures() -> None:
    small, large = np.arange(3), np.arange(10_000.0)
    values: list[object] = [{"x": small}, (small, 1), [{"y": (small,)}], {1: small}]
    for each in values:
        stored = ANY.encode(each)
        assert isinstance(stored, Encoded)
        assert stored.codec == "json"
        np.testing.assert_equal(again(each), each)
    value = {"X": large, "n": 3, "deep": [(large, "a")], "plain": [1, 2]}
    stored = ANY.encode(value)
    assert isinstance(stored, Compound)
    assert (stored.kind, stored.keys) == ("dict", ("X", "n", "deep", "plain"))
    assert stored.items[1] == 3
    np.testing.assert_equal(ANY.decode(stored), value)


def test_arrays_inside_classes_stay_in_one_value() -> None:
    fitted = Fitted(np.arange(10_000.0))
    stored = ValueType.of(Fitted).encode(fitted)
    assert isinstance(stored, Compound)
    assert stored.kind == "parts"
    assert len(stored.items) == 2
    back = ValueType.of(Fitted).decode(stored)
    assert isinstance(back, Fitted)
    np.testing.assert_array_equal(back.weights, fitted.weights)
    two = [Fitted(np.arange(10_000.0)), Fitted(np.ones(10_000))]
    stored = ANY.encode(two)
    assert isinstance(stored, Compound)
    assert stored.kind == "list"
    assert [item.kind for item in stored.items if isinstance(item, Compound)] == ["parts", "parts"]
    pair: Any = ANY.decode(stored)
    np.testing.assert_array_equal(pair[1].weights, two[1].weights)


@pytest.mark.parametrize("shape", ["list", "tuple", "dict", "keys", "set", "tag"])
def test_large_bytes_inside_structures(shape: str) -> None:
    blob = bytes(range(256)) * 200
    assert len(blob) > INLINE_LIMIT
    as_numpy = np.frombuffer(blob, np.uint8)
    value: Any = {
        "list": [1, as_numpy, 2**70, "x" * 5000, None, {"a": 1}],
        "tuple": (as_numpy,),
        "dict": {"a": as_numpy, "b": {"c": [as_numpy]}},
        "keys": {1: as_numpy, (2, 3): as_numpy},
        "set": {"a": frozenset({1}), "b": as_numpy, "c": {Frozen("x")}},
        "tag": {"$tuple": as_numpy},
    }[shape]
    np.testing.assert_equal(again(value), value)
    assert repr(again(value)) == repr(value)


FRAMES: list[pd.DataFrame] = [
    pd.DataFrame({"a": [1, 2], "b": ["x", None], "c": [1.5, None]}),
    pd.DataFrame(np.zeros((2, 2))),
    pd.DataFrame(),
    pd.DataFrame(index=pd.Index([1, 2, 5])),
    pd.DataFrame({"a": [1, 2, 3]}, index=pd.date_range("2024", periods=3, tz="Europe/Berlin")),
    pd.DataFrame({"c": pd.Categorical(["a", "b", "a"], ordered=True)}),
    pd.DataFrame(
        {"a": [1, 2]}, index=pd.MultiIndex.from_tuples([(1, "a"), (2, "b")], names=["x", "y"])
    ),
    pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "x"), ("a", "y")])),
    pd.DataFrame(
        {"i": pd.array([1, None], dtype="Int64"), "s": pd.array(["a", None], dtype="string")}
    ),
    pd.DataFrame({"t": [dt.timedelta(1)], "d": [dt.date(2020, 1, 1)], "n": [Decimal("1.10")]}),
    pd.DataFrame({"b": [b"x\0", b""]}),
]


@pytest.mark.parametrize("frame", FRAMES, ids=range(len(FRAMES)))
def test_pandas_frames(frame: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(again(frame), frame)
    value_type = ValueType.of(pd.DataFrame)
    stored = value_type.encode(frame)
    assert isinstance(stored, Encoded)
    assert stored.codec == "pandas"
    back = value_type.decode(stored)
    assert isinstance(back, pd.DataFrame)
    pd.testing.assert_frame_equal(back, frame)


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"o": [object()]}),
        pd.DataFrame({"m": [1, "a"]}),
        pd.DataFrame({"s": [{1}]}),
        pd.DataFrame({"d": [{"a": 1}, {"b": 2}]}),
        pd.DataFrame({"l": [[1, 2], [3]]}),
        pd.DataFrame({"i": pd.Series([1, 2], dtype=object)}),
        pd.DataFrame([[1, 2]], columns=["a", "a"]),
        pd.DataFrame({1: [1], "a": [2]}),
        pd.DataFrame(index=pd.RangeIndex(3)),
    ],
    ids=["object", "mixed", "set", "dict", "list", "ints", "twice", "names", "rows"],
)
def test_frames_that_parquet_would_change_are_refused(frame: pd.DataFrame) -> None:
    with pytest.raises(NoCodec, match="codec"):
        ANY.encode(frame)


def test_pandas_series_indexes_and_times() -> None:
    for series in (
        pd.Series([1, 2]),
        pd.Series([1.5], name="x"),
        pd.Series(["a"], name=3, index=["k"]),
    ):
        pd.testing.assert_series_equal(again(series), series)
    for index in (
        pd.Index([1, 2]),
        pd.RangeIndex(1, 7, 2),
        pd.date_range("2024", periods=3),
        pd.MultiIndex.from_tuples([(1, "a")]),
        pd.Index(["a"], name="n"),
    ):
        pd.testing.assert_index_equal(again(index), index)
    for time in (
        pd.Timestamp("2024-01-01 01:02:03.000000004", tz="UTC"),
        pd.Timedelta("1 day 3 ns"),
    ):
        assert again(time) == time
        assert type(again([time])[0]) is type(time)


@pytest.mark.may_leak("polars keeps its thread pool for the life of the process")
def test_polars() -> None:
    for frame in (
        pl.DataFrame({"a": [1, None], "b": ["x", "y"], "l": [[1], [2, 3]]}),
        pl.DataFrame(),
        pl.DataFrame({"c": ["a", "b"]}, schema={"c": pl.Categorical}),
    ):
        back = again(frame)
        assert back.equals(frame)
        assert back.schema == frame.schema
    series = pl.Series("s", [1, 2])
    assert again(series).equals(series, check_names=True)
    with pytest.raises(NoCodec, match="collect"):
        ANY.encode(pl.LazyFrame({"a": [1]}))
    with pytest.raises(NoCodec, match="polars"):
        ANY.encode(pl.DataFrame({"o": [object()]}))


def test_pyarrow() -> None:
    for value in (
        pa.table({"a": [1, 2]}, metadata={"k": "v"}),
        pa.table({}),
        pa.record_batch({"a": [1]}),
        pa.record_batch({"a": pa.array([], pa.int8())}),
        pa.array([1, None]),
        pa.array([1, 2, 3])[1:],
        pa.array([], pa.string()),
        pa.array(["a"]).dictionary_encode(),
        pa.chunked_array([[1], [2]]),
    ):
        back = again(value)
        assert type(back) is type(value)
        assert back.equals(value)


def test_bytes_are_raw() -> None:
    stored = ValueType.of(bytes).encode(b"\x00\xff")
    assert stored == Encoded("bytes", b"\x00\xff", None, 2)
    for value in (bytearray(b"ab"), memoryview(b"ab")):
        assert again(value) == value
        assert type(again(value)) is type(value)
    changed: Any = again(bytearray(b"ab"))
    changed.append(1)
    with pytest.raises(NoCodec, match="single bytes"):
        ANY.encode(memoryview(b"abcd").cast("I"))
    with pytest.raises(NoCodec, match="single bytes"):
        ANY.encode([memoryview(b"abcd").cast("I")])


def test_pickle_only_where_it_is_asked_for() -> None:
    with pytest.raises(NoCodec):
        ANY.encode(Plain())
    stored = ValueType.of(Plain, "pickle").encode(Plain())
    assert isinstance(stored, Encoded)
    assert stored.codec == "pickle"
    assert isinstance(ANY.decode(stored), Plain)
    assert ValueType.of(int, "pickle").encode(5) == 5
    with pytest.raises(NoCodec, match="pickle"):
        ValueType.of(Any, "pickle").encode(lambda: 1)


def test_a_named_codec_is_used_whatever_the_value() -> None:
    stored = ValueType.of(Any, "numpy").encode(np.arange(3))
    assert isinstance(stored, Encoded)
    assert stored.codec == "numpy"
    assert ValueType.of(Any, "json").encode([1]) == ANY.encode([1])
    with pytest.raises(PluginError, match=r"no codec is named 'nothing' .*onready\.codecs.*numpy"):
        ValueType.of(int, "nothing")


@pytest.mark.parametrize(
    "stored",
    [
        Encoded("json", b"{", None, 1),
        Encoded("json", b'{"$tuple":5}', None, 12, "[]"),
        Encoded("json", b'{"$data":[9,{}]}', None, 16, "[]"),
        Encoded("json", b'{"$datetime":["x",null,0]}', None, 1, "[]"),
        Encoded("json", b'{"$int":"zz"}', None, 1, "[]"),
        Encoded("json", b"[1]", None, 1, "not json"),
        Encoded("json", b'{"$part":1}', None, 1, "[]"),
        Encoded("json", b'{"$leaf":["numpy","","!"]}', None, 1, "[]"),
        Encoded("json", b"[" * 100_000, None, 1, "[]"),
        Encoded("numpy", b"not npy", None, 7),
        Encoded("pandas", b"not parquet", None, 7),
        Compound("dict", (1,), ()),
    ],
    ids=str,
)
def test_damaged_data_is_a_store_error(stored: Encoded | Compound) -> None:
    with pytest.raises(StoreError, match="does not decode"):
        ANY.decode(stored)


def test_npy_files_with_objects_are_not_unpickled() -> None:
    data = b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'fortran_order': False, 'shape': (1,), }"
    data = data.ljust(127) + b"\n" + b"\x80\x04K\x01."
    with pytest.raises(StoreError, match=r"pickle|Object arrays"):
        ANY.decode(Encoded("numpy", data, None, len(data)))


def test_an_unknown_codec_in_stored_data_names_what_there_is() -> None:
    with pytest.raises(PluginError, match="no codec is named 'gone'"):
        ANY.decode(Encoded("gone", b"", None, 0))


def test_nothing_heavy_is_imported() -> None:
    script = """
import sys
before = set(sys.modules)
from dataclasses import dataclass
from onready.engine.values import File, ValueType, summarise
@dataclass
class Model:
    alpha: float
    tags: list[str]
for annotation, value in [(int, 1), (list[int], [1]), (dict[str, float], {"a": 1}), (Model, Model(1.0, ["a"])),
                          (tuple[int, ...], (1,)), (int | None, None), (bytes, b"x"), (File, File("x"))]:
    value_type = ValueType.of(annotation)
    back = value_type.decode(value_type.encode(value))
    summarise(value_type.encode(value), 60)
heavy = {"pydantic", "numpy", "pandas", "polars", "pyarrow", "pickle"}
print(sorted(heavy & (set(sys.modules) - before)))
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
