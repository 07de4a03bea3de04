"""The log stream of a container: frames, time stamps, and going on where it broke.

A frame is a head of 8 bytes (which stream, how long) and one message with its time stamp before
it. A line longer than 16 KiB is many messages with one stamp. Messages of one stream have rising
stamps; those of the two streams together do not.

The daemon's `local` log keeps bytes as they are, but for the newline of a line in pieces, which
some versions forget. It is put back when the stream goes on, and where it ends: there nobody can
know, and a last line of that length is taken to have had one.

Rule of this room: bytes in, bytes out; no sockets.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Literal

_HEAD: Final = struct.Struct(">BxxxI")
_STREAMS: Final[dict[int, Literal["stdout", "stderr"]]] = {1: "stdout", 2: "stderr"}
_STAMP: Final = re.compile(
    rb"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)\Z"
)
_PIECE: Final = 16 * 1024
"""Bytes of each piece of a long line but the last, which has fewer."""
_OVERLAP: Final = 2_000_000_000
"""Nanoseconds that are read again when a stream goes on: a message of the other stream may have
an older stamp than the last one seen."""


class BadFrames(Exception):
    """What came is no log stream."""


def nanoseconds(stamp: bytes) -> int:
    """A time stamp as nanoseconds since the epoch; BadFrames where it is none."""
    match = _STAMP.match(stamp)
    if match is None:
        message = f"not a time stamp: {stamp[:60]!r}"
        raise BadFrames(message)
    *parts, fraction, zone = match.groups()
    suffix = "+00:00" if zone == b"Z" else zone.decode()
    year, month, day, hour, minute, second = (int(part) for part in parts)
    text = f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{suffix}"
    seconds = int(datetime.fromisoformat(text).astimezone(UTC).timestamp())
    return seconds * 1_000_000_000 + int((fraction or b"0").ljust(9, b"0"))


class _Seen:
    """How far one stream has been read: the last stamp, and how many messages had it."""

    __slots__ = ("again", "count", "limit", "mark", "owed", "piece", "skip", "stamp")

    def __init__(self) -> None:
        self.stamp = b""
        self.count = 0
        self.again = False
        """Messages before `limit` have been seen, and so have the first `skip` of that stamp."""
        self.limit = 0
        self.mark = b""
        """The stamp of `limit`."""
        self.skip = 0
        self.piece = b""
        """The stamp of a line in pieces that has not ended."""
        self.owed = False
        """Whether what came last was the end of one, and had no newline."""

    def mended(self, stamp: bytes, text: bytes) -> bytes:
        """The text, after the newline that was forgotten before it."""
        before, self.owed = self.owed, False
        if text.endswith(b"\n"):
            self.piece = b""
        elif len(text) == _PIECE:
            self.piece = stamp
        else:
            self.owed = bool(self.piece) and self.piece == stamp
            self.piece = b""
        return b"\n" + text if before else text

    def begin(self) -> None:
        self.again = bool(self.stamp)
        if self.again:
            self.limit, self.mark = nanoseconds(self.stamp), self.stamp
            self.skip = self.count

    def is_old(self, stamp: bytes) -> bool:
        """While reading again: whether this message has been seen."""
        mark = self.mark
        if len(stamp) == len(mark) and stamp[-1:] == mark[-1:] == b"Z" and stamp < mark:
            return True  # as texts, which is quick: many lines are seen again
        at = nanoseconds(stamp)
        if at < self.limit:
            return True
        if at > self.limit:
            self.again = False
            return False
        if self.skip:
            self.skip -= 1
            return True
        return False

    def note(self, stamp: bytes) -> None:
        if stamp == self.stamp:
            self.count += 1
        else:
            self.stamp, self.count = stamp, 1


class LogFrames:
    """Reads the log stream of one container, over any number of connections.

    `log(stream, data)` gets each byte of output once and in order. Before each connection ask
    `since` for the time to begin at, and call `begin`.
    """

    def __init__(self, log: Callable[[Literal["stdout", "stderr"], bytes], None]) -> None:
        self._log = log
        self._rest = b""
        self._seen = {1: _Seen(), 2: _Seen()}

    @property
    def since(self) -> str:
        """Where to go on, as the daemon takes it: seconds with a fraction; "0" at the start."""
        stamps = [nanoseconds(seen.stamp) for seen in self._seen.values() if seen.stamp]
        if not stamps:
            return "0"
        at = max(0, min(stamps) - _OVERLAP)
        return f"{at // 1_000_000_000}.{at % 1_000_000_000:09}"

    def begin(self) -> None:
        """A new connection: what it tells again is left out."""
        self._rest = b""
        for seen in self._seen.values():
            seen.begin()

    @property
    def torn(self) -> bool:
        """Whether what came so far ends in the middle of a message."""
        return bool(self._rest)

    @property
    def unfinished(self) -> bool:
        """Whether `finish` has something to pass on."""
        return any(seen.owed for seen in self._seen.values())

    def finish(self) -> None:
        """All has been read: put back what is owed."""
        for number, seen in self._seen.items():
            if seen.owed:
                seen.owed = False
                self._log(_STREAMS[number], b"\n")

    def feed(self, data: bytes) -> None:
        """Take the next bytes of the stream; BadFrames where they are none."""
        data = self._rest + data if self._rest else data
        at, size = 0, len(data)
        ready: list[bytes] = []
        current = 0
        while size - at >= 8:
            number, length = _HEAD.unpack_from(data, at)
            if number not in _STREAMS:
                message = f"not the head of a log frame: {data[at : at + 8]!r}"
                raise BadFrames(message)
            end = at + 8 + length
            if end > size:
                break
            text = self._text(number, data[at + 8 : end])
            at = end
            if text is None:
                continue
            if number != current:
                self._pass_on(current, ready)
                current = number
            ready.append(text)
        self._pass_on(current, ready)
        self._rest = data[at:]

    def _text(self, number: int, message: bytes) -> bytes | None:
        stamp, _, text = message.partition(b" ")
        seen = self._seen[number]
        if seen.again and seen.is_old(stamp):
            return None
        seen.note(stamp)
        return seen.mended(stamp, text)

    def _pass_on(self, number: int, ready: list[bytes]) -> None:
        if ready:
            self._log(_STREAMS[number], b"".join(ready))
            ready.clear()
