"""Events as bytes and as JSON.

Bytes are msgpack, for the stores. The JSON form is for people and other programs: one object per
event, field names spelled out, node keys printed, values readable. It is versioned (`v`), its
schema is in `event_schema.py` beside this file and published under `docs/`.

Rule of this room: pure conversion. No I/O, and nothing here knows a store or a run's state.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Final, cast, get_args

import msgspec

from onready.engine.errors import Failure, Frame, NoCodec
from onready.engine.events import (
    EVENT_VERSION,
    AnyEvent,
    Event,
    RunStarted,
    decode_hook,
    encode_hook,
)
from onready.engine.names import NodeKey
from onready.engine.values.stored import Compound, Live, Stored

# --- bytes ------------------------------------------------------------------------------------

_encode: Final = msgspec.msgpack.Encoder(enc_hook=encode_hook).encode
_UNFIT: Final = (TypeError, ValueError, OverflowError, RecursionError)
_decode: Final = msgspec.msgpack.Decoder(list[AnyEvent], dec_hook=decode_hook).decode


def encode_events(events: Sequence[AnyEvent]) -> bytes:
    """One batch as msgpack. `NoCodec`, naming the node, where a value has no durable form."""
    try:
        return _encode(events)
    except _UNFIT as error:
        raise _blame(events, error) from error


def decode_events(data: bytes) -> list[AnyEvent]:
    """The inverse of `encode_events`. ValueError where it is no batch, or of a newer release."""
    events = _decode(data)
    if events and type(events[0]) is RunStarted and events[0].version > EVENT_VERSION:
        raise ValueError(_newer(events[0].version))
    return events


def _blame(events: Sequence[AnyEvent], error: Exception) -> Exception:
    """The error for the first event of `events` that cannot be encoded on its own."""
    for event in events:
        try:
            _encode(event)
        except _UNFIT as own:
            node = getattr(event, "node", None)
            where = f"node {node}" if node is not None else "the run's inputs"
            return NoCodec(
                f"{where}: {own}; give the value a type that a codec handles, register a codec "
                "(entry point onready.codecs), or set codec='pickle' on the task"
            )
    return error  # pragma: no cover - each event alone can be encoded, and all together not


def _newer(version: object) -> str:
    return (
        f"these events have version {version}, this release reads up to {EVENT_VERSION}: "
        "upgrade onready"
    )


# --- JSON -------------------------------------------------------------------------------------

Json = dict[str, object]
_Convert = Callable[[object], object]


def to_json(run: str, event: AnyEvent) -> Json:
    """The JSON form of `event` of run `run`: strict JSON once dumped, see `event_schema`.

    `at` is cut to microseconds. A live value, which has no durable form, shows its type only.
    """
    form = _FORMS[type(event)]
    data: Json = {
        "run": run,
        "seq": event.seq,
        "at": _time_to_json(event.at),
        "type": form.tag,
        "v": EVENT_VERSION,
    }
    for name, there, _ in form.fields:
        data[name] = there(getattr(event, name))
    return data


def from_json(data: Mapping[str, object]) -> tuple[str, AnyEvent]:
    """The run and the event that `to_json` made; ValueError where the object is not one.

    Unknown fields are left out: later releases may add some.
    """
    version = data.get("v")
    if type(version) is not int or version < 1:
        message = f"not an event: 'v' is {version!r}"
        raise ValueError(message)
    if version > EVENT_VERSION:
        raise ValueError(_newer(version))
    form = _TAGS.get(str(data.get("type")))
    run = data.get("run")
    if form is None or not isinstance(run, str):
        message = f"not an event: 'type' is {data.get('type')!r}, 'run' is {run!r}"
        raise ValueError(message)
    items: list[object] = [form.tag, data.get("seq"), _time_from_json(data.get("at"))]
    for field, (name, _, back) in zip(form.described, form.fields, strict=True):
        if name in data:
            items.append(back(data[name]))
        elif field.required:
            message = f"event {form.tag} lacks {name!r}"
            raise ValueError(message)
        else:
            items.append(msgspec.to_builtins(field.get_default(), builtin_types=(bytes,)))
    event = msgspec.convert(items, AnyEvent, dec_hook=decode_hook, builtin_types=(bytes,))
    return run, cast("AnyEvent", event)


def _time_to_json(at: float) -> str:
    text = datetime.fromtimestamp(round(at, 6), UTC).isoformat(timespec="microseconds")
    return text.replace("+00:00", "Z")


def _time_from_json(text: object) -> float:
    if not isinstance(text, str):
        message = f"not a time: {text!r}"
        raise ValueError(message)  # noqa: TRY004 - one error class for all that is malformed
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        message = f"a time without its zone: {text!r}"
        raise ValueError(message)
    return at.timestamp()


# --- values in JSON ---------------------------------------------------------------------------


def value_to_json(value: Stored) -> object:
    """A stored value, readable: scalars as they are, everything else an object.

    `{"codec", "size", ...}` with `value` (the JSON itself), `data` (base64) or `digest`;
    `{"kind", "items", "keys"}` for a list, tuple or dict of stored values; `{"float": "nan"}` for
    the floats that JSON lacks; `{"live": type}` for what has no durable form.
    """
    if isinstance(value, Live):
        kind = type(value.value)
        return {"live": f"{kind.__module__}.{kind.__qualname__}"}
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else {"float": str(value)}
    if isinstance(value, Compound):
        items = [value_to_json(item) for item in value.items]
        return {"kind": value.kind, "items": items, "keys": list(value.keys)}
    data: Json = {"codec": value.codec, "size": value.size, "meta": value.meta}
    if value.digest is not None:
        data["digest"] = value.digest
    if value.data is not None:
        exact = value.codec == "json" and _inline(value.data, data)
        if not exact:
            data["data"] = base64.b64encode(value.data).decode()
    return data


def _inline(raw: bytes, into: Json) -> bool:
    """Put JSON bytes as `value`; True if encoding that value again gives the same bytes."""
    try:
        parsed = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    into["value"] = parsed
    return msgspec.json.encode(parsed) == raw


def _value_from_json(data: object) -> object:
    """The builtins form of the stored value that `value_to_json` showed."""
    if not isinstance(data, dict):
        return data
    form = cast("Json", data)
    if "float" in form:
        return float(str(form["float"]))
    if "kind" in form:
        items = form.get("items")
        if isinstance(items, list):
            items = [_value_from_json(item) for item in cast("list[object]", items)]
        return ["c", form["kind"], items, form.get("keys", [])]
    if "codec" not in form:
        message = f"not a stored value: {sorted(form)}"
        raise ValueError(message)
    raw: bytes | None = None
    if "data" in form:
        raw = base64.b64decode(str(form["data"]), validate=True)
    elif "value" in form:
        raw = msgspec.json.encode(form["value"])
    return ["e", form["codec"], raw, form.get("digest"), form.get("size"), form.get("meta", "")]


# --- the fields of each event -----------------------------------------------------------------


def _same(value: object) -> object:
    return value


def _keys_to_json(keys: object) -> object:
    return [str(key) for key in cast("tuple[NodeKey, ...]", keys)]


def _inputs_to_json(inputs: object) -> object:
    stored = cast("dict[str, Stored]", inputs)
    return {name: value_to_json(value) for name, value in stored.items()}


def _inputs_from_json(data: object) -> object:
    if not isinstance(data, dict):
        return data
    return {name: _value_from_json(value) for name, value in cast("Json", data).items()}


def _failure_to_json(failure: object) -> object:
    data = msgspec.structs.asdict(cast("Failure", failure))
    data["frames"] = [msgspec.structs.asdict(frame) for frame in data["frames"]]
    data["log"] = list(data["log"])
    data["bases"] = list(data["bases"])
    return data


def _failure_from_json(data: object) -> object:
    if not isinstance(data, dict):
        return data
    form = cast("Json", data)
    items = _as_array(Failure, form)
    position = Failure.__struct_fields__.index("frames")
    frames = items[position]
    if isinstance(frames, (list, tuple)):
        items[position] = [_frame_from_json(frame) for frame in cast("list[object]", frames)]
    return items


def _frame_from_json(data: object) -> object:
    return _as_array(Frame, cast("Json", data)) if isinstance(data, dict) else data


def _as_array(kind: type[msgspec.Struct], form: Json) -> list[object]:
    """The values of an object in the order of the struct's fields, defaults where absent."""
    items: list[object] = []
    for field in msgspec.structs.fields(kind):
        if field.required and field.name not in form:
            message = f"a {kind.__name__.lower()} lacks {field.name!r}"
            raise ValueError(message)
        items.append(form.get(field.name, field.default if not field.required else None))
    return items


def _converters(kind: object) -> tuple[_Convert, _Convert]:
    """How a field of this type goes to JSON and back to builtins."""
    if kind is NodeKey:
        return str, _same
    if kind is Failure:
        return _failure_to_json, _failure_from_json
    if kind == tuple[NodeKey, ...]:
        return _keys_to_json, _same
    if kind == Stored:
        return cast("_Convert", value_to_json), _value_from_json
    if kind == dict[str, Stored]:
        return _inputs_to_json, _inputs_from_json
    return _same, _same


class _Field:
    """A field of an event with its default."""

    __slots__ = ("get_default", "name", "required")

    def __init__(self, info: msgspec.structs.FieldInfo) -> None:
        self.name = info.name
        self.required = info.required
        self.get_default: Callable[[], object] = lambda: info.default


class _Form:
    """One event class: its tag, and its own fields with their converters."""

    __slots__ = ("described", "fields", "tag")

    def __init__(self, kind: type[Event]) -> None:
        self.tag = str(kind.__struct_config__.tag)
        own = [info for info in msgspec.structs.fields(kind) if info.name not in {"seq", "at"}]
        self.described = [_Field(info) for info in own]
        self.fields = [(info.name, *_converters(info.type)) for info in own]


_FORMS: Final = {cast("type[Event]", kind): _Form(kind) for kind in get_args(AnyEvent)}
_TAGS: Final = {form.tag: form for form in _FORMS.values()}
