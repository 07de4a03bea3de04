"""The codec `numpy`: arrays and scalars in numpy's own `.npy` form, never with pickle.

Rule of this room: numpy is imported here; so this module is imported only when it is loaded.
"""

from __future__ import annotations

from io import BytesIO
from typing import Final

import numpy as np

from onready.engine.values.misfit import no_codec

_HEADER: Final = 1 << 20
"""Bytes of header that are read: structured dtypes may be long."""


class NumpyCodec:
    """`ndarray`, `memmap` (comes back as an array) and numpy's scalars."""

    name = "numpy"

    def handles(self, kind: type, /) -> bool:
        """Other subclasses (masked arrays, matrices, record arrays) would lose what they add."""
        return kind in {np.ndarray, np.memmap} or issubclass(kind, np.generic)

    def encode(self, value: object, /) -> tuple[bytes, str]:
        """The `.npy` bytes, or the text of a scalar that `.npy` would cut at NUL."""
        if isinstance(value, np.str_):
            return str.encode(value, "utf-8", "surrogatepass"), "str_"
        if isinstance(value, np.bytes_):
            return bytes(value), "bytes_"
        array = np.asarray(value)
        if array.dtype.hasobject:
            raise no_codec(type(value), "arrays of Python objects are refused")
        buffer = BytesIO()
        np.lib.format.write_array(buffer, array, allow_pickle=False)
        return buffer.getvalue(), "scalar" if isinstance(value, np.generic) else ""

    def decode(self, data: bytes, meta: str, /) -> object:
        """A fresh, writable array, or the scalar."""
        if meta == "str_":
            return np.str_(data.decode("utf-8", "surrogatepass"))
        if meta == "bytes_":
            return np.bytes_(data)
        array: object = np.lib.format.read_array(
            BytesIO(data), allow_pickle=False, max_header_size=_HEADER
        )
        return array[()] if meta == "scalar" and isinstance(array, np.ndarray) else array
