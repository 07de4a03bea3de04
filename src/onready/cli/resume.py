"""`onready resume` and `onready retry`: go on with a run that was interrupted, or that failed.

Rule of this room: the words around a run that goes on; driving it is `drive`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from onready.cli.common import Format, RunArgument, Stores
from onready.cli.console import Console
from onready.cli.exits import USAGE, Exit
from onready.cli.target import current_folder_first, find_target
from onready.cli.words import inside
from onready.engine.errors import GraphError, PlanDrift, RunConflict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from onready import Engine, Run
    from onready.engine.graph import Bound

    Going = Callable[[Engine, str, Bound[object] | None], Awaitable[Run[object]]]


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Options:
    """What `resume` and `retry` take beside the run."""

    target: Annotated[
        str | None,
        Parameter(
            name="--target",
            help="Go on with this graph (`file.py:graph`) instead of the plan that the run had.",
        ),
    ] = None
    accept_drift: Annotated[
        bool,
        Parameter(
            name="--accept-drift",
            negative=(),
            show_default=False,
            help="Go on although the graph or the code of a task has changed.",
        ),
    ] = False
    max_parallel: Annotated[
        int | None, Parameter(name=["--max-parallel", "-n"], help="Nodes that may run at once.")
    ] = None
    timeout: Annotated[
        float | None, Parameter(name="--timeout", help="Seconds for the rest of the run.")
    ] = None
    format: Annotated[
        Format, Parameter(name="--format", help="The result as text, or all of it as JSON.")
    ] = "text"
    quiet: Annotated[
        bool,
        Parameter(
            name=["--quiet", "-q"],
            negative=(),
            show_default=False,
            help="Only results and errors.",
        ),
    ] = False


def resume(
    run: RunArgument,
    /,
    *,
    options: Options = Options(),
    stores: Stores = Stores(),  # noqa: B008 - frozen
) -> int:
    """Go on with a run whose driver died or was stopped. What has succeeded is not run again."""

    async def going(engine: Engine, run: str, bound: Bound[object] | None) -> Run[object]:
        return await engine.resume(
            run,
            bound,
            accept_drift=options.accept_drift,
            timeout=options.timeout,
            max_parallel=options.max_parallel,
        )

    return _go_on("resume", run, going, options, stores)


def retry(
    run: RunArgument,
    /,
    *,
    start: Annotated[
        list[str],
        Parameter(
            name="--from",
            consume_multiple=True,
            negative=(),
            show_default=False,
            help="Nodes that run again although they succeeded, with all that needs them.",
        ),
    ] = [],  # noqa: B006 - read only
    options: Options = Options(),
    stores: Stores = Stores(),  # noqa: B008 - frozen
) -> int:
    """Go on with a run that failed or was cancelled: its failed nodes run again, and the rest.

    Nodes that succeeded keep their values; `--from NODE` runs one of them again even so.
    """

    async def going(engine: Engine, run: str, bound: Bound[object] | None) -> Run[object]:
        return await engine.retry(
            run,
            bound,
            start=start,
            accept_drift=options.accept_drift,
            timeout=options.timeout,
            max_parallel=options.max_parallel,
        )

    return _go_on("retry", run, going, options, stores)


def _go_on(verb: str, text: str, going: Going, options: Options, stores: Stores) -> int:
    """Find the run, go on with it, watch it to its end."""
    from onready.cli.drive import Request, drive

    # Functions by reference are looked for where `onready run` would have found them.
    current_folder_first()
    bound = None if options.target is None else find_target(options.target).bind({})
    config = stores.config()
    console = Console(quiet=options.quiet)

    async def start(engine: Engine) -> tuple[Run[object], int]:
        record = await engine.find(text)
        try:
            return await going(engine, record.run, bound), record.last_seq
        except PlanDrift as drift:
            raise Exit(USAGE, _drift(console, verb, record.name, drift)) from None
        except RunConflict as error:
            # People know the run by its name.
            message = str(error).replace(record.run, record.name)
            raise Exit(USAGE, f"{console.err('error:', 'red')} {message}") from error
        except GraphError as error:
            message = f"{console.err('error:', 'red')} {inside(str(error))}\n"
            message += f"  {record.name} cannot go on without it; see: onready diff {record.name}"
            raise Exit(USAGE, message) from error

    request = Request(start, config, as_json=options.format == "json")
    return asyncio.run(drive(request, console))


def _drift(console: Console, verb: str, name: str, drift: PlanDrift) -> str:
    """What has changed, and how to go on all the same."""
    head = f"{console.err('error:', 'red')} {name} would go on with another graph than it had:"
    lines = [f"  {console.err('~', 'yellow')} {inside(change)}" for change in drift.changes]
    way = f"onready {verb} {name} --accept-drift"
    return "\n".join([head, *lines, f"  go on all the same: {way}"])
