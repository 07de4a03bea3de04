"""Words: how durations, times, counts, tables and colours look.

Rule of this room: pure text in, text out; no rich, no I/O, nothing of the engine.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Final, Literal

Style = Literal["green", "red", "yellow", "dim", "bold", "cyan", "plain"]

_CODES: Final[dict[str, str]] = {
    "green": "32",
    "red": "31",
    "yellow": "33",
    "cyan": "36",
    "dim": "2",
    "bold": "1",
}
STATUS_STYLE: Final[dict[str, Style]] = {
    "succeeded": "green",
    "failed": "red",
    "lost": "red",
    "cancelled": "yellow",
    "interrupted": "yellow",
    "running": "cyan",
    "cached": "green",
    "skipped": "dim",
    "waiting": "dim",
}
TIMES: Final = "\N{MULTIPLICATION SIGN}"
"""Before a count: three of them."""
_MINUTE: Final = 60.0
_HOUR: Final = 3600.0
_DAY: Final = 86400.0


def paint(text: str, style: Style, *, colour: bool) -> str:
    """`text` in a terminal's colours where `colour` says so."""
    code = _CODES.get(style)
    return f"\x1b[{code}m{text}\x1b[0m" if colour and code and text else text


def took(seconds: float) -> str:
    """A duration for people: `3 ms`, `1.2 s`, `2 min 5 s`, `1 h 3 min`."""
    seconds = max(seconds, 0.0)
    if seconds < 0.0005:
        return "<1 ms"
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < _MINUTE - 0.5:
        return f"{seconds:.0f} s"
    if seconds < _HOUR - 0.5:
        minutes, rest = divmod(round(seconds), 60)
        return f"{minutes} min {rest} s" if rest else f"{minutes} min"
    hours, rest = divmod(round(seconds / _MINUTE), 60)
    return f"{hours} h {rest} min" if rest else f"{hours} h"


def when(moment: float, now: float | None = None) -> str:
    """How long ago, for a list: `just now`, `5 min ago`, `3 h ago`, then the local date."""
    age = (time.time() if now is None else now) - moment
    if age < 10:
        return "just now"
    if age < _MINUTE:
        return f"{age:.0f} s ago"
    if age < _HOUR:
        return f"{age / _MINUTE:.0f} min ago"
    if age < _DAY:
        return f"{age / _HOUR:.0f} h ago"
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(moment))


def clock(moment: float) -> str:
    """Local date and time of day, to the second."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(moment))


def counted(number: int, thing: str) -> str:
    """`1 node`, `3 nodes`, `12,000 nodes`."""
    return f"{number:,} {thing}" if number == 1 else f"{number:,} {thing}s"


def amount(size: int) -> str:
    """A number of bytes for people: `17 bytes`, `12 KiB`, `3.4 MiB`."""
    if size < 1024:
        return counted(size, "byte")
    number = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        number /= 1024
        if number < 1000 or unit == "GiB":
            break
    return f"{number:,.1f} {unit}" if number < 10 else f"{number:,.0f} {unit}"


def times(number: int) -> str:
    """`x6`: so many instances of a node, with the proper sign where stderr can show it."""
    encoding = (getattr(sys.stderr, "encoding", "") or "").lower()
    return f"{TIMES if encoding.startswith('utf') else 'x'}{number:,}"


def short(path: str) -> str:
    """A path, or a target that begins with one, relative to the current folder where inside."""
    here = os.path.join(os.getcwd(), "")  # noqa: PTH109, PTH118 - texts, not files
    return path.removeprefix(here)


def inside(text: str) -> str:
    """`text` with paths below the current folder shortened to what they are seen from here."""
    return text.replace(os.path.join(os.getcwd(), ""), "")  # noqa: PTH109, PTH118 - texts


def some(names: Sequence[str], most: int = 6, between: str = ", ") -> str:
    """At most `most` names, and how many more there are."""
    if len(names) <= most:
        return between.join(names)
    return between.join(names[:most]) + f" and {len(names) - most:,} more"


def columns(rows: Iterable[Sequence[str]], indent: str = "") -> list[str]:
    """Rows as aligned lines, two blanks between columns, nothing behind the last word."""
    table = [list(row) for row in rows]
    if not table:
        return []
    widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
    return [
        indent
        + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in table
    ]


def cut(text: str, width: int) -> str:
    """`text` in one line of at most `width` characters."""
    line = " ".join(text.split())
    return line if len(line) <= width else line[: max(width - 3, 1)] + "..."
