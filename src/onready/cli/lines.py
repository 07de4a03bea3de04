"""The lines of a run: one per node, a map or a repeat being one line with a count.

Rule of this room: rows of the board in, text out.
"""

from __future__ import annotations

from typing import Final

from onready.cli.board import Board, Row
from onready.cli.words import STATUS_STYLE, Style, counted, cut, times, took

MARKS: Final = {
    "failed": "x",
    "lost": "x",
    "cancelled": "-",
    "skipped": "-",
    "running": ">",
    "waiting": " ",
}
NAME_WIDTH: Final = 44


def mark_of(row: Row, tick: str) -> tuple[str, Style]:
    """The sign before a row and its colour."""
    status = row.status
    return MARKS.get(status, tick), STATUS_STYLE[status]


def label(row: Row) -> str:
    """Name and number of instances, of a repeat the number of iterations: `greet x6`."""
    if row.repeats:
        return f"{row.name} {times(row.rounds)}" if row.rounds else row.name
    if not row.many:
        return row.name
    total = (row.total if row.total is not None else row.done) - row.passed
    return f"{row.name} {times(total)}"


def width_of(board: Board) -> int:
    """Room that the names need, the counts of maps included."""
    widths = (len(label(row)) + (4 if row.total is None else 1) for row in board.shown())
    return min(max(widths, default=1), NAME_WIDTH)


def detail(row: Row) -> str:
    """What else there is to say of a row that has ended."""
    parts: list[str] = []
    counts = dict(row.counts)
    if row.many and row.passed:
        counts["skipped"] -= row.passed
    bad = {word: count for word, count in counts.items() if count and word != "succeeded"}
    if row.many:
        if bad:
            parts.extend(f"{count:,} {word}" for word, count in counts.items() if count)
        open_rows = (row.total or 0) - row.done
        if bad and open_rows > 0:
            parts.append(f"{open_rows:,} not started")
    else:
        parts.extend(bad)
        if not row.done and row.status == "waiting":
            parts.append("not started")
    text = ", ".join(parts)
    if row.reason and (row.counts.get("skipped") or row.reason == "rescued"):
        text = f"{text} ({cut(row.reason, 60)})" if text else cut(row.reason, 60)
    return ", ".join([*([text] if text else []), *_repeated(row)])


def _repeated(row: Row) -> list[str]:
    parts: list[str] = []
    if row.retries:
        parts.append("1 retry" if row.retries == 1 else f"{row.retries:,} retries")
    if row.again:
        parts.append("run again" if row.again == 1 else f"{row.again:,} run again")
    return parts


def duration(row: Row) -> str:
    """Wall time of a row, nothing where it never ran."""
    ran = row.began is not None and row.took is not None
    return took(row.took or 0.0) if ran else ""


def summary(board: Board) -> str:
    """The last line of a run that succeeded: how long, how many, how parallel."""
    elapsed = board.elapsed
    parts = [f"{counted(board.done, 'node')} in {took(elapsed)}"]
    if board.segments:
        parts.append(f"{board.segments[-1].kept:,} kept")
    if board.busy > elapsed * 1.2:
        parts.append(f"{took(board.busy)} of work")
    if cached := board.count("cached"):
        parts.append(f"{cached:,} from the cache")
    return ", ".join(parts)
