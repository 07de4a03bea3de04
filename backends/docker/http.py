"""One answer of the Docker daemon, byte by byte: HTTP/1.1 with a chunked or a closed body.

Log streams are read past aiohttp, in a thread of their own (see `pump.py`), so this is what is
needed of HTTP and no more: a request, its answer, and whether the connection can have another.

Rule of this room: bytes in, bytes out; no sockets.
"""

from __future__ import annotations

from typing import Final

_HEAD_LIMIT: Final = 64 * 1024
_END: Final = b"\r\n\r\n"


class BadAnswer(Exception):
    """What came is no HTTP answer."""


def get(target: str, *, bare: bool = False) -> bytes:
    """The request for `target`.

    `bare`: the body comes without chunks, of which a daemon makes one for each line of output; so
    it costs half as much to read, and nobody can know whether it is whole. The daemon closes the
    connection after it.
    """
    version = "1.0" if bare else "1.1"
    return f"GET {target} HTTP/{version}\r\nHost: docker\r\nUser-Agent: onready\r\n\r\n".encode()


class Answer:
    """Feed it what arrives; it gives the body.

    `status` is 0 until the head is there. `ended`: the body is whole, and this is certain: its
    last chunk or its last byte was there. A connection that closes before that has broken.
    `reusable`: so is its end, and the daemon waits for another request.
    """

    def __init__(self) -> None:
        self.status = 0
        self.ended = False
        self.reusable = False
        self._stays = False
        self._rest = b""
        self._chunked = False
        self._left = 0
        """Bytes of the chunk, or of the body, that have not come."""
        self._in_chunk = False

    def feed(self, data: bytes) -> bytes:
        """The bytes of the body that `data` completes; BadAnswer for what is none."""
        data = self._rest + data if self._rest else data
        self._rest = b""
        if not self.status:
            head, found, data = data.partition(_END)
            if not found:
                if len(head) > _HEAD_LIMIT:
                    message = "the answer's head has no end"
                    raise BadAnswer(message)
                self._rest = head
                return b""
            self._read_head(head)
        return b"".join(self._chunks(data)) if self._chunked else self._plain(data)

    def _read_head(self, head: bytes) -> None:
        first, *lines = head.split(b"\r\n")
        words = first.split(b" ", 2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
            message = f"not an answer in HTTP: {first[:80]!r}"
            raise BadAnswer(message)
        fields = {
            name.strip().lower(): value.strip().lower()
            for name, _, value in (line.partition(b":") for line in lines)
        }
        self._stays = words[0] == b"HTTP/1.1" and fields.get(b"connection", b"") != b"close"
        self._chunked = fields.get(b"transfer-encoding", b"") == b"chunked"
        length = fields.get(b"content-length", b"")
        self._left = int(length) if length.isdigit() else 0 if self._chunked else -1
        self.status = int(words[1])
        self.ended = not self._chunked and self._left == 0

    def _plain(self, data: bytes) -> bytes:
        if self._left >= 0:
            more = len(data) > self._left
            data = data[: self._left]
            self._left -= len(data)
            self.ended = self._left == 0
            self.reusable = self.ended and self._stays and not more
        return data

    def _chunks(self, data: bytes) -> list[bytes]:
        parts: list[bytes] = []
        at, size = 0, len(data)
        while at < size and not self.ended:
            if self._left:
                part = data[at : at + self._left]
                at += len(part)
                self._left -= len(part)
                parts.append(part)
                continue
            line = data.find(b"\r\n", at + 2 if self._in_chunk else at)
            if line < 0:
                if size - at > _HEAD_LIMIT:
                    message = "a chunk's head has no end"
                    raise BadAnswer(message)
                self._rest = data[at:]
                break
            # After a chunk comes an empty line, then the length of the next one.
            text = data[at:line].strip().partition(b";")[0]
            try:
                self._left = int(text, 16)
            except ValueError:
                message = f"not the length of a chunk: {text[:80]!r}"
                raise BadAnswer(message) from None
            self.ended = self._left == 0
            self._in_chunk = True
            at = line + 2
        self.reusable = self.ended and self._stays and data[at:] == b"\r\n"
        return parts
