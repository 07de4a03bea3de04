"""Shell nodes: a program in its own folder, values in as arguments and variables.

Rule of this room: programs alone; Python functions in processes are in `node.py`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio
import msgspec

from onready.backends.local.child import Launch
from onready.backends.local.environment import marks
from onready.backends.local.host import CannotStart, Host
from onready.backends.local.running import (
    TAIL,
    bad_end,
    config_failure,
    run_child,
)
from onready.backends.local.text import OutputText
from onready.engine.errors import Failure, SecretError, ValueMismatch
from onready.engine.failure import failure_from
from onready.engine.spi import Attempt, Failed, Outcome, Reporter, Shell, Succeeded
from onready.engine.values import File, ValueType, bring, needs_bringing, needs_settling, settle
from onready.engine.values.secret import reveal, secret_inputs
from onready.engine.values.stored import Encoded, Stored
from onready.engine.worker import program

_TEXT = ValueType.of(str)
_FILES = ValueType.of(dict[str, File])


async def run_shell(host: Host, shell: Shell, attempt: Attempt, report: Reporter) -> Outcome:
    """Run the program to its end; its outcome. Leaves no file behind."""
    left: list[str | Path] = []
    try:
        given = await _inputs(shell, attempt, left)
        return await _run(host, await _with_secrets(shell, attempt), given, attempt, report, left)
    except (ValueMismatch, SecretError) as error:
        return Failed(failure_from(error, node=str(attempt.key), attempt=attempt.number))
    finally:
        if left:
            with anyio.CancelScope(shield=True):  # a few files of our own
                await anyio.to_thread.run_sync(_remove, left)


def _remove(left: list[str | Path]) -> None:
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):  # it was no folder
            Path(path).unlink()


async def _inputs(shell: Shell, attempt: Attempt, left: list[str | Path]) -> dict[str, str]:
    if not attempt.inputs:
        return {}
    inputs: dict[str, Stored] = dict(attempt.inputs)
    hidden = secret_inputs(inputs)
    shown = sorted(hidden & program.placeholders(shell)) if hidden else []
    if shown:
        message = f"{{{shown[0]}}} would put a secret into a command line; {program.CURE}"
        raise SecretError(message)
    for name in hidden:
        inputs[name] = await anyio.to_thread.run_sync(reveal, inputs[name], _resolve(attempt))
    for name, stored in attempt.inputs.items():
        if needs_bringing(stored):
            left.append(attempt.folder)
            inputs[name] = await bring(stored, attempt.catalog, attempt.folder)
    return program.texts(inputs)


async def _with_secrets(shell: Shell, attempt: Attempt) -> Shell:
    """The command with the values of its secret variables: not to be kept."""
    if not shell.secrets:
        return shell
    resolve = _resolve(attempt)
    found = [
        (variable, await anyio.to_thread.run_sync(resolve, name))
        for variable, name in shell.secrets
    ]
    return msgspec.structs.replace(shell, environment=(*shell.environment, *found), secrets=())


def _resolve(attempt: Attempt) -> Callable[[str], str]:
    if attempt.secrets is None:
        message = "this engine has no secret providers"
        raise SecretError(message)
    return attempt.secrets.resolve


async def _run(
    host: Host,
    shell: Shell,
    given: Mapping[str, str],
    attempt: Attempt,
    report: Reporter,
    left: list[str | Path],
) -> Outcome:
    folders = host.folders(attempt.folder.parent)
    # Not in the program's folder: it must not find there what it did not make.
    text = None if shell.outputs else OutputText(f"{attempt.folder}.stdout")
    folder = await folders.take()
    try:
        launch = await _launch(host, shell, given, attempt, report, text, folder.path)
        ending = await run_child(launch, host, report, attempt.grace)
        if ending.code != 0:
            return bad_end(attempt, shell.argv[0], ending, report)
        if text is None:
            return await _files(shell, attempt, folder.path)
        return await _text(text, attempt, report)
    except (CannotStart, ValueError) as error:
        return Failed(config_failure(attempt, str(error)))
    finally:
        if text is not None and text.spooled:
            left.append(text.spool)
        folders.give_back(folder)


async def _launch(
    host: Host,
    shell: Shell,
    given: Mapping[str, str],
    attempt: Attempt,
    report: Reporter,
    text: OutputText | None,
    folder: str,
) -> Launch:
    own = program.environment(shell, given)
    argv = program.arguments(shell, given)

    def output(data: bytes) -> None:
        report.log("stdout", data)
        if text is not None:
            text.feed(data)

    return Launch(
        await host.program(argv[0], own.get("PATH")),
        argv,
        host.environment.with_(own | marks(attempt)),
        ((1, output), (2, partial(report.log, "stderr"))),
        folder,
    )


async def _files(shell: Shell, attempt: Attempt, folder: str) -> Outcome:
    fault = await anyio.to_thread.run_sync(_fault, folder, shell.outputs)
    if fault:
        message = f"{shell.argv[0]} ended well, but {fault}"
        return Failed(Failure("error", message, node=str(attempt.key), attempt=attempt.number))
    files = {path: File(Path(folder, path)) for path in shell.outputs}
    stored = _FILES.encode(files, validate=False)
    return Succeeded(await settle(stored, attempt.catalog))


def _fault(folder: str, outputs: tuple[str, ...]) -> str:
    inside = Path(folder).resolve()
    for path in outputs:
        place = Path(folder, path)
        if not place.exists():
            return f"it left no {path!r}"
        if not place.resolve().is_relative_to(inside):
            return f"{path!r} is a link that leads out of its folder"
        if not place.is_file():
            return f"{path!r} is no file"
    return ""


async def _text(text: OutputText, attempt: Attempt, report: Reporter) -> Outcome:
    if text.spooled:
        await anyio.to_thread.run_sync(text.end)
    if not text.fault and text.spooled:
        size = (await anyio.Path(text.spool).stat()).st_size
        digest = await attempt.catalog.put(Path(text.spool))
        return Succeeded(Encoded("json", None, digest, size))
    if not text.fault:
        try:
            stored = _TEXT.encode(text.text())
        except UnicodeDecodeError as error:
            text.fault = f"standard output is not UTF-8 text: {error}"
        else:
            if needs_settling(stored):
                stored = await settle(stored, attempt.catalog)
            return Succeeded(stored)
    failure = Failure(
        "error",
        text.fault,
        "ValueMismatch",
        node=str(attempt.key),
        attempt=attempt.number,
        log=report.tail(TAIL),
    )
    return Failed(failure)
