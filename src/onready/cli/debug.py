"""`onready debug`: one node of a recorded run once more, here, with the inputs that it had.

Rule of this room: runs the user's function in this process and shows what it does; the run is
not touched.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from contextvars import copy_context
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

import onready
from onready.cli.common import RunArgument, Stores, open_for_reading
from onready.cli.console import Console
from onready.cli.exits import FAILED, OK, Usage
from onready.cli.history import Story, find_run, read_story
from onready.cli.rows import path_of
from onready.cli.target import current_folder_first
from onready.cli.telling import result_text
from onready.cli.words import cut, inside, some, took
from onready.engine.context import bind
from onready.engine.debugging import Given, find_node
from onready.engine.errors import Failure, ValueMismatch
from onready.engine.masking import mask_text
from onready.engine.names import NodeKey
from onready.engine.plan.diff import drift_of
from onready.engine.plan.model import FromProvided
from onready.engine.settings import did_you_mean
from onready.engine.spi import Shell
from onready.engine.values import ValueType, summarise
from onready.engine.worker import program
from onready.engine.worker.calling import run_function
from onready.engine.worker.speaking import WorkerSource, tell_by_variable

if TYPE_CHECKING:
    from onready import Engine
    from onready.engine.plan.arguments import Known
    from onready.engine.plan.model import Plan, PlanNode
    from onready.engine.values.stored import Stored


def debug(
    run: RunArgument,
    node: Annotated[str, Parameter(help="One node, by its key: train[1].")],
    /,
    *,
    pdb: Annotated[
        bool,
        Parameter(
            name="--pdb",
            negative=(),
            show_default=False,
            help="Where it fails, stay there in the debugger.",
        ),
    ] = False,
    stores: Stores = Stores(),  # noqa: B008 - frozen
) -> int:
    """Run one node of a recorded run again in this process, with its recorded inputs.

    The run is not touched. What the node prints is seen as it comes; its value goes to stdout,
    the whole traceback to stderr.
    """
    console = Console()
    if pdb and not sys.stdin.isatty():
        message = "onready debug: --pdb needs a terminal to ask in"
        raise Usage(message)
    current_folder_first()
    with tempfile.TemporaryDirectory(prefix="onready-debug-") as folder:
        call = asyncio.run(_prepare(run, node, stores, Path(folder), console))
        # In a context of its own: whoever calls us is in no node afterwards.
        return copy_context().run(partial(_run, call, console, pdb=pdb))


@dataclass(frozen=True, slots=True)
class Call:
    """What is to be run: `run` gives the value, `check` what would be recorded of it."""

    key: NodeKey
    source: WorkerSource
    attempt: int
    run: Callable[[], object]
    check: Callable[[object], object]


# --- which node, and with what --------------------------------------------------------------------


async def _prepare(text: str, node: str, stores: Stores, folder: Path, console: Console) -> Call:
    async with open_for_reading(stores) as engine:
        record = await find_run(engine, text)
        story = await read_story(engine, record.run)
        plan = await _linked(story, record.name)
        key, found = _find(plan, story, node, record.name)
        arguments, _ = story.arguments(key)
        own = [arg.name for arg in found.args if not isinstance(arg.value, FromProvided)]
        _announce(console, plan, key, record.name, {name: arguments[name] for name in own})
        return await _call(engine, story, plan, key, found, arguments, folder)


async def _linked(story: Story, name: str) -> Plan:
    from onready.engine.plan.link import link

    if story.plan is None:
        message = f"onready debug: the catalog has no plan of {name} any more"
        raise Usage(message)
    return await asyncio.to_thread(link, story.plan)


def _find(plan: Plan, story: Story, text: str, name: str) -> tuple[NodeKey, PlanNode]:
    try:
        key = NodeKey.parse(text)
    except ValueError as error:
        message = f"onready debug: {error}"
        raise Usage(message) from None
    found = find_node(plan, key)
    known = [str(key) for key in story.board.ends]
    if found is None or found.task is None or (found.kind == "map") != (key.index is not None):
        hint = did_you_mean(text, known) or f"; it has {some(known) or 'run none yet'}"
        what = "is no single node" if found is not None else "is no node"
        message = f"onready debug: {text} {what} of {name}{hint}"
        raise Usage(message)
    return key, found


def _announce(
    console: Console, plan: Plan, key: NodeKey, name: str, arguments: Mapping[str, Known]
) -> None:
    console.say(f"{console.err(str(key), 'bold')} of run {name}, again in this process")
    inputs = [f"{name}={summarise_known(value)}" for name, value in arguments.items()]
    if inputs:
        console.say(f"  inputs  {some(inputs, 8, '  ')}")
    place = "/".join(path_of(key))
    for change in drift_of(plan):
        if change.node == place:
            text = inside(f"its code changed since the run ({change.where})")
            console.say(f"  {console.err('note:', 'yellow')} {text}")


def summarise_known(value: Known) -> str:
    """A value in a few words; dots where it has to be fetched first."""
    from onready.engine.plan.arguments import Unknown

    return "..." if isinstance(value, Unknown) else summarise(value, 36)


async def _call(
    engine: Engine,
    story: Story,
    plan: Plan,
    key: NodeKey,
    node: PlanNode,
    arguments: Mapping[str, Known],
    folder: Path,
) -> Call:
    assert node.task is not None
    task, runtime = plan.tasks[node.task], plan.runtimes[node.task]
    attempt = story.attempts.get(key, 1)
    source = WorkerSource(story.run, folder / "scratch", tell_by_variable)
    failure = _failure_around(story, key)
    given = Given(plan, engine.catalog, folder / "inputs", failure, engine._secrets)
    if isinstance(task.work, Shell):
        shell, stored = task.work, await given.stored(node, arguments)
        hidden = await given.variables(shell)
        return Call(
            key, source, attempt, lambda: _program(shell, stored, hidden, folder), lambda x: x
        )
    function = runtime.function
    assert function is not None
    live = await given.live(node, arguments, source.node_context(key, attempt))
    returns = (
        ValueType.of(runtime.returns, task.codec)
        if runtime.typed_return or task.codec
        else ValueType.any()
    )
    return Call(key, source, attempt, lambda: run_function(function, live), returns.encode)


def _failure_around(story: Story, key: NodeKey) -> Failure | None:
    """What a handler at `key` was to make good for: the last failure in the arm beside its own."""
    here: NodeKey | None = key
    while here is not None:
        if here.arm == "handler":
            body = str(NodeKey(here.name, here.parent).choose("body")) + "/"
            found = [one for at, one in story.failed.items() if str(at).startswith(body)]
            return found[-1] if found else None
        here = here.parent
    return None


# --- running it -----------------------------------------------------------------------------------


def _run(call: Call, console: Console, *, pdb: bool) -> int:
    bind((call.source, call.key, call.attempt))
    began = time.monotonic()
    try:
        value = call.run()
        call.check(value)
    except ValueMismatch as error:
        console.complain(f"{console.err('x', 'red')} {call.key} failed: {error}")
        return FAILED
    except subprocess.CalledProcessError as error:
        status = _status(error.returncode)
        console.complain(f"{console.err('x', 'red')} {call.key} failed: {status}")
        return FAILED
    except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever the user's code raises
        trace = _users(error.__traceback__)
        text = mask_text("".join(traceback.format_exception(type(error), error, trace)).rstrip())
        console.complain(f"{text}\n{console.err('x', 'red')} {call.key} failed in {_ago(began)}")
        if pdb:
            _post_mortem(trace)
        return FAILED
    sys.stdout.flush()
    if value is not None:
        console.out(result_text(value))
    console.say(f"{console.err(console.tick(), 'green')} {call.key} succeeded in {_ago(began)}")
    return OK


def _ago(began: float) -> str:
    return took(time.monotonic() - began)


def _status(code: int) -> str:
    return f"exit status {code}" if code >= 0 else f"killed by signal {-code}"


def _users(trace: TracebackType | None) -> TracebackType | None:
    """The traceback from the user's first frame on."""
    others = tuple(f"{Path(module.__file__ or '').parent}{os.sep}" for module in (onready, asyncio))
    here = trace
    while here is not None:
        if not here.tb_frame.f_code.co_filename.startswith(others):
            return here
        here = here.tb_next
    return trace


def _post_mortem(trace: TracebackType | None) -> None:
    import pdb  # noqa: T100 - the user asked for the debugger by `--pdb`

    pdb.post_mortem(trace)


def _program(
    shell: Shell, stored: Mapping[str, Stored], hidden: Mapping[str, str], folder: Path
) -> None:
    """Run the program in a folder of its own, its output as it comes; its outputs, or nothing."""
    given = program.texts(stored)
    argv = program.arguments(shell, given)
    own = folder / "program"
    own.mkdir(mode=0o700)
    sys.stderr.write(f"  $ {cut(mask_text(' '.join(argv)), 200)}\n")
    sys.stderr.flush()
    environment = os.environ | program.environment(shell, given) | dict(hidden)
    try:
        subprocess.run(argv, cwd=own, env=environment, check=True)
    except OSError as error:
        message = f"{argv[0]} cannot be started: {error.strerror}"
        raise ValueMismatch(message) from error
    missing = [path for path in shell.outputs if not (own / path).is_file()]
    if missing:
        message = f"it left no {missing[0]!r}"
        raise ValueMismatch(message)
