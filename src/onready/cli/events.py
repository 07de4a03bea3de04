"""`onready events`: what happened in a run, fact by fact.

Rule of this room: reads through the engine and prints one line per event.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter

from onready.cli.common import FollowOption, FormatOption, RunArgument, Stores, open_for_reading
from onready.cli.console import Console
from onready.cli.history import find_run
from onready.cli.words import cut
from onready.engine.wire import to_json

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from onready import Engine
    from onready.engine.events import AnyEvent

POLL: Final = 0.3
"""Seconds between two looks at the log of a run that another process drives."""
TERMINAL: Final = frozenset({"run.succeeded", "run.failed", "run.cancelled"})
_COMMON: Final = frozenset({"run", "seq", "at", "type", "v", "node", "attempt"})


def events(
    run: RunArgument,
    /,
    *,
    after: Annotated[int, Parameter(help="Only events with a higher number.")] = 0,
    follow: FollowOption = False,
    stores: Stores = Stores(),  # noqa: B008 - frozen
    format: FormatOption = "text",  # noqa: A002 - the flag's name
) -> int:
    """The events of a run in order, one a line; JSON lines with `--format json`."""
    return asyncio.run(_events(run, after, stores, format, follow=follow))


async def _events(text: str, after: int, stores: Stores, form: str, *, follow: bool) -> int:
    console = Console()
    async with open_for_reading(stores) as engine:
        record = await find_run(engine, text)
        async for event in following(engine, record.run, after, follow=follow):
            data = to_json(record.run, event)
            console.out(json.dumps(data) if form == "json" else _line(event, data))
    return 0


async def following(
    engine: Engine, run: str, after: int, *, follow: bool
) -> AsyncIterator[AnyEvent]:
    """Events after `after`; with `follow` until the run's last one, however long that takes."""
    ended = False
    while True:
        async for event in engine.history(run, after):
            after = event.seq
            ended = type(event).__struct_config__.tag in TERMINAL
            yield event
        if ended or not follow:
            return
        await asyncio.sleep(POLL)


def _line(event: AnyEvent, data: dict[str, object]) -> str:
    at = time.strftime("%H:%M:%S", time.localtime(event.at)) + f".{int(event.at % 1 * 1000):03d}"
    words = [f"{event.seq:>5}", at, str(data["type"]).ljust(15)]
    if node := data.get("node"):
        attempt = data.get("attempt")
        words.append(f"{node}#{attempt}" if isinstance(attempt, int) and attempt > 1 else str(node))
    for name, value in data.items():
        if name not in _COMMON and value not in (None, "", [], {}):
            words.append(f"{name}={cut(_shown(value), 60)}")
    return "  ".join(words)


def _shown(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, dict) and "message" in value:
        kind, message = value.get("type") or value.get("kind"), value["message"]
        return f"{kind}: {message}"
    if isinstance(value, dict) and "value" in value and "codec" in value:
        return json.dumps(value["value"])
    return json.dumps(value)
