"""Envelopes and result records, as every backend that leaves the process writes and reads them.

Rule of this room: data and the catalog; how an attempt is started and watched is each backend's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from onready.backends.relay import secret_settings
from onready.engine.crashpoints import crash_point
from onready.engine.errors import BackendError, Failure
from onready.engine.spi import (
    Attempt,
    Call,
    Catalog,
    Envelope,
    Failed,
    Lost,
    Outcome,
    Reporter,
    ResultRecord,
    result_name,
)
from onready.engine.values.stored import Durable
from onready.engine.worker.record import decode_record, encode_record

TAIL: Final = 20
"""Last lines of output that a failure shows."""


def envelope_of(
    attempt: Attempt, call: Call, address: str, inputs: Mapping[str, Durable]
) -> Envelope:
    """The envelope of an attempt. The engine keeps the time, so it has no limit of its own."""
    return Envelope(
        attempt.run,
        str(attempt.key),
        attempt.number,
        attempt.epoch,
        attempt.name,
        call,
        dict(inputs),
        address,
        attempt.fingerprint,
        secrets=secret_settings(attempt),
    )


async def recorded(attempt: Attempt, catalog: Catalog, report: Reporter) -> Outcome | None:
    """The outcome that the attempt has committed, if it has."""
    try:
        data = await catalog.read(result_name(attempt.run, attempt.name))
    except KeyError:
        return None
    try:
        record = decode_record(data)
    except ValueError as error:
        message = f"{attempt.name} left {error}: is the onready there another version?"
        raise BackendError(message) from error
    labels = (record.run, record.node, record.attempt)
    if labels != (attempt.run, str(attempt.key), attempt.number):
        message = f"the result record of {attempt.name} belongs to {labels}"
        raise BackendError(message)
    if isinstance(record.outcome, Failed):
        failure = msgspec.structs.replace(record.outcome.failure, log=report.tail(TAIL))
        return Failed(failure)
    return record.outcome


async def commit(
    attempt: Attempt,
    catalog: Catalog,
    outcome: Outcome,
    started: float,
    ended: float,
    report: Reporter,
) -> Outcome:
    """Write the record for a worker that has not done it itself; the outcome that is recorded.

    Whoever was first has committed. Times are UTC seconds since the epoch. What is lost is no
    result, and is given back as it is.
    """
    if isinstance(outcome, Lost):
        return outcome
    record = ResultRecord(
        attempt.run,
        str(attempt.key),
        attempt.number,
        attempt.epoch,
        outcome,
        started,
        ended,
    )
    name = result_name(attempt.run, attempt.name)
    crash_point("result.before")
    new = await catalog.put_if_absent(name, encode_record(record))
    crash_point("result.after")
    if new:
        return outcome
    found = await recorded(attempt, catalog, report)
    return outcome if found is None else found


def config_failure(attempt: Attempt, message: str) -> Failure:
    """The failure of an attempt that no second try would help."""
    return Failure("config", message, node=str(attempt.key), attempt=attempt.number)
