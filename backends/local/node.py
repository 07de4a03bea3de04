"""Python functions in a process of their own: the one-node command, as remote backends start it.

Rule of this room: the process is believed through its result record alone; its exit code says
only why there is none.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

import anyio

from onready.backends.local.child import Launch
from onready.backends.local.environment import marks
from onready.backends.local.host import CannotStart, Host
from onready.backends.local.machine import make_private
from onready.backends.local.running import Ending, bad_end, run_child
from onready.backends.relay import copy_blobs, reachable
from onready.backends.results import config_failure, envelope_of, recorded
from onready.engine.crashpoints import crash_point
from onready.engine.errors import BackendError
from onready.engine.spi import Attempt, Call, Catalog, Failed, Outcome, Reporter, Succeeded
from onready.engine.values.stored import Durable
from onready.engine.worker.record import encode_envelope
from onready.engine.worker.single import BAD_ENVELOPE, FOLDER_VARIABLE, PATH_VARIABLE, TRY_AGAIN
from onready.engine.worker.speaking import PROGRESS_VARIABLE, ProgressLines, write_all

_PROGRESS_DESCRIPTOR: Final = 3


async def run_node(host: Host, call: Call, attempt: Attempt, report: Reporter) -> Outcome:
    """Run the function to its end; the outcome that its process committed."""
    try:
        async with reachable(attempt) as (catalog, access, inputs):
            outcome = await _run(host, call, attempt, report, catalog, access.url, inputs)
            if isinstance(outcome, Succeeded) and catalog is not attempt.catalog:
                await copy_blobs(outcome.value, catalog, attempt.catalog)
            return outcome
    finally:
        with anyio.CancelScope(shield=True):  # a few files of our own
            await anyio.to_thread.run_sync(
                partial(shutil.rmtree, attempt.folder, ignore_errors=True)
            )


async def _run(
    host: Host,
    call: Call,
    attempt: Attempt,
    report: Reporter,
    catalog: Catalog,
    address: str,
    inputs: Mapping[str, Durable],
) -> Outcome:
    envelope = encode_envelope(envelope_of(attempt, call, address, inputs))
    path = attempt.folder / "envelope.json"
    await host.pump.ask(partial(_write, path, envelope))
    more = {
        FOLDER_VARIABLE: str(attempt.folder / "scratch"),
        PATH_VARIABLE: os.pathsep.join(host.module_path()),
        PROGRESS_VARIABLE: str(_PROGRESS_DESCRIPTOR),
    }
    launch = Launch(
        sys.executable,
        (sys.executable, "-P", "-m", "onready.engine.worker", str(path)),
        host.environment.with_(more | marks(attempt)),
        (
            (1, partial(report.log, "stdout")),
            (2, partial(report.log, "stderr")),
            (_PROGRESS_DESCRIPTOR, ProgressLines(report.progress).feed),
        ),
    )
    try:
        ending = await run_child(launch, host, report, attempt)
    except CannotStart as error:
        return Failed(config_failure(attempt, str(error)))
    committed = await recorded(attempt, catalog, report)
    return committed if committed is not None else _without_record(attempt, ending, report)


def _without_record(attempt: Attempt, ending: Ending, report: Reporter) -> Outcome:
    said = " | ".join(report.tail(3))
    if ending.code == TRY_AGAIN:
        message = f"the worker could not do its part: {said}"
        raise BackendError(message, retryable=True)
    if ending.code == BAD_ENVELOPE:
        return Failed(config_failure(attempt, f"the worker refused the attempt: {said}"))
    if ending.code == 0:
        message = "the worker ended well and left no result record"
        raise BackendError(message)
    return bad_end(attempt, "the worker process", ending, report)


def _write(path: Path, content: bytes) -> None:
    crash_point("envelope.before")
    make_private(path.parent)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, content)
    finally:
        os.close(descriptor)
    crash_point("envelope.after")
