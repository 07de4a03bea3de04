"""Python functions in containers: the one-node command, with its envelope and its catalog.

Rule of this room: the container is believed through its result record alone; its exit code says
only why there is none.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import msgspec

from onready.backends.docker.body import Order, invoking_user
from onready.backends.docker.code import mounts
from onready.backends.docker.frames import LogFrames
from onready.backends.docker.options import NodeOptions
from onready.backends.docker.outcomes import bad_end, failure
from onready.backends.docker.progress import listening, place_pipe
from onready.backends.docker.running import Desk, Job, run_job
from onready.backends.docker.scratch import SECRETS, place_secrets, write_private
from onready.backends.docker.states import Ending
from onready.backends.relay import copy_blobs, reachable, resolver
from onready.backends.results import config_failure, envelope_of, recorded
from onready.engine.errors import BackendError
from onready.engine.spi import (
    Access,
    Attempt,
    Call,
    Catalog,
    Envelope,
    Failed,
    Mount,
    Outcome,
    Reporter,
    Succeeded,
)
from onready.engine.values.secret import secret_names
from onready.engine.worker.record import encode_envelope
from onready.engine.worker.single import (
    BAD_ENVELOPE,
    FOLDER_VARIABLE,
    NODE_FAILED,
    PATH_VARIABLE,
    SECRETS_VARIABLE,
    TRY_AGAIN,
)
from onready.engine.worker.speaking import PIPE_VARIABLE

_HOME: Final = "/tmp"  # noqa: S108 - inside the container
_PIPE: Final = "progress"
_NOT_IMPORTED: Final = re.compile(r"No module named|^(ImportError|ModuleNotFoundError)\b")


async def run_node(
    desk: Desk,
    call: Call,
    options: NodeOptions,
    attempt: Attempt,
    report: Reporter,
    *,
    rejoin: bool,
) -> Outcome | None:
    """Run the function's container to its end; the outcome that it committed."""
    try:
        async with reachable(attempt, "container") as (catalog, access, inputs):
            order = Order(())
            if not rejoin:  # the container that is there has its files
                envelope = envelope_of(attempt, call, access.url, inputs)
                order = await anyio.to_thread.run_sync(
                    partial(_prepare, desk, call, options, attempt, access, envelope)
                )
            job = Job(
                attempt,
                options,
                options.image,
                order,
                catalog,
                LogFrames(report.log),
                partial(_judge, attempt, catalog, report, options),
                _hint(options),
            )
            async with listening(attempt.folder / _PIPE, report):
                outcome = await run_job(desk, job, report, rejoin=rejoin)
            if isinstance(outcome, Succeeded) and catalog is not attempt.catalog:
                await copy_blobs(outcome.value, catalog, attempt.catalog)
            return outcome
    finally:
        if not attempt.fenced:
            with anyio.CancelScope(shield=True):  # a few files of our own
                await anyio.to_thread.run_sync(
                    partial(shutil.rmtree, attempt.folder, ignore_errors=True)
                )


def _prepare(
    desk: Desk,
    call: Call,
    options: NodeOptions,
    attempt: Attempt,
    access: Access,
    envelope: Envelope,
) -> Order:
    """The files that the container needs, and what it is started with. In a thread."""
    folder = attempt.folder
    path = folder / "envelope.json"
    order = Order(_argv(options, path), user=invoking_user())
    variables = {**dict(access.secrets), **options.secrets}
    asked = secret_names(*attempt.inputs.values())
    if variables or asked:
        resolve = resolver(attempt)
        values = {name: resolve(name) for name in asked}
        values |= {variable: resolve(name) for variable, name in variables.items()}
        place_secrets(folder, values, order)
        order.environment[SECRETS_VARIABLE] = json.dumps(
            {variable: f"{SECRETS}/{variable}" for variable in variables}
        )
        # Where the values are for whoever is inside, wherever they come from here.
        envelope = msgspec.structs.replace(envelope, secrets=json.dumps([f"file:{SECRETS}"]))
    write_private(path, encode_envelope(envelope))
    place_pipe(folder / _PIPE)
    order.mounts.append(Mount(str(folder), str(folder)))
    order.mounts += access.mounts
    cpus = int(attempt.resources.cpu)
    order.environment |= {
        **(dict.fromkeys(desk.threads, str(cpus)) if cpus else desk.threads),
        "HOME": _HOME,
        FOLDER_VARIABLE: str(folder / "scratch"),
        PIPE_VARIABLE: str(folder / _PIPE),
        **dict(access.environment),
    }
    if options.code == "mount":
        order.mounts += mounts(desk.folder, call.reference)
        order.environment[PATH_VARIABLE] = os.pathsep.join(
            entry or desk.folder for entry in sys.path
        )
        order.workdir = desk.folder
    return order


def _argv(options: NodeOptions, envelope: Path) -> list[str]:
    if options.code == "image" and not options.python:
        return ["onready", "execute-single-node", str(envelope)]
    python = options.python or sys.executable
    return [python, "-P", "-m", "onready.engine.worker", str(envelope)]


def _hint(options: NodeOptions) -> str:
    """What to do where the image has not what starts the worker."""
    image = options.image
    if options.code == "mount":
        return (
            f"the image {image!r} cannot run this machine's Python: with code='mount' an image "
            "must have the C library that it needs (a Debian or Ubuntu image as new as this "
            "system, for example python:3-slim)"
        )
    cure = "install onready in it (RUN pip install onready), or say code='mount'"
    if options.python:
        return f"the image {image!r} cannot run {options.python} with onready: {cure}"
    return f"the image {image!r} has no `onready` command on its PATH: {cure}"


async def _judge(
    attempt: Attempt, catalog: Catalog, report: Reporter, options: NodeOptions, ending: Ending
) -> Outcome:
    committed = await recorded(attempt, catalog, report)
    if committed is not None:
        return committed
    said = " | ".join(report.tail(3))
    if ending.code == TRY_AGAIN:
        message = f"the worker could not do its part: {said}"
        raise BackendError(message, retryable=True)
    if ending.code == BAD_ENVELOPE:
        return Failed(config_failure(attempt, f"the worker refused the attempt: {said}"))
    if ending.code == 0:
        message = f"the container ended well and left no result record: {said}"
        return Failed(failure(attempt, "error", message, report, code=0))
    last = next(iter(report.tail(1)), "")
    if ending.code == NODE_FAILED and _NOT_IMPORTED.search(last):
        # It came to no record: what is missing is missing for the worker, and not for the node.
        message = f"{_hint(options)}; the worker did not begin: {last}"
        return Failed(failure(attempt, "config", message, report, reason=last, code=1))
    return bad_end(attempt, "the container", ending, report, _hint(options))
