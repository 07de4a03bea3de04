"""stdout and stderr of nodes that run in this process: each node's own, kept with its attempt.

Only the command line installs this: an embedded engine leaves `sys.stdout` alone.

Rule of this room: what is written inside a node goes to that node's attempt, everything else
passes through untouched.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Literal, TextIO, cast

from onready.engine.context import current

Stream = Literal["stdout", "stderr"]


class NodeBuffer(io.RawIOBase):
    """The byte side: for code that writes to `sys.stdout.buffer`."""

    def __init__(self, stream: Stream, through: TextIO) -> None:
        self._stream: Stream = stream
        self._through = through

    def writable(self) -> bool:
        """True: this is an output."""
        return True

    def write(self, data: object, /) -> int:
        """Bytes to the node that runs here, or through."""
        content = bytes(cast("bytes", data))
        node = current()
        if node is None:
            return self._through.buffer.write(content)
        if content:
            node.log(self._stream, content)
        return len(content)

    def flush(self) -> None:
        """Flush what is underneath; a node's output needs none."""
        # Called once more when it is let go of, maybe long after what is underneath was closed.
        if current() is None and not self._through.closed:
            self._through.flush()


class NodeStream(io.TextIOBase):
    """A text stream that knows on whose behalf it is written to.

    In a node `isatty()` is false and `fileno()` is refused: it has no descriptor of its own.
    """

    def __init__(self, stream: Stream, through: TextIO) -> None:
        self._stream: Stream = stream
        self._through = through
        self._buffer = NodeBuffer(stream, through)

    @property
    def buffer(self) -> NodeBuffer:
        """The byte side."""
        return self._buffer

    @property
    def encoding(self) -> str:  # type: ignore[override] # the base has a plain attribute
        """Of the stream underneath; what nodes write is kept as UTF-8."""
        return self._through.encoding if current() is None else "utf-8"

    @property
    def errors(self) -> str | None:  # type: ignore[override] # as above
        """Of the stream underneath."""
        return self._through.errors

    def writable(self) -> bool:
        """True: this is an output."""
        return True

    def write(self, text: str, /) -> int:
        """Text to the node that runs here, or through."""
        node = current()
        if node is None:
            return self._through.write(text)
        if text:
            node.log(self._stream, text.encode("utf-8", "surrogateescape"))
        return len(text)

    def writelines(self, lines: Iterable[str], /) -> None:  # type: ignore[override] # text only
        """Each text, as `write`."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush what is underneath; a node's output needs none."""
        if current() is None and not self._through.closed:  # as above
            self._through.flush()

    def isatty(self) -> bool:
        """Whether a person looks: never inside a node."""
        return current() is None and self._through.isatty()

    def fileno(self) -> int:
        """The descriptor underneath; `io.UnsupportedOperation` inside a node."""
        if current() is not None:
            message = "a node's output has no descriptor of its own"
            raise io.UnsupportedOperation(message)
        return self._through.fileno()


@contextmanager
def captured() -> Generator[None]:
    """While this is open, what in-process nodes print is kept with their attempts."""
    before = sys.stdout, sys.stderr
    sys.stdout = cast("TextIO", NodeStream("stdout", before[0]))
    sys.stderr = cast("TextIO", NodeStream("stderr", before[1]))
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
