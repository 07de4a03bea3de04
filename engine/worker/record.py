"""The bytes of envelopes and result records: JSON, between a driver and the one-node command.

Rule of this room: bytes and data; where they are kept is the caller's.
"""

from __future__ import annotations

import math

import msgspec

from onready.engine.spi import Envelope, ResultRecord, Succeeded
from onready.engine.values.stored import Compound, Stored

_VERSION = 1


def encode_envelope(envelope: Envelope) -> bytes:
    """The envelope as JSON; TypeError where an input is a live object."""
    inputs = {name: finite(stored) for name, stored in envelope.inputs.items()}
    return msgspec.json.encode(msgspec.structs.replace(envelope, inputs=inputs))


def encode_record(record: ResultRecord) -> bytes:
    """The record as JSON."""
    if isinstance(record.outcome, Succeeded):
        outcome = Succeeded(finite(record.outcome.value))
        record = msgspec.structs.replace(record, outcome=outcome)
    return msgspec.json.encode(record)


def decode_record(data: bytes) -> ResultRecord:
    """The record in `data`; ValueError where it is none that this version knows."""
    record = msgspec.json.decode(data, type=ResultRecord)
    if record.version != _VERSION:
        message = f"a result record of version {record.version}; this onready knows {_VERSION}"
        raise ValueError(message)
    return record


def finite(stored: Stored) -> Stored:
    """JSON has no number for these: an infinite or undefined float becomes a tagged value."""
    if type(stored) is float and not math.isfinite(stored):
        from onready.engine.values.writing import dumps

        return dumps(stored, frozenset)
    if isinstance(stored, Compound):
        return Compound(stored.kind, tuple(map(finite, stored.items)), stored.keys)
    return stored
