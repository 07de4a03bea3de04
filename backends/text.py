"""The text that a program writes to standard output, as the value of its node.

Short texts stay in memory. A long one goes to a file as the JSON that its stored form is, piece
by piece, so that a program may write gigabytes.

Rule of this room: fed in the pump's thread, ended after the last byte; never raises.
"""

from __future__ import annotations

import codecs
import os
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

from onready.engine.folders import make_private

MEMORY_LIMIT: Final = 256 * 1024
"""Bytes of output kept in memory."""


_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC


class OutputText:
    """Collects bytes; afterwards `fault`, or `text`, or the JSON file `spool` has the text.

    The file is made, and its folder, when it is needed.
    """

    def __init__(self, spool: str) -> None:
        self.spool = spool
        self.fault = ""
        self._parts: list[bytes] = []
        self._size = 0
        self._file: BinaryIO | None = None
        self._decoder = codecs.getincrementaldecoder("utf-8")()
        self._newline = ""
        """A newline that ends the text so far: whether it belongs to it, the next piece says."""

    @property
    def spooled(self) -> bool:
        """Whether the text is in the file."""
        return self._file is not None

    def feed(self, data: bytes) -> None:
        """Take the next piece."""
        self._size += len(data)
        if self.fault:
            return
        self._parts.append(data)
        if self._size > MEMORY_LIMIT:
            self._spill(last=False)

    def end(self) -> None:
        """All is there: finish the file, if there is one. More than once does no harm."""
        if self._file is not None and not self._file.closed and not self.fault:
            self._spill(last=True)
        self._close()

    def text(self) -> str:
        """The whole text without its last newline; UnicodeDecodeError where it is not UTF-8."""
        return b"".join(self._parts).decode().removesuffix("\n")

    def _spill(self, *, last: bool) -> None:
        data = b"".join(self._parts)
        self._parts.clear()
        try:
            if self._file is None:
                make_private(Path(self.spool).parent)
                self._file = os.fdopen(os.open(self.spool, _NEW, 0o600), "wb")
                self._file.write(b'"')
            text = self._newline + self._decoder.decode(data, last)
            self._newline = "\n" if text.endswith("\n") else ""
            self._file.write(msgspec.json.encode(text.removesuffix("\n"))[1:-1])
            if last:
                self._file.write(b'"')
        except UnicodeDecodeError as error:
            self.fault = f"standard output is not UTF-8 text: {error}"
        except OSError as error:
            self.fault = f"standard output could not be kept: {error}"

    def _close(self) -> None:
        if self._file is not None and not self._file.closed:
            try:
                self._file.close()
            except OSError as error:
                self.fault = self.fault or f"standard output could not be kept: {error}"
