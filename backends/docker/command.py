"""Command nodes in containers: any image, any program, nothing of onready inside.

Rule of this room: programs alone; Python functions in containers are in `node.py`.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal

import anyio

from onready.backends.docker.body import Order, invoking_user
from onready.backends.docker.frames import LogFrames
from onready.backends.docker.options import NodeOptions
from onready.backends.docker.outcomes import bad_end
from onready.backends.docker.running import Desk, Job, run_job
from onready.backends.docker.scratch import SECRETS, place_secrets
from onready.backends.docker.states import Ending
from onready.backends.outputs import collect_files, collect_text, inputs_of
from onready.backends.relay import resolver
from onready.backends.text import OutputText
from onready.engine.errors import SecretError, ValueMismatch
from onready.engine.failure import failure_from
from onready.engine.folders import make_private
from onready.engine.spi import Attempt, Failed, Mount, Outcome, Reporter, Shell
from onready.engine.values.secret import secret_inputs
from onready.engine.worker import program


async def run_command(
    desk: Desk,
    shell: Shell,
    options: NodeOptions,
    attempt: Attempt,
    report: Reporter,
    *,
    rejoin: bool,
) -> Outcome | None:
    """Run the program's container to its end; its outcome. Leaves no file behind."""
    left: list[str | Path] = []
    text = None if shell.outputs else OutputText(f"{attempt.folder}.stdout")
    try:
        if rejoin:  # the container that is there has its files
            order = Order(())
            left.append(attempt.folder)
        else:
            given = await inputs_of(shell, attempt, left)
            order = Order(program.arguments(shell, given), user=invoking_user())
            prepare = partial(_prepare, order, shell, options, attempt, given, left)
            if shell.outputs or shell.secrets or options.secrets or secret_inputs(attempt.inputs):
                await anyio.to_thread.run_sync(prepare)
            else:  # no file to make: to ask a thread would cost more
                prepare()

        def output(stream: Literal["stdout", "stderr"], data: bytes) -> None:
            report.log(stream, data)
            if text is not None and stream == "stdout":
                text.feed(data)

        async def judge(ending: Ending) -> Outcome:
            if ending.code != 0:
                return bad_end(attempt, shell.argv[0], ending, report)
            if text is None:
                return await collect_files(shell, attempt, str(attempt.folder / "work"))
            return await collect_text(text, attempt, report)

        image = shell.image or options.image
        job = Job(attempt, options, image, order, attempt.catalog, LogFrames(output), judge)
        return await run_job(desk, job, report, rejoin=rejoin)
    except (ValueMismatch, SecretError) as error:
        return Failed(failure_from(error, node=str(attempt.key), attempt=attempt.number))
    finally:
        if text is not None and text.spooled:
            left.append(text.spool)
        if left and not attempt.fenced:
            with anyio.CancelScope(shield=True):  # a few files of our own
                await anyio.to_thread.run_sync(_remove, text, left)


def _prepare(
    order: Order,
    shell: Shell,
    options: NodeOptions,
    attempt: Attempt,
    given: dict[str, str],
    left: list[str | Path],
) -> None:
    """Complete the order; make the files that the container needs."""
    folder = attempt.folder
    hidden = secret_inputs(attempt.inputs)
    shown = {name: text for name, text in given.items() if name not in hidden}
    order.environment |= program.environment(shell, shown)
    secrets = {f"{program.PREFIX}{name.upper()}": given[name] for name in hidden}
    named = {**dict(shell.secrets), **options.secrets}
    if named:
        resolve = resolver(attempt)
        secrets |= {variable: resolve(name) for variable, name in named.items()}
    if secrets:
        left.append(folder)
        place_secrets(folder, secrets, order)
        order.environment |= {f"{name}_FILE": f"{SECRETS}/{name}" for name in secrets}
    if shell.outputs:
        left.append(folder)
        work = make_private(folder / "work")
        if options.user:
            work.chmod(0o777)  # somebody else writes there; the folder around it is ours alone
        order.workdir = str(work)
    if left:
        # Files among the inputs have their paths here: the same inside.
        order.mounts.append(Mount(str(folder), str(folder)))


def _remove(text: OutputText | None, left: list[str | Path]) -> None:
    if text is not None:
        text.end()
    for path in left:
        shutil.rmtree(path, ignore_errors=True)
        with suppress(OSError):  # it was no folder
            Path(path).unlink()
