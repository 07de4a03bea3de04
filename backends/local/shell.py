"""Shell nodes: a program in its own folder, values in as arguments and variables.

Rule of this room: programs alone; Python functions in processes are in `node.py`.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

import anyio

from onready.backends.local.child import Launch
from onready.backends.local.environment import marks
from onready.backends.local.host import CannotStart, Host
from onready.backends.local.running import bad_end, run_child
from onready.backends.outputs import collect_files, collect_text, inputs_of, with_secrets
from onready.backends.results import config_failure
from onready.backends.text import OutputText
from onready.engine.errors import SecretError, ValueMismatch
from onready.engine.failure import failure_from
from onready.engine.spi import Attempt, Failed, Outcome, Reporter, Shell
from onready.engine.worker import program


async def run_shell(host: Host, shell: Shell, attempt: Attempt, report: Reporter) -> Outcome:
    """Run the program to its end; its outcome. Leaves no file behind."""
    left: list[str | Path] = []
    try:
        given = await inputs_of(shell, attempt, left)
        return await _run(host, await with_secrets(shell, attempt), given, attempt, report, left)
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
        ending = await run_child(launch, host, report, attempt)
        if ending.code != 0:
            return bad_end(attempt, shell.argv[0], ending, report)
        if text is None:
            return await collect_files(shell, attempt, folder.path)
        return await collect_text(text, attempt, report)
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
