"""`onready doctor`: whether this machine can do what onready needs, one line per check.

A check is a row of `CHECKS`. To add one, write a function that looks and says what it found.

Rule of this room: looks, and leaves nothing behind; asks through the contracts that runs use.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Final, NamedTuple

from cyclopts import Parameter

from onready.cli import checks, doctor_docker
from onready.cli.common import FormatOption, Stores
from onready.cli.console import Console
from onready.cli.exits import OK, UNAVAILABLE, Usage
from onready.cli.findings import Finding, Level
from onready.cli.words import Style, columns, cut
from onready.config import Config
from onready.engine.errors import ConfigError, OnreadyError
from onready.engine.settings import did_you_mean

PATIENCE: Final = 30.0
"""Seconds that one check may take."""

_STYLES: Final[dict[Level, Style]] = {"ok": "green", "warn": "yellow", "fail": "red"}


class Check(NamedTuple):
    """One check. `look` gives what it found and the cure ("" where all is well); it raises
    `checks.Trouble` or any error of ours where it is not. `always`: also where nobody asks by name.
    """

    look: Callable[[Config], Awaitable[str]]
    always: bool = True


CHECKS: Final[dict[str, Check]] = {
    "python": Check(checks.python),
    "platform": Check(checks.system),
    "folder": Check(checks.folder),
    "clock": Check(checks.clock),
    "run-log": Check(checks.run_log),
    "catalog": Check(checks.catalog),
    "plug-ins": Check(checks.plug_ins),
    "processes": Check(checks.processes),
    "extras": Check(checks.extras),
}


SUITES: Final[dict[str, Callable[[Config], Awaitable[list[Finding]]]]] = {
    "docker": doctor_docker.look,
}
"""Checks of several lines each, made only where somebody asks for them by name."""


def doctor(
    *only: Annotated[
        str, Parameter(show=False, help="Only these checks, by name; all of them by default.")
    ],
    stores: Stores = Stores(),  # noqa: B008 - frozen
    format: FormatOption = "text",  # noqa: A002 - the flag's name
) -> int:
    """Check this machine, the folder and the configuration; say what is wrong and how to mend it.

    Exit code 0 where everything works, 3 where something does not.
    """
    for name in only:
        if name not in CHECKS and name not in SUITES:
            known = (*CHECKS, *SUITES)
            message = f"onready doctor: no check {name!r}{did_you_mean(name, known)}"
            message += f"\n  checks: {', '.join(known)}"
            raise Usage(message)
    console = Console()
    findings = asyncio.run(_look(only, stores))
    if format == "json":
        console.out(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        console.out("\n".join(_text(console, findings)))
    bad = [finding.check for finding in findings if finding.level == "fail"]
    if bad:
        console.complain(f"{console.err('x', 'red')} not well: {', '.join(bad)}")
    return UNAVAILABLE if bad else OK


async def _look(only: Sequence[str], stores: Stores) -> list[Finding]:
    """Every wanted check, one after the other: they share a machine."""
    try:
        config = stores.config()
    except ConfigError as error:
        # Without it nobody can say which folder, run log and catalog are meant.
        return [Finding("configuration", "fail", str(error), "mend the file or the variable")]
    source = config.file or "no file: the defaults"
    profile = f", profile {config.profile}" if config.profile else ""
    found = [Finding("configuration", "ok", f"{source}{profile}")] if not only else []
    wanted = only or [name for name, check in CHECKS.items() if check.always]
    for name in wanted:
        found += [await _one(name, config)] if name in CHECKS else await _several(name, config)
    return found


async def _several(name: str, config: Config) -> list[Finding]:
    try:
        return await SUITES[name](config)
    except ImportError as error:
        text = f"{error.name} is not installed"
        return [Finding(name, "fail", text, f"install it: pip install 'onready[{name}]'")]
    except (OnreadyError, OSError, ValueError) as error:
        return [Finding(name, "fail", str(error))]


async def _one(name: str, config: Config) -> Finding:
    try:
        async with asyncio.timeout(PATIENCE):
            return Finding(name, "ok", await CHECKS[name].look(config))
    except checks.Trouble as trouble:
        return Finding(name, trouble.level, str(trouble), trouble.cure)
    except TimeoutError:
        text = f"no answer within {PATIENCE:g} s"
        return Finding(name, "fail", text, "is the machine overloaded, or the disk away?")
    except (OnreadyError, OSError) as error:
        return Finding(name, "fail", str(error))


def _text(console: Console, findings: Sequence[Finding]) -> list[str]:
    rows = columns(
        (f"{finding.level:<4}", finding.check, cut(finding.text, 400)) for finding in findings
    )
    lines: list[str] = []
    for finding, row in zip(findings, rows, strict=True):
        level = finding.level
        lines.append(row.replace(level, console.paint(level, _STYLES[level]), 1))
        if finding.cure:
            lines.append(f"      {console.paint('->', _STYLES[level])} {finding.cure}")
    return lines
