"""`onready gc`: remove what drivers that died have left, and old output where asked.

Rule of this room: words; what may be removed is decided in `engine/sweeping.py`.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Final

from cyclopts import Parameter

from onready.cli.common import FormatOption, Stores, open_for_reading
from onready.cli.console import Console
from onready.cli.exits import OK, UNAVAILABLE, Usage
from onready.cli.words import amount, counted, some

if TYPE_CHECKING:
    from onready.engine.sweeping import Swept

_AGE: Final = re.compile(r"(?P<number>[0-9]+(\.[0-9]+)?)(?P<unit>[mhdw])\Z")
_SECONDS: Final = {"m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}


def gc(
    *,
    dry_run: Annotated[
        bool,
        Parameter(
            name="--dry-run", negative=(), show_default=False, help="Only say what would go."
        ),
    ] = False,
    older_than: Annotated[
        str | None,
        Parameter(
            name="--older-than",
            help="Also the output files of runs that ended so long ago: `30d`, `12h`, `2w`. What "
            "happened in them, their values and results stay.",
        ),
    ] = None,
    stores: Stores = Stores(),  # noqa: B008 - frozen
    format: FormatOption = "text",  # noqa: A002 - the flag's name
) -> int:
    """Remove what is left of runs whose driver died: processes, containers, work folders.

    Runs that somebody drives, and what belongs to no run of this run log, are not touched.
    An interrupted run can still be resumed afterwards.
    """
    age = None if older_than is None else seconds_of(older_than)
    return asyncio.run(_gc(age, stores, format, dry_run=dry_run))


def seconds_of(text: str) -> float:
    """The age that `30d` means, in seconds. Usage where it means none."""
    match = _AGE.match(text.strip())
    if match is None:
        message = f"onready gc: --older-than {text!r}: write a number and m, h, d or w, as in 30d"
        raise Usage(message)
    return float(match["number"]) * _SECONDS[match["unit"]]


async def _gc(age: float | None, stores: Stores, form: str, *, dry_run: bool) -> int:
    console = Console()
    before = None if age is None else time.time() - age
    async with open_for_reading(stores) as engine:
        swept = await engine.sweep(dry_run=dry_run, outputs_before=before)
        names = {run: (await engine.find(run)).name for run in swept.runs}
    if form == "json":
        console.out(json.dumps(asdict(swept) | {"dry_run": dry_run}, indent=2))
    else:
        console.out("\n".join(_text(swept, names, dry_run=dry_run)))
    for name, problem in sorted(swept.problems.items()):
        console.complain(f"{console.err('warning:', 'yellow')} {name} was not asked: {problem}")
    return UNAVAILABLE if swept.problems else OK


def _text(swept: Swept, names: dict[str, str], *, dry_run: bool) -> list[str]:
    parts = [
        f"{counted(number, 'attempt')} on {backend}"
        for backend, number in sorted(swept.attempts.items())
    ]
    for number, thing in (
        (swept.folders, "work folder"),
        (swept.files, "half-written file"),
    ):
        if number:
            parts.append(counted(number, thing))
    if swept.outputs:
        parts.append(f"the output of {counted(swept.outputs, 'run')}")
    if not parts:
        return ["nothing to remove"]
    verb = "would remove" if dry_run else "removed"
    lines = [f"{verb} {', '.join(parts)}: {amount(swept.bytes)}"]
    if swept.runs:
        shown = [f"{names[run]} ({run})" for run in swept.runs]
        lines.append(f"  left by {some(shown, 3)}")
    return lines
