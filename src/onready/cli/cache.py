"""`onready cache`: which values of cached tasks there are, why one was not used, clearing them.

Rule of this room: asks the engine and prints.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from onready.cli.common import FormatOption, Stores, open_for_reading
from onready.cli.console import Console
from onready.cli.exits import Usage
from onready.cli.history import find_run
from onready.cli.words import amount, columns, counted, some, when

if TYPE_CHECKING:
    from onready import Engine
    from onready.config import Plugin
    from onready.engine.cache import Answer, CacheEntry, Listed
    from onready.engine.spi import RunRecord

TaskArgument = Annotated[
    str, Parameter(help="A task's name or reference (`module:function`); all tasks if not given.")
]
NodeArgument = Annotated[str, Parameter(help="Key of a node: `clean`, `train[1]`.")]
RunOption = Annotated[
    str, Parameter(help="Id of the run, the beginning of one, name, or last (the default).")
]


@asynccontextmanager
async def _open_cache(catalog: Plugin | None) -> AsyncGenerator[Engine | None]:
    """An engine on the catalog alone; None where there is no catalog yet, and none is made."""
    from onready import Engine

    if catalog is None:
        yield None
        return
    async with Engine.memory(catalog=catalog) as engine:
        yield engine


def _catalog_of(stores: Stores) -> Plugin | None:
    """The configured catalog, or the default one where it exists; looks at files."""
    config = stores.config()
    if config.catalog is not None:
        return config.catalog
    folder = Path(config.folder, "catalog").absolute()
    return f"file:{folder}" if folder.exists() else None


# --- ls -----------------------------------------------------------------------------------------


def list_entries(
    task: TaskArgument = "",
    /,
    *,
    stores: Stores = Stores(),  # noqa: B008 - frozen
    format: FormatOption = "text",  # noqa: A002 - the flag's name
) -> int:
    """The values in the cache, oldest first: task, node, the run that made it, age, size."""
    return asyncio.run(_list(task, _catalog_of(stores), format))


async def _list(task: str, catalog: Plugin | None, form: str) -> int:
    console = Console()
    async with _open_cache(catalog) as engine:
        entries = await engine.cache.entries(task) if engine is not None else ()
    if form == "json":
        console.out(json.dumps([_entry_json(listed) for listed in entries], indent=2))
    elif not entries:
        console.say(f"the cache has no value of {task}" if task else "the cache is empty")
    else:
        rows = [("TASK", "NODE", "RUN", "WHEN", "SIZE"), *map(_row, entries)]
        lines = columns(rows)
        lines[0] = console.paint(lines[0], "dim")
        console.out("\n".join(lines))
    return 0


def _row(listed: Listed) -> tuple[str, ...]:
    entry = listed.entry
    size = amount(listed.size)
    if entry is None:
        return ("(cannot be read)", listed.name.rpartition("/")[2], "", "", size)
    return (entry.task, entry.node, entry.run, when(entry.created), size)


def _entry_json(listed: Listed) -> dict[str, object]:
    """One value of the list, for programs. Times are UTC seconds, sizes bytes."""
    entry = listed.entry
    known = {} if entry is None else _made_by(entry)
    return {"record": listed.name, "size": listed.size, "readable": entry is not None} | known


def _made_by(entry: CacheEntry) -> dict[str, object]:
    return {
        "key": entry.key,
        "task": entry.task,
        "reference": entry.ingredients.task,
        "version": entry.ingredients.version,
        "run": entry.run,
        "node": entry.node,
        "attempt": entry.attempt,
        "created": entry.created,
    }


# --- why ----------------------------------------------------------------------------------------


def why(
    node: NodeArgument,
    run: RunOption = "last",
    /,
    *,
    stores: Stores = Stores(),  # noqa: B008 - frozen
    format: FormatOption = "text",  # noqa: A002 - the flag's name
) -> int:
    """Whether a node's value was taken from the cache in a run, and why not."""
    return asyncio.run(_why(node, run, stores, format))


async def _why(node: str, run: str, stores: Stores, form: str) -> int:
    console = Console()
    async with open_for_reading(stores) as engine:
        record = await find_run(engine, run)
        answer = await engine.explain_cache(record.run, node)
    if answer.status == "unknown":
        raise Usage(_no_such_node(node, record, answer))
    if form == "json":
        console.out(json.dumps(_answer_json(node, record, answer), indent=2))
    else:
        console.out("\n".join(_answer_lines(console, node, record, answer)))
    return 0


def _no_such_node(node: str, record: RunRecord, answer: Answer) -> str:
    from onready.engine.graph.codes import did_you_mean

    said = f"onready cache why: run {record.name} has nothing of a node {node!r}"
    if len(answer.nodes) > 20:
        return f"{said}; it has {some(answer.nodes)}"
    return f"{said}. {did_you_mean(node, answer.nodes)}"


def _answer_lines(console: Console, node: str, record: RunRecord, answer: Answer) -> list[str]:
    name = console.paint(node, "bold")
    if answer.status == "cached":
        mine = answer.origin == record.run
        whose = "an equal node of the same run" if mine else f"run {answer.origin}"
        return [f"{name}  from the cache: the value of {whose}", *_reasons(answer)]
    head = "not looked up" if answer.status == "unasked" else "not in the cache"
    lines = [f"{name}  {head} in run {record.name}", *_reasons(answer)]
    nearest = answer.nearest
    if nearest is not None:
        lines.append(f"  nearest: {nearest.node} of run {nearest.run}, {when(nearest.created)}")
    return lines


def _reasons(answer: Answer) -> list[str]:
    return [f"  {reason}" for reason in answer.reasons]


def _answer_json(node: str, record: RunRecord, answer: Answer) -> dict[str, object]:
    nearest = answer.nearest
    return {
        "run": record.run,
        "node": node,
        "status": answer.status,
        "origin": answer.origin or None,
        "key": answer.key or None,
        "reasons": list(answer.reasons),
        "nearest": None if nearest is None else _made_by(nearest),
    }


# --- clear --------------------------------------------------------------------------------------


def clear(
    task: TaskArgument = "",
    /,
    *,
    stores: Stores = Stores(),  # noqa: B008 - frozen
) -> int:
    """Forget the values in the cache, all of them or those of one task."""
    return asyncio.run(_clear(task, _catalog_of(stores)))


async def _clear(task: str, catalog: Plugin | None) -> int:
    console = Console()
    async with _open_cache(catalog) as engine:
        removed = await engine.cache.clear(task) if engine is not None else 0
    of = f" of {task}" if task else ""
    console.out(f"forgot {counted(removed, 'value')}{of}")
    return 0
