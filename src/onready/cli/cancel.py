"""`onready cancel`: ask whoever drives a run to cancel it, and wait until it has ended.

Rule of this room: asks through the engine, looks at the log, prints.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter

from onready.cli.common import RunArgument, Stores, open_for_reading
from onready.cli.console import Console
from onready.cli.exits import FAILED, OK, UNAVAILABLE, USAGE, Exit
from onready.cli.words import took

if TYPE_CHECKING:
    from onready import Engine
    from onready.engine.spi import RunRecord

POLL: Final = 0.2
"""Seconds between two looks at the run log."""


def cancel(
    run: RunArgument,
    /,
    *,
    grace: Annotated[
        float | None,
        Parameter(
            name="--grace",
            help="Seconds that what runs has to end well; the driver's own setting by default.",
        ),
    ] = None,
    reason: Annotated[str, Parameter(name="--reason", help="Why: kept with the run.")] = "",
    wait: Annotated[
        bool,
        Parameter(
            name="--wait",
            negative="--no-wait",
            help="Wait until the run has ended.",
        ),
    ] = True,
    timeout: Annotated[float, Parameter(name="--timeout", help="Seconds to wait at most.")] = 120.0,
    stores: Stores = Stores(),  # noqa: B008 - frozen
) -> int:
    """Cancel a run, whichever process drives it: nothing new starts, what runs is stopped.

    Exit code 0 where it is cancelled, 1 where it ended otherwise first.
    """
    return asyncio.run(
        _cancel(run, grace, reason or "asked for by onready cancel", wait, timeout, stores)
    )


async def _cancel(
    text: str, grace: float | None, reason: str, wait: bool, limit: float, stores: Stores
) -> int:
    console = Console()
    async with open_for_reading(stores) as engine:
        record = await engine.find(text)
        if not await engine.cancel(record.run, reason, grace):
            return _ended(console, await engine.find(record.run), before=True)
        if not wait:
            console.out(f"{record.name} is asked to cancel")
            return OK
        return await _until_ended(console, engine, record, limit)


async def _until_ended(console: Console, engine: Engine, record: RunRecord, limit: float) -> int:
    until = time.monotonic() + limit
    console.say(f"{record.name} is asked to cancel; waiting until it has ended")
    while True:
        now = await engine.find(record.run)
        if now.status == "interrupted":
            console.out(f"{now.name}: nobody drives it; it is cancelled once it is resumed")
            console.say(f"  next: onready resume {now.name}")
            return OK
        if now.status != "running":
            return _ended(console, now, before=False)
        if time.monotonic() > until:
            message = f"{now.name} has not ended within {took(limit)}; it is still asked to"
            raise Exit(UNAVAILABLE, f"{console.err('error:', 'red')} {message}")
        await asyncio.sleep(POLL)


def _ended(console: Console, record: RunRecord, *, before: bool) -> int:
    """Say how it ended; `before`: nobody had to be asked."""
    if record.status == "cancelled":
        console.out(
            f"{record.name} was cancelled already" if before else f"{record.name} cancelled"
        )
        return OK
    if before:
        message = f"{record.name} has ended: it {record.status}"
        raise Exit(USAGE, f"{console.err('error:', 'red')} {message}")
    console.complain(
        f"{console.err('x', 'red')} {record.name} {record.status} before it was cancelled"
    )
    return FAILED
