"""The codecs `pandas` (parquet), `polars` and `pyarrow` (Arrow's IPC form).

Rule of this room: each library is imported only inside its own codec, when a value of it is there.
"""

from __future__ import annotations

from io import BytesIO

from onready.engine.values.misfit import no_codec


class PandasCodec:
    """`DataFrame`, `Series` and `Index`, as parquet; needs pyarrow."""

    name = "pandas"

    def handles(self, kind: type, /) -> bool:
        """The library's own classes; subclasses may carry more than a table."""
        import pandas as pd  # noqa: PLC0415 - see the rule

        return kind in {pd.DataFrame, pd.Series} or (
            issubclass(kind, pd.Index) and kind.__module__.startswith("pandas.")
        )

    def encode(self, value: object, /) -> tuple[bytes, str]:
        """Parquet, written by way of an Arrow table that keeps index and dtypes."""
        import pandas as pd  # noqa: PLC0415 - see the rule

        try:
            import pyarrow as pa  # noqa: PLC0415 - see the rule
            from pyarrow import parquet  # noqa: PLC0415
        except ImportError:
            raise no_codec(type(value), "the codec of pandas needs pyarrow") from None
        if isinstance(value, pd.DataFrame):
            frame, meta = value, "frame"
        elif isinstance(value, pd.Series):
            frame, meta = value.to_frame("values"), "series" if value.name is None else "named"
            if meta == "named":
                frame = value.to_frame()
        elif isinstance(value, pd.Index):
            frame, meta = pd.DataFrame(index=value), "index"
        else:  # pragma: no cover - handles() let it pass
            raise no_codec(type(value))
        buffer = BytesIO()
        parquet.write_table(pa.Table.from_pandas(frame), buffer)
        return buffer.getvalue(), meta

    def decode(self, data: bytes, meta: str, /) -> object:
        """The same kind of object."""
        from pyarrow import parquet  # noqa: PLC0415 - see the rule

        frame = parquet.read_table(BytesIO(data)).to_pandas()
        if meta == "frame":
            return frame
        if meta == "index":
            return frame.index
        series = frame.iloc[:, 0]
        if meta == "series":
            series.name = None
        return series


class PolarsCodec:
    """`DataFrame` and `Series`, as Arrow IPC."""

    name = "polars"

    def handles(self, kind: type, /) -> bool:
        """Lazy frames are no data: collect them first."""
        import polars as pl  # noqa: PLC0415 - see the rule

        return kind in {pl.DataFrame, pl.Series, pl.LazyFrame}

    def encode(self, value: object, /) -> tuple[bytes, str]:
        """Arrow's IPC file form."""
        import polars as pl  # noqa: PLC0415 - see the rule

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
        import polars as pl  # noqa: PLC0415 - see the rule

        frame = pl.read_ipc(BytesIO(data), memory_map=False)
        return frame.to_series() if meta == "series" else frame


class ArrowCodec:
    """pyarrow's `Table`, `RecordBatch`, `Array` and `ChunkedArray`, as an IPC stream."""

    name = "pyarrow"

    def handles(self, kind: type, /) -> bool:
        """Tables and columns."""
        import pyarrow as pa  # noqa: PLC0415 - see the rule

        return kind in {pa.Table, pa.RecordBatch, pa.ChunkedArray} or issubclass(kind, pa.Array)

    def encode(self, value: object, /) -> tuple[bytes, str]:
        """Arrow's IPC stream form."""
        import pyarrow as pa  # noqa: PLC0415 - see the rule

        if isinstance(value, pa.Array):
            table, meta = pa.table({"values": pa.chunked_array([value])}), "array"
        elif isinstance(value, pa.ChunkedArray):
            table, meta = pa.table({"values": value}), "chunked"
        elif isinstance(value, pa.RecordBatch):
            table, meta = pa.Table.from_batches([value]), "batch"
        else:
            table, meta = value, "table"
        buffer = BytesIO()
        with pa.ipc.new_stream(buffer, table.schema) as writer:
            writer.write_table(table)
        return buffer.getvalue(), meta

    def decode(self, data: bytes, meta: str, /) -> object:
        """The same kind of object."""
        import pyarrow as pa  # noqa: PLC0415 - see the rule

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
