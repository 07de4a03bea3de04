"""The bytes of a segment: its header, its records, and what is wrong where they are damaged.

    segment   header record record ...
    header    magic, version, size, crc; epoch, serial, parent's epoch and serial, first, crc
    record    magic, version, serial, length, first, last, epoch, crc of the body, own crc; body

All numbers are little-endian; a crc is CRC-32 as zlib has it. The second crc of a header and the
crc of a record's head are salted with the run's id, so that what was copied from another run is
not taken for this one's. The first twelve bytes of a segment are the same in all versions: a newer
segment is told apart from a damaged one.

Rule of this room: pure functions over bytes; no file is opened here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final
from zlib import crc32

VERSION: Final = 1
"""Of the format; a segment of a higher version is refused."""

MAGIC: Final = b"onrS"
RECORD: Final = b"onrR"

_START: Final = struct.Struct("<4sHHI")
_REST: Final = struct.Struct("<QIQIQI")
_HEAD: Final = struct.Struct("<4sHIIQQQII")
HEADER: Final = _START.size + _REST.size
HEAD: Final = _HEAD.size
LONGEST: Final = 2**32 - 1
"""Bytes that the body of one record may have."""


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Which segment: the epoch that wrote it, and its number in that epoch, from 1."""

    epoch: int
    serial: int

    @property
    def name(self) -> str:
        """Its file's name; names sort as places do."""
        return f"{self.epoch:012d}-{self.serial:06d}.log"


def place_of(name: str) -> Place | None:
    """The inverse of `Place.name`; None for other files."""
    stem, dot, rest = name.partition(".")
    epoch, dash, serial = stem.partition("-")
    if not (dot and dash and rest == "log" and epoch.isdecimal() and serial.isdecimal()):
        return None
    place = Place(int(epoch), int(serial))
    return place if place.name == name else None


@dataclass(frozen=True, slots=True)
class Header:
    """What a segment says of itself: it goes on at event `first`, after those of `parent`.

    Events of the parent from `first` on are no part of the history: whoever wrote them had lost
    the run, and was told so. None for the parent of a run's beginning.
    """

    place: Place
    parent: Place | None
    first: int


@dataclass(frozen=True, slots=True)
class Head:
    """One record's head: events `first` to `last`, in `length` bytes that follow it."""

    place: Place
    first: int
    last: int
    length: int
    check: int

    @property
    def size(self) -> int:
        """Bytes of the whole record."""
        return HEAD + self.length


class Newer(ValueError):
    """A segment of a version that this release does not know."""


def encode_header(run: str, header: Header) -> bytes:
    """The first bytes of a segment."""
    start = struct.pack("<4sHH", MAGIC, VERSION, HEADER)
    start += struct.pack("<I", crc32(start))
    parent = header.parent or Place(0, 0)
    rest = struct.pack(
        "<QIQIQ",
        header.place.epoch,
        header.place.serial,
        parent.epoch,
        parent.serial,
        header.first,
    )
    return start + rest + struct.pack("<I", _salted(run, start + rest))


def decode_header(run: str, data: bytes) -> Header | None:
    """The header; None where its writing was broken off. ValueError for damage, or `Newer`."""
    if not data.strip(b"\0"):
        return None
    if len(data) >= _START.size:
        magic, version, _, check = _START.unpack_from(data)
        if magic != MAGIC or check != crc32(data[: _START.size - 4]):
            message = "its header is damaged"
            raise ValueError(message)
        if version > VERSION:
            message = (
                f"it has format {version}, this release of onready reads up to {VERSION}: "
                "upgrade onready"
            )
            raise Newer(message)
    if len(data) < HEADER:
        return None
    epoch, serial, before, number, first, check = _REST.unpack_from(data, _START.size)
    if check != _salted(run, data[: HEADER - 4]):
        message = "its header is damaged"
        raise ValueError(message)
    parent = Place(before, number) if number else None
    return Header(Place(epoch, serial), parent, first)


def encode_record(run: str, place: Place, first: int, last: int, body: bytes) -> bytes:
    """One record: all of its events, or none, whatever happens to the machine."""
    head = struct.pack(
        "<4sHIIQQQI",
        RECORD,
        VERSION,
        place.serial,
        len(body),
        first,
        last,
        place.epoch,
        crc32(body),
    )
    return b"".join((head, struct.pack("<I", _salted(run, head)), body))


def decode_head(run: str, data: bytes, at: int = 0) -> Head | None:
    """The head of the record at `at`; None where there is none that is whole."""
    if len(data) - at < HEAD:
        return None
    magic, version, serial, length, first, last, epoch, check, own = _HEAD.unpack_from(data, at)
    if magic != RECORD or own != _salted(run, data[at : at + HEAD - 4]):
        return None
    if version != VERSION or not 0 < first <= last:
        return None
    return Head(Place(epoch, serial), first, last, length, check)


def sound(head: Head, body: bytes) -> bool:
    """Whether `body` is what was written after `head`."""
    return len(body) == head.length and crc32(body) == head.check


def any_head(run: str, data: bytes) -> bool:
    """Whether a record begins somewhere in `data`."""
    at = data.find(RECORD)
    while at >= 0:
        if decode_head(run, data, at) is not None:
            return True
        at = data.find(RECORD, at + 1)
    return False


def _salted(run: str, data: bytes) -> int:
    return crc32(data, crc32(run.encode()))
