"""Progress on stderr while a run goes on: a live picture on a terminal, plain lines in a pipe.

Rule of this room: looks at the board and writes; rich is imported only when a run lasts long
enough for somebody to look at it.
"""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self, cast

from onready.cli.board import Board, Row, path_of
from onready.cli.console import Console
from onready.cli.lines import detail, duration, label, mark_of, width_of
from onready.cli.words import counted, cut
from onready.engine.events import AnyEvent, NodeCached, NodeSucceeded, RunResumed, ScopeClosed

if TYPE_CHECKING:
    from rich.live import Live

_ENDS: Final = (NodeSucceeded, NodeCached, ScopeClosed)
PATIENCE: Final = 0.15
"""Seconds before the live picture appears: a run that is over by then shows its lines alone."""
PERIOD: Final = 0.1
"""Seconds between two pictures."""
QUIET_PERIOD: Final = 15.0
"""Seconds of silence in a pipe after which a line says how far the run is."""
MOST_LINES: Final = 60
"""Rows up to which each node has its own line; of a wider graph only the troubled ones do."""


class Progress:
    """Shows one run. Use as an async context manager around driving it."""

    def __init__(self, console: Console, board: Board) -> None:
        self.console = console
        self.board = board
        self.note = ""
        """What happens beside the nodes: said in the live picture's last line."""
        self._shown: set[tuple[str, ...]] = set()
        self._task: asyncio.Task[None] | None = None
        self._live: Live | None = None
        self._width = width_of(board)
        self._spoke = time.monotonic()

    async def __aenter__(self) -> Self:
        if not self.console.quiet:
            ticking = self._picture() if self.console.live else self._heartbeat()
            self._task = asyncio.create_task(ticking, name="onready progress")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        if self._live is not None:
            self._live.stop()
            self._live = None

    # --- lines --------------------------------------------------------------------------------

    def changed(self, event: AnyEvent) -> None:
        """After each event: in a pipe, say which row has ended by it."""
        if isinstance(event, RunResumed):
            self._kept()
            return
        if type(event) not in _ENDS or self.console.quiet or self.console.live:
            return
        row = self.board.rows.get(path_of(cast("NodeSucceeded", event).node))
        if row is None or row.path in self._shown or len(self.board.rows) > MOST_LINES:
            return
        # What went wrong is said at the end, in the graph's order.
        if row.done > row.passed and row.status in {"succeeded", "cached"}:
            self._line(row)

    def _kept(self) -> None:
        """A run goes on: what it has already is said in one line, and not again."""
        for row in self.board.rows.values():
            if row.complete:
                self._shown.add(row.path)
        kept = self.board.segments[-1].kept
        self.console.say(f"  kept: {counted(kept, 'node')}")

    def finish(self) -> None:
        """After the run's end: the lines that are not there yet, in the graph's order."""
        rows = self.board.shown()
        if len(rows) > MOST_LINES:
            troubled = [row for row in rows if row.status in {"failed", "lost"}]
            fine = len(rows) - len(troubled)
            self.console.say(f"  {counted(fine, 'node')} of the graph without trouble")
            rows = troubled[:MOST_LINES]
        for row in rows:
            if row.path not in self._shown and not self._told_elsewhere(row):
                self._line(row)

    def _told_elsewhere(self, row: Row) -> bool:
        """What failed and what did not run for it is in the error block, and is said once."""
        if self.board.cancelling and self.board.reason:
            return False
        return not row.many and row.status in {"failed", "lost", "skipped", "waiting"}

    def _line(self, row: Row) -> None:
        self._shown.add(row.path)
        self._spoke = time.monotonic()
        self.console.say(self.text(row))

    def text(self, row: Row) -> str:
        """One row as a line."""
        console = self.console
        mark, style = mark_of(row, console.tick())
        # The name of a map grows by its count: take the room that it has now.
        self._width = max(self._width, min(len(label(row)) + 1, 44))
        name = label(row).ljust(self._width)
        line = f"  {console.err(mark, style)} {name}{duration(row):>8}"
        extra = detail(row)
        return (f"{line}  {console.err(extra, 'dim')}" if extra else line).rstrip()

    async def _heartbeat(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            if time.monotonic() - self._spoke >= QUIET_PERIOD:
                self._spoke = time.monotonic()
                self.console.say(f"  ... {self._how_far()}")

    def _how_far(self) -> str:
        board = self.board
        total = board.total
        number = f"{board.done:,} of {total:,} nodes" if total else counted(board.done, "node")
        running = [row.name for row in board.active()]
        names = f"; running: {cut(', '.join(running), 60)}" if running else ""
        return f"{number} done{names}"

    # --- the live picture ---------------------------------------------------------------------

    async def _picture(self) -> None:
        await asyncio.sleep(PATIENCE)
        # In a thread: importing rich takes longer than a picture may stall the loop.
        await asyncio.to_thread(importlib.import_module, "onready.cli.picture")
        from onready.cli.picture import draw, start_live

        live = start_live(self.console)
        self._live = live
        began = time.monotonic() - PATIENCE
        while True:
            live.update(draw(self, time.monotonic() - began), refresh=True)
            await asyncio.sleep(PERIOD)

    def visible(self, room: int) -> tuple[Sequence[Row], int]:
        """The rows for a picture of `room` lines, in the graph's order; how many are left out.

        What runs and what failed comes first, then what waits, then what is done.
        """
        rows = self.board.shown()
        if len(rows) <= room:
            return rows, 0
        order = {"failed": 0, "lost": 0, "running": 1, "waiting": 2}
        ranked = sorted(range(len(rows)), key=lambda i: (order.get(rows[i].status, 3), i))
        chosen = sorted(ranked[: max(room, 1)])
        return [rows[i] for i in chosen], len(rows) - len(chosen)
