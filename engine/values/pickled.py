"""The codec `pickle`, for those who ask for it: `@task(codec="pickle")`.

Rule of this room: the one file of onready that may name pickle. Unpickling runs whatever code
the bytes say. So this codec is never chosen by itself: a task must ask for it, and whoever can
write that task's results can run code in every process that reads them. See the security docs.
"""

from __future__ import annotations

import pickle


class PickleCodec:
    """Any value that pickle takes."""

    name = "pickle"

    def handles(self, kind: type, /) -> bool:
        """Never by itself."""
        del kind
        return False

    def encode(self, value: object, /) -> tuple[bytes, str]:
        """The pickle of `value`."""
        return pickle.dumps(value, protocol=pickle.HIGHEST_PROTOCOL), ""

    def decode(self, data: bytes, meta: str, /) -> object:
        """What was pickled. This runs code that `data` names."""
        del meta
        return pickle.loads(data)  # noqa: S301 - the opt-in that this file is for
