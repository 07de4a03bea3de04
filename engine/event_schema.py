"""The published JSON schema (2020-12) of events, worked out from the event classes themselves.

`python -m onready.engine.event_schema` prints it; `docs/events.schema.json` holds it.

Rule of this room: describes what `wire.py` writes, and decides nothing of it.
"""

from __future__ import annotations

import json
import sys
from typing import Final, Literal, cast, get_args, get_origin

import msgspec

from onready.engine.errors import Failure, Frame
from onready.engine.events import EVENT_VERSION, AnyEvent, Event
from onready.engine.names import NodeKey
from onready.engine.values.stored import Compound, Stored
from onready.engine.wire import Json

_PLAIN: Final[dict[object, Json]] = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: {"type": "boolean"},
    None: {"type": "null"},
    type(None): {"type": "null"},
    NodeKey: {"$ref": "#/$defs/node"},
    Failure: {"$ref": "#/$defs/failure"},
    Frame: {"$ref": "#/$defs/frame"},
}

_KINDS: Final = [
    kind
    for field in msgspec.structs.fields(Compound)
    if field.name == "kind"
    for kind in get_args(field.type)
]

_VALUE: Final[Json] = {
    "description": "A value: scalars as they are, everything else as an object.",
    "oneOf": [
        {"type": ["null", "boolean", "number", "string"]},
        {
            "description": "A float that JSON lacks.",
            "type": "object",
            "required": ["float"],
            "properties": {"float": {"enum": ["nan", "inf", "-inf"]}},
        },
        {
            "description": "In the bytes of a codec. `value` is the JSON of codec json; `data` is "
            "base64, also beside a `value` that does not encode to the very same bytes; `digest` "
            "is the BLAKE3 hash of a blob in the catalog. `size` is in bytes.",
            "type": "object",
            "required": ["codec", "size", "meta"],
            "properties": {
                "codec": {"type": "string"},
                "size": {"type": "integer", "minimum": 0},
                "meta": {"type": "string"},
                "value": True,
                "data": {"type": "string", "contentEncoding": "base64"},
                "digest": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
            },
        },
        {
            "description": "A list, tuple or dict of values; `keys` are those of a dict, in order. "
            "`parts` is one value in pieces: item 0 is its JSON, which refers to the others.",
            "type": "object",
            "required": ["kind", "items", "keys"],
            "properties": {
                "kind": {"enum": _KINDS},
                "items": {"type": "array", "items": {"$ref": "#/$defs/value"}},
                "keys": {"type": "array", "items": {"type": "string"}},
            },
        },
        {
            "description": "A live object of an engine in memory: its type, nothing more.",
            "type": "object",
            "required": ["live"],
            "properties": {"live": {"type": "string"}},
        },
    ],
}


def event_schema() -> Json:
    """The schema of what `wire.to_json` gives. Readers must allow fields that they do not know."""
    kinds = [cast("type[Event]", kind) for kind in get_args(AnyEvent)]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "onready event",
        "description": "One recorded fact of a run. Later releases add fields, and keep these.",
        "oneOf": [{"$ref": f"#/$defs/{_tag(kind)}"} for kind in kinds],
        "$defs": {
            "node": {"type": "string", "description": "A node's key: train/fold[3]/fit"},
            "value": _VALUE,
            "frame": _struct(Frame),
            "failure": _struct(Failure),
            **{_tag(kind): _event(kind) for kind in kinds},
        },
    }


def _tag(kind: type[Event]) -> str:
    return str(kind.__struct_config__.tag)


def _event(kind: type[Event]) -> Json:
    fields = [field for field in msgspec.structs.fields(kind) if field.name not in {"seq", "at"}]
    properties: Json = {
        "run": {"type": "string", "description": "The run's id."},
        "seq": {"type": "integer", "minimum": 1, "description": "Gapless within the run."},
        "at": {"type": "string", "format": "date-time", "description": "UTC."},
        "type": {"const": _tag(kind)},
        "v": {"const": EVENT_VERSION},
    }
    required = [*properties, *(field.name for field in fields if field.required)]
    properties.update({field.name: _schema(field.type) for field in fields})
    return {
        "description": " ".join((kind.__doc__ or "").split()),
        "type": "object",
        "required": required,
        "properties": properties,
    }


def _struct(kind: type[msgspec.Struct]) -> Json:
    fields = msgspec.structs.fields(kind)
    return {
        "type": "object",
        "required": [field.name for field in fields if field.required],
        "properties": {field.name: _schema(field.type) for field in fields},
    }


def _schema(kind: object) -> Json:
    """The schema of one field's type."""
    if kind == Stored:
        return {"$ref": "#/$defs/value"}
    plain = _PLAIN.get(kind)
    if plain is not None:
        return plain
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin is tuple:
        return {"type": "array", "items": _schema(arguments[0])}
    if origin is dict:
        return {"type": "object", "additionalProperties": _schema(arguments[1])}
    return {"anyOf": [_schema(argument) for argument in arguments]}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(event_schema(), indent=2) + "\n")
