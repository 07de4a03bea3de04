"""Small values that JSON has no form for, one tag each: of the standard library, and `Failure`.

Rule of this room: two tables, by exact type and by tag; nothing here holds other values.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from fractions import Fraction
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from pathlib import PurePosixPath, PureWindowsPath
from re import Pattern
from re import compile as compile_pattern
from typing import Any, Final
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec

from onready.engine.errors import Failure
from onready.engine.values.misfit import no_codec


def _bytes(value: bytes | bytearray) -> str:
    return base64.b64encode(value).decode()


def _view(value: memoryview) -> str:
    if value.format != "B" or value.ndim != 1:
        raise no_codec(memoryview, "only views of single bytes")
    return base64.b64encode(value).decode()


def _zone(zone: tzinfo | None, moment: datetime | time) -> object:
    """None, seconds east of UTC with microseconds and name, or the key of a time zone."""
    if isinstance(zone, ZoneInfo) and zone.key:
        return zone.key
    offset = moment.utcoffset()
    if zone is None:
        return None
    if offset is None:
        raise no_codec(type(zone), "a time zone without an offset or a key")
    name = zone.tzname(None) if type(zone) is timezone else None
    plain = timezone(offset).tzname(None)
    return [offset.days, offset.seconds, offset.microseconds, None if name == plain else name]


def _read_zone(content: Any) -> tzinfo | None:
    if content is None:
        return None
    if isinstance(content, str):
        return ZoneInfo(content)
    days, seconds, micros, name = content
    offset = timedelta(days, seconds, micros)
    if name is None:
        return timezone(offset) if offset else UTC
    return timezone(offset, name)


def _datetime(value: datetime) -> object:
    return [value.replace(tzinfo=None).isoformat(), _zone(value.tzinfo, value), value.fold]


def _read_datetime(content: Any) -> datetime:
    text, zone, fold = content
    return datetime.fromisoformat(text).replace(tzinfo=_read_zone(zone), fold=fold)


def _time(value: time) -> object:
    return [value.replace(tzinfo=None).isoformat(), _zone(value.tzinfo, value), value.fold]


def _read_time(content: Any) -> time:
    text, zone, fold = content
    return time.fromisoformat(text).replace(tzinfo=_read_zone(zone), fold=fold)


def _read_float(content: Any) -> float:
    return float(content)


WRITERS: Final[dict[type, Callable[[Any], tuple[str, object]]]] = {
    bytes: lambda value: ("bytes", _bytes(value)),
    bytearray: lambda value: ("bytearray", _bytes(value)),
    memoryview: lambda value: ("memoryview", _view(value)),
    datetime: lambda value: ("datetime", _datetime(value)),
    date: lambda value: ("date", value.isoformat()),
    time: lambda value: ("time", _time(value)),
    timedelta: lambda value: ("timedelta", [value.days, value.seconds, value.microseconds]),
    timezone: lambda value: ("timezone", _zone(value, datetime(2000, 1, 1, tzinfo=value))),
    ZoneInfo: lambda value: ("timezone", _zone(value, datetime(2000, 1, 1, tzinfo=value))),
    Decimal: lambda value: ("decimal", str(value)),
    Fraction: lambda value: ("fraction", [hex(value.numerator), hex(value.denominator)]),
    complex: lambda value: ("complex", [repr(value.real), repr(value.imag)]),
    UUID: lambda value: ("uuid", str(value)),
    range: lambda value: ("range", [hex(value.start), hex(value.stop), hex(value.step)]),
    PurePosixPath: lambda value: ("posixpath", _text(str(value))),
    PureWindowsPath: lambda value: ("windowspath", _text(str(value))),
    Pattern: lambda value: ("pattern", _pattern(value)),
    Failure: lambda value: ("failure", msgspec.to_builtins(value)),
    **{
        kind: lambda value: ("ip", [type(value).__name__, str(value)])
        for kind in (
            IPv4Address,
            IPv4Interface,
            IPv4Network,
            IPv6Address,
            IPv6Interface,
            IPv6Network,
        )
    },
}


def _text(value: str) -> str:
    return base64.b64encode(value.encode("utf-8", "surrogatepass")).decode()


def _read_text(content: Any) -> str:
    return base64.b64decode(content).decode("utf-8", "surrogatepass")


def _pattern(value: Pattern[Any]) -> object:
    is_text = isinstance(value.pattern, str)
    content = _text(value.pattern) if is_text else _bytes(value.pattern)
    return [is_text, content, value.flags]


def _read_pattern(content: Any) -> Pattern[Any]:
    is_text, pattern, flags = content
    return compile_pattern(_read_text(pattern) if is_text else base64.b64decode(pattern), flags)


_ADDRESSES: Final[dict[str, type]] = {
    kind.__name__: kind
    for kind in (
        IPv4Address,
        IPv4Interface,
        IPv4Network,
        IPv6Address,
        IPv6Interface,
        IPv6Network,
    )
}

READERS: Final[dict[str, Callable[[Any], object]]] = {
    "int": lambda content: int(content, 16),
    "float": _read_float,
    "str": _read_text,
    "bytes": base64.b64decode,
    "bytearray": lambda content: bytearray(base64.b64decode(content)),
    "memoryview": lambda content: memoryview(base64.b64decode(content)),
    "datetime": _read_datetime,
    "date": date.fromisoformat,
    "time": _read_time,
    "timedelta": lambda content: timedelta(*content),
    "timezone": _read_zone,
    "decimal": Decimal,
    "fraction": lambda content: Fraction(*(int(part, 16) for part in content)),
    "complex": lambda content: complex(*map(float, content)),
    "uuid": UUID,
    "range": lambda content: range(*(int(part, 16) for part in content)),
    "posixpath": lambda content: PurePosixPath(_read_text(content)),
    "windowspath": lambda content: PureWindowsPath(_read_text(content)),
    "pattern": _read_pattern,
    "failure": lambda content: msgspec.convert(content, Failure),
    "ip": lambda content: _ADDRESSES[content[0]](content[1]),
}
