"""`onready run`: start a graph, show how it goes, say how it went.

Rule of this room: the words around a run; driving it is `drive`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

from cyclopts import Group, Parameter

from onready.cli.common import SELECT_HELP, Format, Stores, TargetArgument
from onready.cli.console import Console
from onready.cli.exits import Usage
from onready.cli.flags import check_complete, flags_app, inputs_of
from onready.cli.target import find_target

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onready import Engine, Run
    from onready.cli.target import Target

LIMITS: Final = Group("How it runs", sort_key=2)
WHERE: Final = Group("Where it is kept", sort_key=3)
SHOWN: Final = Group("What is shown", sort_key=4)
OnErrorChoice = Literal["stop", "continue", "cancel"]


@Parameter(name="*", group=LIMITS)
@dataclass(frozen=True, slots=True)
class Options:
    """What `onready run` takes beside the graph's own parameters."""

    params: Annotated[
        Path | None,
        Parameter(name="--params", help="File with parameters: JSON, YAML or TOML. Flags win."),
    ] = None
    select: Annotated[
        tuple[str, ...],
        Parameter(
            name=["--select", "-s"],
            consume_multiple=True,
            negative=(),
            show_default=False,
            help=SELECT_HELP,
        ),
    ] = ()
    max_parallel: Annotated[
        int | None, Parameter(name=["--max-parallel", "-n"], help="Nodes that may run at once.")
    ] = None
    backend: Annotated[
        str | None, Parameter(name="--backend", help="Run all Python tasks on this backend.")
    ] = None
    on_error: Annotated[
        OnErrorChoice | None,
        Parameter(
            name="--on-error",
            help="When a node failed: stop starts nothing new, continue runs what does not need "
            "it, cancel ends what runs. The graph's own choice by default, else stop.",
        ),
    ] = None
    timeout: Annotated[
        float | None, Parameter(name="--timeout", help="Seconds for the whole run.")
    ] = None
    run_id: Annotated[
        str | None,
        Parameter(name="--id", help="Id of the run: the same id again attaches to that run."),
    ] = None
    run_name: Annotated[
        str | None, Parameter(name="--name", help="Name of the run, instead of a made-up one.")
    ] = None
    no_cache: Annotated[
        bool,
        Parameter(
            name="--no-cache",
            negative=(),
            show_default=False,
            help="Run cached tasks like others, and keep nothing of them.",
        ),
    ] = False
    memory: Annotated[
        bool,
        Parameter(
            name="--memory",
            negative=(),
            show_default=False,
            group=WHERE,
            help="Keep nothing: no `.onready`.",
        ),
    ] = False
    format: Annotated[
        Format,
        Parameter(name="--format", group=SHOWN, help="The result as text, or all of it as JSON."),
    ] = "text"
    quiet: Annotated[
        bool,
        Parameter(
            name=["--quiet", "-q"],
            negative=(),
            show_default=False,
            group=SHOWN,
            help="Only results and errors.",
        ),
    ] = False


OPTIONS_TAKEN: Final = frozenset(
    {
        "--params",
        "--select",
        "--max-parallel",
        "--backend",
        "--on-error",
        "--timeout",
        "--id",
        "--name",
        "--no-cache",
        "--memory",
        "--format",
        "--quiet",
        "--run-log",
        "--catalog",
        "--profile",
        "--help",
    }
)


def run(
    target: TargetArgument,
    /,
    *flags: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    options: Options = Options(),
    stores: Annotated[Stores, Parameter(name="*", group=WHERE)] = Stores(),  # noqa: B008 - frozen
) -> int:
    """Run a graph. Its parameters are flags: `onready run TARGET --help` lists them.

    A parameter with the name of an option below goes behind `--`: `-- --name Ada`.
    """
    from onready.cli.drive import Request, drive

    found = find_target(target)
    own = found.flags()
    values = inputs_of(own, flags, options.params, found.name, OPTIONS_TAKEN)
    if not options.select:
        # With a selection the engine knows better which of them are needed.
        check_complete(own, values, found.name)
    console = Console(quiet=options.quiet)
    config = stores.config(options.max_parallel)
    bound = found.bind(values)

    async def start(engine: Engine) -> tuple[Run[object], int]:
        run = await engine.start(
            bound,
            id=options.run_id,
            name=options.run_name,
            on_error=options.on_error,
            timeout=options.timeout,
            backend=options.backend,
            select=options.select,
            target=found.address,
            cache=not options.no_cache,
        )
        return run, 0

    request = Request(start, config, options.memory, options.format == "json")
    return asyncio.run(drive(request, console))


def run_help(words: Sequence[str]) -> int:
    """`onready run [TARGET] --help`: the options, and the parameters of TARGET."""
    import sys

    from onready.cli.app import build_app

    app = build_app()
    app.help_print(["run"])
    target = _target_in(words)
    if target is None:
        return 0
    group = Group(f"Parameters of {target.name}", sort_key=1)
    flags = target.flags()
    sys.stdout.write("\n")
    if flags:
        taken = frozenset(OPTIONS_TAKEN)
        flags_app(flags, target.name, taken, group, target.about).help_print([])
    else:
        Console().out(f"{target.name} has no parameters.")
    return 0


def _target_in(words: Sequence[str]) -> Target | None:
    for word in words:
        if not word.startswith("-"):
            try:
                return find_target(word)
            except Usage:
                return None
    return None
