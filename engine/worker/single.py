"""The one-node command: one envelope in, one result record, one exit code.

    catalog opened -> record there already? -> inputs brought -> run -> outputs settled -> record

The record is the commit: created once per attempt, never changed. Everything before it may happen
again, everything after it is silence.

Rule of this room: no scheduler, no dispatcher, no run log. What the user's code does wrong is in
the record; what the surroundings do wrong is in the exit code.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from onready.engine.crashpoints import crash_point
from onready.engine.errors import ConfigError, EnvironmentFault, FailureKind, PluginError
from onready.engine.failure import failure_from
from onready.engine.names import NodeKey, is_run_id
from onready.engine.spi import (
    Call,
    Envelope,
    Failed,
    ResultRecord,
    Shell,
    Succeeded,
    result_name,
)
from onready.engine.worker.calling import run_call
from onready.engine.worker.catalogs import WorkerCatalog, providers
from onready.engine.worker.ending import Terminated, TimeUp, die_by_term, raise_after, raise_on_term
from onready.engine.worker.record import encode_record
from onready.engine.worker.speaking import WorkerSource, tell_by_variable

DONE: Final = 0
NODE_FAILED: Final = 1
BAD_ENVELOPE: Final = 64
TRY_AGAIN: Final = 75

ENVELOPE_VARIABLE: Final = "ONREADY_ENVELOPE"
"""The envelope itself, as JSON, where no file is given."""
PATH_VARIABLE: Final = "ONREADY_PATH"
"""The driver's `sys.path`, for workers on its own machine."""
FOLDER_VARIABLE: Final = "ONREADY_FOLDER"
"""The attempt's scratch folder, where the backend chose one."""
SECRETS_VARIABLE: Final = "ONREADY_SECRETS"
"""Variables of this process whose values are in files: a JSON object, paths by variable."""
_VERSION: Final = 1


class BadEnvelope(Exception):
    """The envelope is not one that this version can run."""


def read_envelope(data: bytes) -> Envelope:
    """The envelope in `data`, checked."""
    try:
        envelope = msgspec.json.decode(data, type=Envelope)
        NodeKey.parse(envelope.node)
    except (msgspec.DecodeError, ValueError) as error:
        message = f"not an envelope: {error}"
        raise BadEnvelope(message) from error
    if envelope.version != _VERSION:
        message = f"the envelope has version {envelope.version}; this onready knows {_VERSION}"
        raise BadEnvelope(message)
    if not is_run_id(envelope.run):
        message = f"not a run id: {envelope.run!r}"
        raise BadEnvelope(message)
    if isinstance(envelope.work, Shell):
        message = "the one-node command runs Python functions; programs are run by the backend"
        raise BadEnvelope(message)
    return envelope


def execute_single_node(envelope: Envelope) -> int:
    """Run the attempt that `envelope` holds and commit its result; the exit code.

    0: a record of success or an older record is there. 1: the node failed and the record says
    why. 64: the envelope leads to no catalog. 75: the catalog or the machine failed; try again.
    Runs the function in this thread, which should be the main one.
    """
    try:
        catalog = WorkerCatalog(envelope.catalog)
    except (ConfigError, PluginError) as error:
        return _say(BAD_ENVELOPE, f"the catalog {envelope.catalog!r} cannot be used: {error}")
    except (EnvironmentFault, OSError) as error:
        return _say(TRY_AGAIN, f"the catalog {envelope.catalog!r} cannot be opened: {error}")
    try:
        return _attempt(envelope, catalog)
    except (EnvironmentFault, OSError) as error:
        return _say(TRY_AGAIN, f"{type(error).__name__}: {error}")
    finally:
        catalog.close()


def _attempt(envelope: Envelope, catalog: WorkerCatalog) -> int:
    name = result_name(envelope.run, envelope.name)
    try:
        catalog.ask(catalog.catalog.read, name)
    except KeyError:
        pass
    else:
        return DONE
    started = time.time()
    outcome = _outcome(envelope, catalog)
    record = ResultRecord(
        envelope.run,
        envelope.node,
        envelope.attempt,
        envelope.epoch,
        outcome,
        started,
        time.time(),
    )
    # Whoever was first has committed; this attempt's own outcome is of no interest then.
    crash_point("result.before")
    created = catalog.ask(catalog.catalog.put_if_absent, name, encode_record(record))
    crash_point("result.after")
    if not created:
        return DONE
    return DONE if isinstance(outcome, Succeeded) else NODE_FAILED


def _outcome(envelope: Envelope, catalog: WorkerCatalog) -> Succeeded | Failed:
    work = envelope.work
    assert isinstance(work, Call)  # `read_envelope` saw to it
    folder = _folder()
    source = WorkerSource(envelope.run, folder, tell_by_variable)
    secrets = providers(envelope.secrets)
    try:
        inputs = catalog.bring(envelope.inputs, folder)
        if envelope.timeout is not None:
            raise_after(envelope.timeout)
        key = NodeKey.parse(envelope.node)
        outcome = run_call(work, inputs, source, key, envelope.attempt, secrets)
        raise_after(0)
        if isinstance(outcome, Succeeded):
            outcome = Succeeded(catalog.settle(outcome.value))
    except TimeUp as error:
        return _failed(envelope, error, "timeout")
    except (EnvironmentFault, Terminated):
        raise
    except Exception as error:  # noqa: BLE001 - a file that is gone, a value that does not fit: the node's
        return _failed(envelope, error)
    else:
        return outcome
    finally:
        source.remove_folder()
        if secrets is not None:
            secrets.close()


def _failed(envelope: Envelope, error: BaseException, kind: FailureKind | None = None) -> Failed:
    return Failed(failure_from(error, node=envelope.node, attempt=envelope.attempt, kind=kind))


def _folder() -> Path:
    given = os.environ.get(FOLDER_VARIABLE)
    if given:
        return Path(given)
    import tempfile

    # Only a name that nobody else can have: the folder is made when it is first asked for.
    return Path(tempfile.gettempdir()) / f"onready-{os.getpid()}-{time.time_ns():x}"


def _say(code: int, message: str) -> int:
    sys.stderr.write(f"onready: {message}\n")
    return code


def main(arguments: Sequence[str]) -> int:
    """The command: the path of an envelope, or nothing and the envelope in ONREADY_ENVELOPE."""
    try:
        data = _given(arguments)
        envelope = read_envelope(data)
    except (BadEnvelope, OSError) as error:
        return _say(BAD_ENVELOPE, str(error))
    if os.environ.get(PATH_VARIABLE):
        sys.path[:] = os.environ[PATH_VARIABLE].split(os.pathsep)
    _take_secrets()
    raise_on_term()
    try:
        return execute_single_node(envelope)
    except Terminated:  # pragma: no cover - it dies by the signal
        sys.stdout.flush()
        die_by_term()


def _take_secrets() -> None:
    given = os.environ.pop(SECRETS_VARIABLE, "")
    for name, path in msgspec.json.decode(given, type=dict[str, str]).items() if given else ():
        os.environ[name] = Path(path).read_text(encoding="utf-8")


def _given(arguments: Sequence[str]) -> bytes:
    if len(arguments) == 1 and not arguments[0].startswith("-"):
        return Path(arguments[0]).read_bytes()
    text = os.environ.get(ENVELOPE_VARIABLE)
    if not arguments and text:
        return text.encode()
    message = f"give one path of an envelope, or the envelope in {ENVELOPE_VARIABLE}"
    raise BadEnvelope(message)
