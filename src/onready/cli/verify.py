"""`onready verify`: whether what is recorded of a run can have happened.

Rule of this room: reads the log, asks the history checker, prints.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from onready.cli.common import FormatOption, RunArgument, Stores, open_for_reading
from onready.cli.console import Console
from onready.cli.exits import FAILED, OK
from onready.cli.history import plan_of_events
from onready.cli.words import counted
from onready.engine.events import AnyEvent, RunResumed

if TYPE_CHECKING:
    from onready.engine.history import Violation


def verify(
    run: RunArgument,
    /,
    *,
    stores: Stores = Stores(),  # noqa: B008 - frozen
    format: FormatOption = "text",  # noqa: A002 - the flag's name
) -> int:
    """Check the record of a run against the rules that every run keeps.

    Each node starts after what it needs, ends once, and no committed success runs again. Exit
    code 0 where all of it holds, 1 where something is wrong: then please report it.
    """
    return asyncio.run(_verify(run, stores, format))


async def _verify(text: str, stores: Stores, form: str) -> int:
    from onready.engine.history import check_history

    console = Console()
    async with open_for_reading(stores) as engine:
        record = await engine.find(text)
        events = [event async for event in engine.history(record.run)]
        plan = await plan_of_events(engine, events)
    found = await asyncio.to_thread(check_history, events, plan)
    if form == "json":
        data = _counts(events) | {"run": record.run, "plan": plan is not None}
        violations = [asdict(violation) for violation in found]
        console.out(json.dumps(data | {"violations": violations}, indent=2))
    elif found:
        console.out("\n".join(_broken(console, record.name, found)))
    else:
        counts = _counts(events)
        words = ", ".join(
            counted(number, name.removesuffix("s")) for name, number in counts.items()
        )
        console.out(f"{console.paint('ok', 'green')}: {words}")
    if plan is None:
        console.complain(
            f"{console.err('warning:', 'yellow')} the catalog has no plan of {record.name}: "
            "what nodes need was not checked"
        )
    return FAILED if found else OK


def _counts(events: list[AnyEvent]) -> dict[str, int]:
    """Events, nodes that something was recorded of, drivers."""
    nodes = {getattr(event, "node", None) for event in events if hasattr(event, "attempt")}
    epochs = 1 + sum(isinstance(event, RunResumed) for event in events)
    return {"events": len(events), "nodes": len(nodes), "epochs": epochs}


def _broken(console: Console, name: str, found: list[Violation]) -> list[str]:
    lines = [f"{console.paint('x', 'red')} {name}: {counted(len(found), 'rule')} broken"]
    return [*lines, *(f"  {violation}" for violation in found)]
