"""`onready runs` and `onready show`: what ran, and how it went.

Rule of this room: reads through the engine and prints.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from onready.cli.common import FormatOption, RunArgument, Stores, open_for_reading
from onready.cli.console import Console
from onready.cli.history import Story, find_run, read_story
from onready.cli.lines import detail, duration, label, mark_of
from onready.cli.words import STATUS_STYLE, clock, columns, counted, short, took, when

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onready.cli.board import Board
    from onready.engine.spi import RunRecord

Status = Literal["running", "succeeded", "failed", "cancelled", "interrupted"]


def runs(
    *,
    status: Annotated[Status | None, Parameter(help="Only runs in this state.")] = None,
    graph: Annotated[str, Parameter(help="Only runs of this graph.")] = "",
    limit: Annotated[int, Parameter(name=["--limit", "-l"], help="At most so many.")] = 20,
    stores: Stores = Stores(),  # noqa: B008 - frozen
    format: FormatOption = "text",  # noqa: A002 - the flag's name
) -> int:
    """The runs so far, newest first: name, graph, state, when, how long."""
    return asyncio.run(_runs(status, graph, limit, stores, format))


async def _runs(status: Status | None, graph: str, limit: int, stores: Stores, form: str) -> int:
    from onready.engine.spi import RunFilter

    console = Console()
    async with open_for_reading(stores) as engine:
        records = await engine.runs(RunFilter(status=status, graph=graph, limit=limit))
    if form == "json":
        console.out(json.dumps([record_json(record) for record in records], indent=2))
        return 0
    if not records:
        console.say("no runs yet; try: onready run hello")
        return 0
    console.out("\n".join(_table(console, records)))
    return 0


def _table(console: Console, records: Sequence[RunRecord]) -> list[str]:
    rows = [("NAME", "GRAPH", "STATUS", "WHEN", "TOOK", "ID")]
    for record in records:
        ended = "" if record.ended is None else took(record.ended - record.created)
        rows.append(
            (record.name, record.graph, record.status, when(record.created), ended, record.run)
        )
    lines = columns(rows)
    lines[0] = console.paint(lines[0], "dim")
    for position, record in enumerate(records, 1):
        word = record.status
        lines[position] = lines[position].replace(word, console.paint(word, STATUS_STYLE[word]), 1)
    return lines


def record_json(record: RunRecord) -> dict[str, object]:
    """One run of the list, for programs."""
    return {
        "run": record.run,
        "name": record.name,
        "graph": record.graph,
        "status": record.status,
        "created": record.created,
        "ended": record.ended,
        "target": record.target,
        "fingerprint": record.fingerprint,
        "events": record.last_seq,
    }


def show(
    run: RunArgument,
    /,
    *,
    stores: Stores = Stores(),  # noqa: B008 - frozen
    format: FormatOption = "text",  # noqa: A002 - the flag's name
) -> int:
    """One run: the state of each node, times, inputs, results, and how what failed failed."""
    return asyncio.run(_show(run, stores, format))


async def _show(text: str, stores: Stores, form: str) -> int:
    console = Console()
    async with open_for_reading(stores) as engine:
        record = await find_run(engine, text)
        story = await read_story(engine, record.run)
    if form == "json":
        console.out(json.dumps(story_json(record, story), indent=2))
        return 0
    console.out("\n".join(_text(console, record, story)))
    return 0


def _text(console: Console, record: RunRecord, story: Story) -> list[str]:
    from onready.cli.failure import error_block
    from onready.engine.values import summarise

    board = story.board
    status = console.paint(record.status, STATUS_STYLE[record.status])
    facts = [
        f"{console.paint(record.name, 'bold')}  {status}",
        f"  graph    {record.graph}" + (f"  ({short(record.target)})" if record.target else ""),
        f"  id       {record.run}",
        f"  started  {clock(record.created)} ({when(record.created)})",
        f"  took     {took(board.elapsed)}",
        *_segments(board),
    ]
    if story.inputs:
        facts.append(f"  inputs   {_inputs(story)}")
    if record.status == "succeeded":
        facts.append(f"  result   {summarise(story.result, 80)}")
    facts.append(f"  nodes    {_counts(board)}")
    lines = [*facts, "", *_rows(console, story, dead=record.status == "interrupted")]
    if board.failures or record.status == "failed":
        lines += ["", *error_block(story, record.name, console, word=record.name)]
    if record.status == "interrupted":
        lines += ["", f"  {console.paint('next:', 'bold')} onready resume {record.name}"]
    return lines


def _segments(board: Board) -> list[str]:
    """When it was gone on with: the last three times."""
    return [
        f"  {'retried' if one.retry else 'resumed'}  {clock(one.at)} ({when(one.at)}), "
        f"{counted(one.kept, 'node')} kept"
        for one in board.segments[-3:]
    ]


def _inputs(story: Story) -> str:
    from onready.engine.values import summarise

    return "  ".join(f"{name}={summarise(value, 48)}" for name, value in story.inputs.items())


def _counts(board: Board) -> str:
    words = ("succeeded", "cached", "failed", "lost", "cancelled", "skipped")
    parts = [f"{board.count(word):,} {word}" for word in words if board.count(word)]
    return ", ".join(parts) or "none has ended"


def _rows(console: Console, story: Story, *, dead: bool) -> list[str]:
    from onready.engine.values import summarise

    board = story.board
    single = {key: value for key, value in story.values.items() if key.index is None}
    cells: list[tuple[str, str, str, str, str]] = []
    for row in board.shown():
        mark, _ = mark_of(row, "✓" if console.tick() == "✓" else "+")
        value = next((v for key, v in single.items() if str(key) == row.name), None)
        last = detail(row) or (summarise(value, 48) if value is not None else "")
        if dead and row.running:
            mark, last = "-", f"{last}, was running" if last else "was running"
        cells.append((f"  {mark}", label(row), duration(row), row.backend, last))
    return columns(cells)


def story_json(record: RunRecord, story: Story) -> dict[str, object]:
    """One run in full, for programs. Times are UTC seconds; durations seconds."""
    from onready.cli.failure import failure_json
    from onready.engine.wire import value_to_json

    board = story.board
    return record_json(record) | {
        "segments": [
            {"at": one.at, "retry": one.retry, "kept": one.kept} for one in board.segments
        ],
        "inputs": {name: value_to_json(value) for name, value in story.inputs.items()},
        "result": value_to_json(story.result),
        "nodes": [
            {
                "name": row.name,
                "map": row.many,
                "status": row.status,
                "iterations": row.rounds if row.repeats else None,
                "total": row.total,
                "counts": row.counts,
                "retries": row.retries,
                "again": row.again,
                "attempts": row.attempts,
                "backend": row.backend,
                "began": row.began,
                "ended": row.ended,
                "busy": round(row.busy, 6),
            }
            for row in board.rows.values()
        ],
        "failures": [failure_json(failure) for _, failure, _ in board.failures],
        "skipped": [{"node": str(key), "reason": reason} for key, reason in board.skipped],
    }
