"""The log stream as bytes: cut anywhere, broken anywhere, gone on with: each byte once, in order."""

from __future__ import annotations

import random
import struct
from datetime import UTC, datetime
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onready.backends.docker.frames import BadFrames, LogFrames, nanoseconds
from onready.backends.docker.http import Answer, BadAnswer

Stream = Literal["stdout", "stderr"]
SECOND = 1_000_000_000
BEGIN = 1_790_000_000 * SECOND


def stamp(at: int) -> bytes:
    seconds, rest = divmod(at, SECOND)
    when = datetime.fromtimestamp(seconds, UTC)
    return f"{when:%Y-%m-%dT%H:%M:%S}.{rest:09}Z".encode()


def frame(stream: int, at: int, data: bytes) -> bytes:
    message = stamp(at) + b" " + data
    return struct.pack(">BxxxI", stream, len(message)) + message


class Kept:
    """What came out, by stream."""

    def __init__(self) -> None:
        self.parts: dict[Stream, bytes] = {"stdout": b"", "stderr": b""}

    def log(self, stream: Stream, data: bytes) -> None:
        self.parts[stream] += data


class Daemon:
    """Messages as a daemon keeps them: the streams' stamps rise apart, not together."""

    def __init__(self, seed: int, count: int) -> None:
        chance = random.Random(seed)
        clock = {1: BEGIN, 2: BEGIN}
        self.messages: list[tuple[int, int, bytes]] = []
        for number in range(count):
            stream = chance.choice((1, 2))
            # Parts of a long line have one stamp; otherwise time goes on, a little or a lot.
            clock[stream] += chance.choice((0, 0, 1, 900, 40_000_000, SECOND // 2))
            later = max(clock.values()) - SECOND
            clock[stream] = max(clock[stream], later)
            ending = chance.choice((b"\n", b"", b"\xff"))
            self.messages.append((stream, clock[stream], b"%d %d" % (stream, number) + ending))

    def stream(self, since: str) -> bytes:
        """What it sends for this `since`."""
        seconds, _, fraction = since.partition(".")
        begin = int(seconds) * SECOND + int(fraction.ljust(9, "0") or "0")
        return b"".join(frame(*one) for one in self.messages if one[1] >= begin)

    def whole(self) -> dict[Stream, bytes]:
        return {
            "stdout": b"".join(data for stream, _, data in self.messages if stream == 1),
            "stderr": b"".join(data for stream, _, data in self.messages if stream == 2),
        }


def test_streams_that_break_anywhere_give_each_byte_once() -> None:
    for seed in range(500):
        _broken(seed)


def _broken(seed: int) -> None:
    chance = random.Random(seed)
    daemon = Daemon(seed, 60)
    kept = Kept()
    frames = LogFrames(kept.log)
    for _ in range(chance.randint(0, 5)):
        data = daemon.stream(frames.since)
        frames.begin()
        broken = data[: chance.randint(0, len(data))]
        for at in range(0, len(broken), 50):
            frames.feed(broken[at : at + 50])
    data = daemon.stream(frames.since)
    frames.begin()
    frames.feed(data)
    assert kept.parts == daemon.whole(), f"seed {seed}"


def test_what_is_no_frame_is_refused() -> None:
    frames = LogFrames(Kept().log)
    frames.begin()
    with pytest.raises(BadFrames, match="not the head of a log frame"):
        frames.feed(b"this is not a frame")
    with pytest.raises(BadFrames, match="not a time stamp"):
        nanoseconds(b"yesterday")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"1970-01-01T00:00:01Z", SECOND),
        (b"1970-01-01T00:00:01.5Z", SECOND + SECOND // 2),
        (b"1970-01-01T01:00:01.000000007+01:00", SECOND + 7),
    ],
)
def test_stamps_of_other_engines_are_read(text: bytes, expected: int) -> None:
    assert nanoseconds(text) == expected


@given(
    st.lists(st.binary(min_size=1, max_size=300), max_size=8),
    st.lists(st.integers(1, 40), min_size=1, max_size=20),
)
def test_a_chunked_answer_may_be_cut_anywhere(parts: list[bytes], cuts: list[int]) -> None:
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    data = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n" + body
    answer = Answer()
    got, at, turn = b"", 0, 0
    while at < len(data) and not answer.ended:
        size = cuts[turn % len(cuts)]
        got += answer.feed(data[at : at + size])
        at += size
        turn += 1
    assert (answer.status, answer.ended, got) == (200, True, b"".join(parts))


def test_an_answer_with_a_length_and_one_without() -> None:
    answer = Answer()
    got = answer.feed(b"HTTP/1.1 404 Not Found\r\nContent-Length: 4\r\n\r\ngon")
    assert (got, answer.ended) == (b"gon", False)
    assert (answer.feed(b"e!"), answer.ended, answer.status) == (b"e", True, 404)
    answer = Answer()
    assert answer.feed(b"HTTP/1.0 200 OK\r\n\r\nall") == b"all"
    assert not answer.ended, "nobody said that this was all"


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"


@pytest.mark.parametrize(
    ("data", "reusable"),
    [
        (CHUNKED + b"2\r\nhi\r\n0\r\n\r\n", True),
        (CHUNKED + b"0\r\n\r\n", True),
        # The rest may come yet, and would be taken for the next answer.
        (CHUNKED + b"2\r\nhi\r\n0\r\n", False),
        (CHUNKED + b"2\r\nhi\r\n0\r\nTrailer: 1\r\n\r\n", False),
        (CHUNKED + b"2\r\nhi\r\n", False),
        (CHUNKED.replace(b"OK", b"OK\r\nConnection: close") + b"0\r\n\r\n", False),
        (CHUNKED.replace(b"1.1", b"1.0") + b"0\r\n\r\n", False),
        (PLAIN + b"\r\nhi", True),
        (PLAIN + b"\r\nh", False),
        (PLAIN + b"\r\nhi!", False),
        (PLAIN.replace(b"2", b"0") + b"\r\n", True),
        (PLAIN + b"Connection: close\r\n\r\nhi", False),
    ],
)
def test_whether_a_connection_can_have_another_request(data: bytes, *, reusable: bool) -> None:
    answer = Answer()
    answer.feed(data)
    assert answer.reusable is reusable


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"x" * 70_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 70_000,
    ],
)
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    with pytest.raises(BadAnswer):
        Answer().feed(data)


def test_the_newline_of_a_line_in_pieces_is_put_back() -> None:
    kept = Kept()
    frames = LogFrames(kept.log)
    frames.begin()
    whole = b"x" * 16384
    for at, text in ((1, whole), (1, whole), (1, b"end"), (2, b"next\n"), (3, whole), (3, b"")):
        frames.feed(frame(1, BEGIN + at, text))
    frames.feed(frame(2, BEGIN + 4, b"no newline, and none is owed"))
    assert frames.unfinished
    frames.finish()
    assert kept.parts["stdout"] == 2 * whole + b"end\nnext\n" + whole + b"\n"
    assert kept.parts["stderr"] == b"no newline, and none is owed"
    assert not frames.unfinished
