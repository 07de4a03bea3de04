"""`onready diff`: what differs between two runs, or between a run and the code as it is now.

Rule of this room: compares what is recorded, and prints; nothing runs but the target's own import.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final, NamedTuple

from cyclopts import Parameter

from onready.cli.common import FormatOption, RunArgument, Stores, compile_target, open_for_reading
from onready.cli.console import Console
from onready.cli.exits import OK, Usage
from onready.cli.history import Story, find_run, read_story
from onready.cli.target import current_folder_first, find_target
from onready.cli.words import Style, columns, inside
from onready.engine.plan.diff import Change, diff_plans, drift_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from onready.engine.plan.model import Plan
    from onready.engine.spi import RunRecord
    from onready.engine.values.stored import Stored

MOST: Final = 40
"""Nodes that are told one by one; the others are counted."""
MARKS: Final[dict[str, tuple[str, Style]]] = {"added": ("+", "green"), "removed": ("-", "red")}
"""Before a change; `~` before all others."""


class Differ(NamedTuple):
    """Something that has a name and differs: `old` and `new` in words, "" where it is missing."""

    name: str
    old: str
    new: str


class Found(NamedTuple):
    """All that differs. `there` says what it was compared with."""

    plan: Sequence[Change]
    inputs: Sequence[Differ]
    nodes: Sequence[Differ]
    here: str
    there: str


def diff(
    run: RunArgument,
    other: Annotated[
        str, Parameter(help="Another run; without it, the code as it is now.", show_default=False)
    ] = "",
    /,
    *,
    stores: Stores = Stores(),  # noqa: B008 - frozen
    format: FormatOption = "text",  # noqa: A002 - the flag's name
) -> int:
    """What changed in the plan, the inputs and the values between two runs.

    With one run: what changed in the code since, which is what `resume` and `retry` look at.
    """
    console = Console()
    record, story, beside = asyncio.run(_read(run, other, stores))
    if beside is None:
        now = f"the code of {record.target or record.graph}"
        found = Found(_drift(record, story, stores), (), (), record.name, now)
    else:
        found = _between(record.name, story, *beside)
    if format == "json":
        console.out(json.dumps(_json(found), indent=2))
    else:
        console.out("\n".join(_text(console, found)))
    return OK


async def _read(
    run: str, other: str, stores: Stores
) -> tuple[RunRecord, Story, tuple[str, Story] | None]:
    async with open_for_reading(stores) as engine:
        record = await find_run(engine, run)
        story = await read_story(engine, record.run)
        if not other:
            return record, story, None
        second = await find_run(engine, other)
        return record, story, (second.name, await read_story(engine, second.run))


# --- a run and the code ---------------------------------------------------------------------------


def _drift(record: RunRecord, story: Story, stores: Stores) -> tuple[Change, ...]:
    """From the run's plan to that of its target now; of a run without one, its functions alone."""
    from onready.engine.plan.link import link

    plan = _plan_of(record.name, story)
    current_folder_first()
    if not record.target:
        return drift_of(link(plan))
    first = story.board.started
    backend, select = (first.backend or None, first.select) if first is not None else (None, ())
    target, config = find_target(record.target), stores.config()
    return diff_plans(plan, compile_target(target, config, backend=backend, select=select))


def _plan_of(name: str, story: Story) -> Plan:
    if story.plan is None:
        message = f"onready diff: the catalog has no plan of {name} any more"
        raise Usage(message)
    return story.plan


# --- two runs -------------------------------------------------------------------------------------


def _between(name: str, story: Story, other_name: str, other: Story) -> Found:
    changes = diff_plans(_plan_of(name, story), _plan_of(other_name, other))
    return Found(
        changes,
        list(_values(story.inputs, other.inputs)),
        list(_nodes(story, other)),
        name,
        other_name,
    )


def _values(old: Mapping[str, Stored], new: Mapping[str, Stored]) -> Iterator[Differ]:
    for name in dict.fromkeys([*old, *new]):
        # By its text: 1 is no True here, and nan is nan.
        if name not in old or name not in new or repr(old[name]) != repr(new[name]):
            said = [_summary(side[name]) if name in side else "" for side in (old, new)]
            yield Differ(name, *said)


def _nodes(old: Story, new: Story) -> Iterator[Differ]:
    for key in dict.fromkeys([*old.board.ends, *new.board.ends]):
        states = [story.board.ends.get(key, "") for story in (old, new)]
        if states[0] != states[1]:
            yield Differ(str(key), *states)
        elif repr(old.values.get(key)) != repr(new.values.get(key)):
            yield Differ(str(key), _summary(old.values.get(key)), _summary(new.values.get(key)))


def _summary(value: Stored) -> str:
    from onready.engine.values import summarise

    return summarise(value, 36)


# --- words ----------------------------------------------------------------------------------------


def _text(console: Console, found: Found) -> list[str]:
    lines: list[str] = []
    if found.plan:
        lines += ["plan", *change_lines(console, found.plan)]
    for title, those in (("inputs", found.inputs), ("nodes", found.nodes)):
        if those:
            lines += [title, *_differ_lines(console, found, those)]
    return lines or [f"no difference between {found.here} and {inside(found.there)}"]


def change_lines(console: Console, changes: Sequence[Change], indent: str = "  ") -> list[str]:
    """Changes of a plan, one a line: `~ train: its code changed (pipeline.py:13)`."""
    lines: list[str] = []
    for change in changes:
        mark, style = MARKS.get(change.kind, ("~", "yellow"))
        lines.append(f"{indent}{console.paint(mark, style)} {inside(str(change))}")
    return lines


def _differ_lines(console: Console, found: Found, those: Sequence[Differ]) -> list[str]:
    rows: list[tuple[str, str, str]] = []
    for one in those[:MOST]:
        if not one.old:
            rows.append(("+", one.name, f"{one.new} (only in {found.there})"))
        elif not one.new:
            rows.append(("-", one.name, f"{one.old} (only in {found.here})"))
        else:
            rows.append(("~", one.name, f"{one.old} -> {one.new}"))
    lines = columns(rows, "  ")
    styles: dict[str, Style] = {"+": "green", "-": "red", "~": "yellow"}
    for at, row in enumerate(rows):
        lines[at] = lines[at].replace(row[0], console.paint(row[0], styles[row[0]]), 1)
    if len(those) > MOST:
        lines.append(f"  and {len(those) - MOST:,} more")
    return lines


def _json(found: Found) -> dict[str, object]:
    return {
        "from": found.here,
        "to": found.there,
        "plan": [asdict(change) for change in found.plan],
        "inputs": [one._asdict() for one in found.inputs],
        "nodes": [one._asdict() for one in found.nodes],
    }
