"""A DAG as rows of text with lines between them, in the way of `git log --graph`.

Every row is one item. A lane runs down from each item to the last one that needs it:

    ●      load
    ├─●    fit
    ├─│─●  check
    ●─┴─┘  report

Rule of this room: text only; knows items by number, and nothing of plans.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

MARK: Final = "●"
_DOWN, _OFF, _END, _ACROSS, _FLAT, _GAP = "│", "├", "└", "┼", "─", " "
_FREE: Final = -1
"""A lane that no item holds."""


@dataclass(slots=True)
class Row:
    """One item: the drawing of its row, and the lanes that go on below it."""

    item: int
    lines: str
    below: str


def rows(order: Sequence[int], needs: Sequence[Sequence[int]]) -> Iterator[Row]:
    """The rows for the items in `order` (topological); `needs[i]` are the items i waits for."""
    last: dict[int, int] = {}
    for at, item in enumerate(order):
        for need in needs[item]:
            last[need] = at
    lanes: list[int] = []
    for at, item in enumerate(order):
        needed = set(needs[item])
        wanted = [column for column, lane in enumerate(lanes) if lane in needed]
        ending = [column for column in wanted if last[lanes[column]] == at]
        own = _column(lanes, wanted, ending)
        lines = _draw(lanes, wanted, set(ending), own)
        for column in ending:
            lanes[column] = _FREE
        if own == len(lanes):
            lanes.append(_FREE)
        lanes[own] = item if item in last else _FREE
        while lanes and lanes[-1] == _FREE:
            lanes.pop()
        below = _GAP.join(_GAP if lane == _FREE else _DOWN for lane in lanes)
        yield Row(item, lines, below)


def _column(lanes: list[int], wanted: list[int], ending: list[int]) -> int:
    """Where the item goes: on a lane that ends in it, else the first free one to the right."""
    if ending:
        return ending[0]
    start = wanted[0] + 1 if wanted else 0
    for column in range(start, len(lanes)):
        if lanes[column] == _FREE:
            return column
    return len(lanes)


def _draw(lanes: list[int], wanted: list[int], ending: set[int], own: int) -> str:
    left, right = min([own, *wanted]), max([own, *wanted])
    cells: list[str] = []
    for column in range(max(len(lanes), own + 1)):
        inside = left <= column <= right
        if column == own:
            cell = MARK
        elif column in wanted:
            cell = _joint(column, left, right, ends=column in ending)
        elif column < len(lanes) and lanes[column] != _FREE:
            cell = _DOWN  # a line that passes under it does not touch it
        else:
            cell = _FLAT if inside else _GAP
        cells.append(cell)
        cells.append(_FLAT if left <= column < right else _GAP)
    return "".join(cells).rstrip()


def _joint(column: int, left: int, right: int, *, ends: bool) -> str:
    """A lane that the item takes from: it ends here, or goes on below."""
    if column == left:
        return _END if ends else _OFF
    if column == right:
        return "┘" if ends else "┤"
    return "┴" if ends else _ACROSS
