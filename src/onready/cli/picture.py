"""The live picture of a run: rich's part of it.

Rule of this room: imported late, by `progress` alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.console import Console as RichConsole
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from onready.cli.console import Console
from onready.cli.lines import detail, duration, label, mark_of
from onready.cli.words import cut, took

if TYPE_CHECKING:
    from onready.cli.board import Row
    from onready.cli.progress import Progress

SPINNER: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
PLAIN_SPINNER: Final = "|/-\\"
BAR: Final = 20


def start_live(console: Console) -> Live:
    """The live display on stderr, wiped away when it stops."""
    rich = RichConsole(file=console.stderr, no_color=not console.err_colour, highlight=False)
    live = Live(
        console=rich,
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    )
    live.start()
    return live


def draw(progress: Progress, elapsed: float) -> Group:
    """The picture now: a line per row that fits, and the state of the whole run."""
    height = max(_height(progress) - 3, 1)
    rows, hidden = progress.visible(height)
    table = Table.grid(padding=(0, 1))
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, justify="right", min_width=7)
    table.add_column(no_wrap=True)
    for row in rows:
        table.add_row(*_cells(progress, row, elapsed))
    return Group(table, _footer(progress, hidden, elapsed))


def _height(progress: Progress) -> int:
    del progress
    import shutil

    return shutil.get_terminal_size((100, 24)).lines


def _spinner(progress: Progress, elapsed: float) -> str:
    frames = SPINNER if progress.console.tick() == "✓" else PLAIN_SPINNER
    return frames[int(elapsed * 10) % len(frames)]


def _cells(progress: Progress, row: Row, elapsed: float) -> tuple[RenderableType, ...]:
    mark, style = mark_of(row, progress.console.tick())
    running = row.status == "running"
    if running:
        mark = _spinner(progress, elapsed)
    name = Text(label(row), style="dim" if row.status == "waiting" else "")
    time_text = duration(row)
    if running and row.began is not None:
        time_text = took(max(progress.board.driven_since + elapsed - row.began, 0.0))
    return (Text(f"  {mark}", style=style), name, Text(time_text), _last(row, running=running))


def _last(row: Row, *, running: bool) -> RenderableType:
    getting_ready = row.status == "waiting" and bool(row.message) and not row.many
    if not running and not getting_ready:
        return Text(detail(row), style="dim")
    total = row.total or 0
    grid = Table.grid(padding=(0, 1))
    if row.many and total > 1:
        words = f"{row.done:,} of {total:,}, {row.running:,} running"
        bad = row.counts.get("failed", 0) + row.counts.get("lost", 0)
        words += f", {bad:,} failed" if bad else ""
        grid.add_row(ProgressBar(total=total, completed=row.done, width=BAR), Text(words))
        return grid
    if row.fraction is not None:
        words = f"{row.fraction:.0%} {cut(row.message, 40)}".rstrip()
        grid.add_row(ProgressBar(total=1.0, completed=row.fraction, width=BAR), Text(words))
        return grid
    return Text(cut(row.message, 60), style="dim")


def _footer(progress: Progress, hidden: int, elapsed: float) -> Text:
    board = progress.board
    total = board.total
    running = sum(row.running for row in board.rows.values())
    parts = [f"{board.done:,} of {total:,} nodes" if total is not None else f"{board.done:,} nodes"]
    if running:
        parts.append(f"{running:,} running")
    if hidden:
        parts.append(f"{hidden:,} more rows")
    parts.append(took(elapsed))
    spinner = _spinner(progress, elapsed)
    text = Text(f"{spinner} " + ", ".join(parts), style="cyan")
    if progress.note:
        text.append(f"\n{progress.note}", style="yellow")
    return text
