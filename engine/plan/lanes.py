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
    lanes: list[int | None] = []
    for at, item in enumerate(order):
        wanted = [column for column, lane in enumerate(lanes) if lane in set(needs[item])]
        ending = [column for column in wanted if last[_lane(lanes, column)] == at]
        own = _column(lanes, wanted, ending)
        lines = _draw(lanes, wanted, set(ending), own)
        for column in ending:
            lanes[column] = None
        if own == len(lanes):
            lanes.append(None)
        lanes[own] = item if item in last else None
        while lanes and lanes[-1] is None:
            lanes.pop()
        below = _GAP.join(_GAP if lane is None else _DOWN for lane in lanes)
        yield Row(item, lines, below)


def _lane(lanes: list[int | None], column: int) -> int:
    item = lanes[column]
    assert item is not None  # a wanted column has its item
    return item


def _column(lanes: list[int | None], wanted: list[int], ending: list[int]) -> int:
    """Where the item goes: on a lane that ends in it, else the first free one to the right."""
    if ending:
        return ending[0]
    start = wanted[0] + 1 if wanted else 0
    for column in range(start, len(lanes)):
        if lanes[column] is None:
            return column
    return len(lanes)


def _draw(lanes: list[int | None], wanted: list[int], ending: set[int], own: int) -> str:
    left, right = min([own, *wanted]), max([own, *wanted])
    cells: list[str] = []
    for column in range(max(len(lanes), own + 1)):
        inside = left <= column <= right
        if column == own:
            cell = MARK
        elif column in wanted:
            cell = _joint(column, left, right, ends=column in ending)
        elif column < len(lanes) and lanes[column] is not None:
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
