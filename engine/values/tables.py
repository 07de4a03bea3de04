"""The codecs `pandas` (parquet), `polars` and `pyarrow` (Arrow's IPC form).

Rule of this room: each library is imported only inside its own codec, when a value of it is there.
"""

from __future__ import annotations

import warnings
from io import BytesIO
from typing import TYPE_CHECKING, Any, cast

from onready.engine.values.misfit import no_codec

if TYPE_CHECKING:
    import pandas as pd


class PandasCodec:
    """`DataFrame`, `Series`, `Index` and single times, as parquet; needs pyarrow."""

    name = "pandas"

    def handles(self, kind: type, /) -> bool:
        """The library's own classes; subclasses may carry more than a table."""
        import pandas as pd

        own = kind.__module__.partition(".")[0] == "pandas"
        kinds = pd.DataFrame | pd.Series | pd.Index | pd.Timestamp | pd.Timedelta
        return own and issubclass(kind, kinds)

    def encode(self, value: object, /) -> tuple[bytes, str]:
        """Parquet, written by way of an Arrow table that keeps index and dtypes."""
        import pandas as pd

        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ImportError:
            raise no_codec(type(value), "the codec of pandas needs pyarrow") from None
        frame, shape = _as_frame(value)
        buffer = BytesIO()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of mixed column names: _faithful tells
            parquet.write_table(pa.Table.from_pandas(frame), buffer)
        data = buffer.getvalue()
        dtypes = {dtype.name for dtype in (frame.index.dtype, frame.columns.dtype, *frame.dtypes)}
        risky = "object" in dtypes or frame.columns.empty
        if risky and not _faithful(frame, _read(data)):
            raise no_codec(type(value), "parquet would change its columns of Python objects")
        freq = frame.index.freqstr if isinstance(frame.index, pd.DatetimeIndex) else None
        return data, f"{shape} {freq}" if freq else shape

    def decode(self, data: bytes, meta: str, /) -> object:
        """The same kind of object."""
        import pandas as pd

        frame = _read(data)
        shape, _, freq = meta.partition(" ")
        if freq and isinstance(frame.index, pd.DatetimeIndex):
            frame.index = pd.DatetimeIndex(frame.index, freq=freq)
        if shape == "index":
            return frame.index
        if shape == "frame":
            return frame
        if shape == "single":
            return frame.iloc[0, 0]
        series = frame.iloc[:, 0]
        if shape == "series":
            series.name = None
        return series


def _as_frame(value: object) -> tuple[pd.DataFrame, str]:
    import pandas as pd

    if isinstance(value, pd.DataFrame):
        return value, "frame"
    if isinstance(value, pd.Series):
        unnamed = value.name is None
        return (value.to_frame("values"), "series") if unnamed else (value.to_frame(), "named")
    if isinstance(value, pd.Index):
        # With a column, since parquet keeps no rows without one.
        return pd.DataFrame({"values": 0}, index=value), "index"
    if isinstance(value, pd.Timestamp | pd.Timedelta):
        return pd.DataFrame({"values": [value]}), "single"
    raise no_codec(type(value))  # pragma: no cover - handles() let it pass


def _read(data: bytes) -> pd.DataFrame:
    from pyarrow import parquet

    frame: pd.DataFrame = parquet.read_table(BytesIO(data)).to_pandas()
    return frame


def _faithful(frame: pd.DataFrame, back: pd.DataFrame) -> bool:
    """Whether parquet kept a frame: it changes dicts, sets, lists, and rows without columns."""
    same = frame.equals(back) and list(frame.columns) == list(back.columns)
    return same and list(frame.dtypes) == list(back.dtypes)


class PolarsCodec:
    """`DataFrame` and `Series`, as Arrow IPC."""

    name = "polars"

    def handles(self, kind: type, /) -> bool:
        """Lazy frames are no data: collect them first."""
        import polars as pl

        return kind in {pl.DataFrame, pl.Series, pl.LazyFrame}

    def encode(self, value: object, /) -> tuple[bytes, str]:
        """Arrow's IPC file form."""
        import polars as pl

        buffer = BytesIO()
        if isinstance(value, pl.Series):
            value.to_frame().write_ipc(buffer)
            return buffer.getvalue(), "series"
        if isinstance(value, pl.DataFrame):
            value.write_ipc(buffer)
            return buffer.getvalue(), "frame"
        raise no_codec(type(value), "a lazy frame is no data yet: return .collect()")

    def decode(self, data: bytes, meta: str, /) -> object:
        """The same kind of object."""
        import polars as pl

        frame = pl.read_ipc(BytesIO(data))
        return frame.to_series() if meta == "series" else frame


class ArrowCodec:
    """pyarrow's `Table`, `RecordBatch`, `Array` and `ChunkedArray`, as an IPC stream."""

    name = "pyarrow"

    def handles(self, kind: type, /) -> bool:
        """Tables and columns."""
        import pyarrow as pa

        return kind in {pa.Table, pa.RecordBatch, pa.ChunkedArray} or issubclass(kind, pa.Array)

    def encode(self, value: object, /) -> tuple[bytes, str]:
        """Arrow's IPC stream form."""
        import pyarrow as pa

        if isinstance(value, pa.Array):
            table, meta = pa.table({"values": pa.chunked_array([value])}), "array"
        elif isinstance(value, pa.ChunkedArray):
            table, meta = pa.table({"values": value}), "chunked"
        elif isinstance(value, pa.RecordBatch):
            table, meta = pa.Table.from_batches([value]), "batch"
        else:
            table, meta = cast("Any", value), "table"
        buffer = BytesIO()
        with pa.ipc.new_stream(buffer, table.schema) as writer:
            writer.write_table(table)
        return buffer.getvalue(), meta

    def decode(self, data: bytes, meta: str, /) -> object:
        """The same kind of object."""
        import pyarrow as pa

        with pa.ipc.open_stream(data) as reader:
            table = reader.read_all()
        if meta == "table":
            return table
        if meta == "batch":
            batches = table.combine_chunks().to_batches()
            return batches[0] if batches else pa.RecordBatch.from_pylist([], schema=table.schema)
        column = table.column(0)
        if meta == "chunked":
            return column
        whole = column.combine_chunks()
        return whole.chunk(0) if isinstance(whole, pa.ChunkedArray) else whole
