"""Values as JSON that gives back the same types: the codec `json`.

Plain structures (dicts with text keys, lists, scalars) are plain JSON. Whatever JSON has no form
for is an object with one key that begins with `$`: `{"$tuple": [...]}`, `{"$bytes": "..."}`,
`{"$data": [0, {...}]}`. `Encoded.meta` is then a JSON list: the class references that the data
counts into; it is empty for plain JSON. What other codecs encode goes in as `{"$leaf": ...}`,
large pieces as `{"$part": n}`: item n of a Compound of kind `parts`, whose item 0 is the JSON.

Rule of this room: exact types decide, never `isinstance`: a subclass that is not known has no form.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import msgspec

from onready.engine.errors import StoreError
from onready.engine.values.codec import leaf_codec, named_codec
from onready.engine.values.leaves import READERS, WRITERS
from onready.engine.values.misfit import Attribute, Misfit, no_codec
from onready.engine.values.records import (
    build_data,
    build_enum,
    build_model,
    build_named,
    data_state,
    enum_state,
    model_state,
    record_kind,
)
from onready.engine.values.references import class_of, reference_of
from onready.engine.values.stored import INLINE_LIMIT, Compound, Encoded, Stored

_INT_LOW: Final = -(2**63)
_INT_HIGH: Final = 2**64 - 1
_SIMPLE: Final = frozenset({type(None), bool, int, str})
_NUMBERS: Final = frozenset({int, float})
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode
FieldCheck = Callable[[type, str, object], None]
Known = Callable[[], Collection[type]]


def dumps(value: object, known: Known, check: FieldCheck | None = None) -> Stored:
    """The stored form of a structure; Misfit with the trail to what has none.

    `check(class, field, value)` is called for each field of each dataclass, if given.
    """
    if check is None and is_plain(value):
        try:
            data = _encode(value)
        except (OverflowError, UnicodeEncodeError):
            pass  # whole numbers beyond 64 bits, lone surrogates: these need their tags
        else:
            return Encoded("json", data, None, len(data))
    writer = Writer(known, check)
    try:
        tree = writer.write(value)
        data = _encode(tree)
    except RecursionError:
        message = "the value is nested too deeply, or refers to itself"
        raise Misfit(message, codec=True) from None
    if not writer.tagged:
        return Encoded("json", data, None, len(data))
    meta = _encode(writer.references).decode()
    body = Encoded("json", data, None, len(data), meta)
    if not writer.parts:
        return body
    return Compound("parts", (body, *writer.parts))


def is_plain(value: object) -> bool:
    """Whether `value` is its own JSON: what comes back is equal and of the same types."""
    kind = type(value)
    if kind in _SIMPLE:
        return True
    if kind is list:
        return _all_plain(value)  # type: ignore[arg-type] # a list
    if kind is dict:
        return _plain_keys(value) and _all_plain(value.values())  # type: ignore[attr-defined, arg-type] # a dict
    return kind is float and math.isfinite(value)  # type: ignore[arg-type] # a float


def _all_plain(values: Collection[object]) -> bool:
    if _SIMPLE.issuperset(map(type, values)):
        return True
    if _NUMBERS.issuperset(map(type, values)):
        try:
            return math.isfinite(sum(values))  # type: ignore[arg-type] # numbers
        except OverflowError:
            return False
    return all(map(is_plain, values))


def _plain_keys(value: Mapping[object, object]) -> bool:
    if not _TEXT.issuperset(map(type, value)):
        return False
    return len(value) != 1 or not str(next(iter(value))).startswith("$")


_TEXT: Final = frozenset({str})


class Writer:
    """One walk over a value, from Python to tagged JSON."""

    __slots__ = ("_check", "_known", "_positions", "parts", "references", "tagged")

    def __init__(self, known: Known, check: FieldCheck | None) -> None:
        self._known = known
        self._check = check
        self._positions: dict[type, int] = {}
        self.references: list[str] = []
        self.parts: list[Stored] = []
        self.tagged = False

    def write(self, value: object) -> object:
        """The JSON tree of `value`."""
        kind = type(value)
        if kind is str:
            return self._text(value)  # type: ignore[arg-type] # a str
        if kind is int:
            small = _INT_LOW <= value <= _INT_HIGH  # type: ignore[operator] # an int
            return value if small else self._tag("int", hex(value))  # type: ignore[arg-type]
        if kind is float:
            return value if math.isfinite(value) else self._tag("float", repr(value))  # type: ignore[arg-type]
        if value is None or kind is bool:
            return value
        if kind is list:
            return self._items(value)  # type: ignore[arg-type] # a list
        if kind is dict:
            return self._dict(value)  # type: ignore[arg-type] # a dict
        if kind is tuple:
            return self._tag("tuple", self._items(value))  # type: ignore[arg-type] # a tuple
        return self._other(value, kind)

    def _tag(self, name: str, content: object) -> dict[str, object]:
        self.tagged = True
        return {f"${name}": content}

    def _text(self, value: str) -> object:
        if not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raw = value.encode("utf-8", "surrogatepass")
                return self._tag("str", base64.b64encode(raw).decode())
        return value

    def _items(self, values: Collection[object]) -> list[object]:
        result: list[object] = []
        add, write = result.append, self.write
        try:
            for value in values:
                add(write(value))
        except Misfit as misfit:
            misfit.trail.append(len(result))
            raise
        return result

    def _fields(self, fields: Mapping[str, object], kind: type | None = None) -> dict[str, object]:
        """A dict with text keys; those of a dataclass (`kind`) are checked where asked for."""
        result: dict[str, object] = {}
        name = ""
        check = self._check if kind is not None else None
        try:
            for name, value in fields.items():  # noqa: B007 - the handler needs it
                if check is not None and kind is not None:
                    check(kind, name, value)
                result[name] = self.write(value)
        except Misfit as misfit:
            misfit.trail.append(name if kind is None else Attribute(name))
            raise
        return result

    def _dict(self, value: dict[object, object]) -> object:
        if _plain_keys(value) and all(key.isascii() for key in value):  # type: ignore[attr-defined]
            return self._fields(value)  # type: ignore[arg-type] # its keys are text
        return self._tag("dict", self._pairs(value))

    def _pairs(self, value: Mapping[object, object]) -> list[object]:
        result: list[object] = []
        key: object = None
        try:
            for key, item in value.items():  # noqa: B007 - the handler needs it
                result.append([self.write(key), self.write(item)])
        except Misfit as misfit:
            misfit.trail.append(key)
            raise
        return result

    def _other(self, value: object, kind: type) -> object:
        form = WRITERS.get(kind)
        if form is not None:
            name, content = form(value)
            return self._tag(name, content)
        if kind is set or kind is frozenset:
            return self._tag(kind.__name__, self._sorted(value))  # type: ignore[arg-type] # a set
        record = record_kind(kind)
        if record:
            return self._record(value, kind, record)
        return self._collection(value, kind) or self._leaf(value, kind)

    def _sorted(self, values: Collection[object]) -> list[object]:
        # Sorted by their JSON, since the order of a set changes from process to process.
        return sorted((self.write(value) for value in values), key=_encode)

    def _collection(self, value: Any, kind: type) -> object:
        name = f"{kind.__module__}.{kind.__qualname__}"
        if name == "collections.deque":
            return self._tag("deque", [self._items(value), value.maxlen])
        if name in {"collections.OrderedDict", "collections.Counter"}:
            return self._tag(kind.__qualname__.lower(), self._pairs(value))
        if name == "collections.defaultdict":
            factory = value.default_factory
            if factory is not None and not isinstance(factory, type):
                raise no_codec(kind, "its factory is not a class")
            position = None if factory is None else self._class(factory)
            return self._tag("defaultdict", [position, self._pairs(value)])
        return None

    def _class(self, kind: type) -> int:
        position = self._positions.get(kind)
        if position is None:
            reference = reference_of(kind, self._known)
            position = self._positions[kind] = len(self.references)
            self.references.append(reference)
        return position

    def _record(self, value: Any, kind: type, record: str) -> object:
        position = self._class(kind)
        if record == "enum":
            return self._tag("enum", [position, self.write(enum_state(value))])
        if record == "named":
            fields = self._fields(dict(zip(kind._fields, value, strict=True)), kind)  # type: ignore[attr-defined]
            return self._tag("named", [position, list(fields.values())])
        if record == "data":
            return self._tag("data", [position, self._fields(data_state(value), kind)])
        fields_, names, extra, private = model_state(value)
        state = [
            self._fields(fields_),  # type: ignore[arg-type] # a dict
            names,
            self.write(extra),
            self.write(private),
        ]
        return self._tag("model", [position, state])

    def _leaf(self, value: object, kind: type) -> object:
        codec = leaf_codec(kind)
        if codec is None:
            return self._pydantic(value, kind)
        data, meta = encode_leaf(codec, value)
        if codec.name == "path" or len(data) > INLINE_LIMIT:
            self.parts.append(Encoded(codec.name, data, None, len(data), meta))
            return self._tag("part", len(self.parts))
        return self._tag("leaf", [codec.name, meta, base64.b64encode(data).decode()])

    def _pydantic(self, value: object, kind: type) -> object:
        """Classes that pydantic knows (URLs and the like): by its JSON, if that is faithful."""
        if not hasattr(kind, "__get_pydantic_core_schema__"):
            raise no_codec(kind)
        from pydantic import TypeAdapter  # noqa: PLC0415 - its own class came from there

        try:
            adapter: TypeAdapter[object] = TypeAdapter(kind)
            data = adapter.dump_json(value)
            faithful = adapter.validate_json(data) == value
        except Exception as error:  # noqa: BLE001 - somebody's schema may fail in any way
            raise no_codec(kind, str(error)) from None
        if not faithful:
            raise no_codec(kind, "its JSON form loses something")
        return self._tag("pydantic", [self._class(kind), data.decode()])


def encode_leaf(codec: Any, value: object) -> tuple[bytes, str]:
    """`codec.encode(value)`, its errors turned into a Misfit that names the codec."""
    try:
        data, meta = codec.encode(value)
    except Misfit:
        raise
    except Exception as error:
        why = f"the codec {codec.name!r} says: {type(error).__name__}: {error}"
        raise no_codec(type(value), why) from error
    return data, meta


def loads(data: bytes, meta: str, known: Known, parts: Any = ()) -> object:
    """The value whose stored form is `data`; `parts` are decoded values, counted from 1."""
    try:
        tree = _decode(data)
        if not meta:
            return tree
        return Reader(msgspec.json.decode(meta, type=list[str]), known, parts).read(tree)
    except (msgspec.DecodeError, RecursionError, KeyError, TypeError, ValueError) as error:
        message = f"a stored value does not decode: {type(error).__name__}: {error}"
        raise StoreError(message) from error


class Reader:
    """One walk over a JSON tree, back to Python."""

    __slots__ = ("_classes", "_known", "_parts", "_references")

    def __init__(self, references: list[str], known: Known, parts: Any) -> None:
        self._references = references
        self._known = known
        self._parts = parts
        self._classes: dict[int, type] = {}

    def read(self, tree: Any) -> Any:
        """The value of a JSON tree."""
        kind = type(tree)
        if kind is list:
            return [self.read(item) for item in tree]
        if kind is not dict:
            return tree
        if len(tree) == 1:
            name, content = next(iter(tree.items()))
            if name.startswith("$"):
                return self._tagged(name[1:], content)
        return {key: self.read(item) for key, item in tree.items()}

    def _tagged(self, name: str, content: Any) -> object:
        plain = READERS.get(name)
        if plain is not None:
            return plain(content)
        return getattr(self, f"_read_{name}")(content)

    def _class(self, position: int) -> type:
        kind = self._classes.get(position)
        if kind is None:
            kind = self._classes[position] = class_of(self._references[position], self._known())
        return kind

    def _read_tuple(self, content: Any) -> object:
        return tuple(map(self.read, content))

    def _read_set(self, content: Any) -> object:
        return set(map(self.read, content))

    def _read_frozenset(self, content: Any) -> object:
        return frozenset(map(self.read, content))

    def _read_dict(self, content: Any) -> dict[object, object]:
        return {self.read(key): self.read(item) for key, item in content}

    def _read_deque(self, content: Any) -> object:
        from collections import deque  # noqa: PLC0415 - rare

        return deque(map(self.read, content[0]), content[1])

    def _read_ordereddict(self, content: Any) -> object:
        from collections import OrderedDict  # noqa: PLC0415 - rare

        return OrderedDict(self._read_dict(content))

    def _read_counter(self, content: Any) -> object:
        from collections import Counter  # noqa: PLC0415 - rare

        return Counter(self._read_dict(content))

    def _read_defaultdict(self, content: Any) -> object:
        from collections import defaultdict  # noqa: PLC0415 - rare

        factory = None if content[0] is None else self._class(content[0])
        return defaultdict(factory, self._read_dict(content[1]))

    def _read_enum(self, content: Any) -> object:
        return build_enum(self._class(content[0]), self.read(content[1]))

    def _read_named(self, content: Any) -> object:
        return build_named(self._class(content[0]), [self.read(item) for item in content[1]])

    def _read_data(self, content: Any) -> object:
        return build_data(self._class(content[0]), self._state(content[1]))

    def _read_model(self, content: Any) -> object:
        fields, names, extra, private = content[1]
        state = [self._state(fields), names, self.read(extra), self.read(private)]
        return build_model(self._class(content[0]), state)

    def _state(self, fields: Any) -> dict[str, object]:
        # Never a tag: a class with one field whose name begins with $ does not exist.
        return {name: self.read(item) for name, item in fields.items()}

    def _read_pydantic(self, content: Any) -> object:
        from pydantic import TypeAdapter  # noqa: PLC0415 - only for values that came from it

        kind = self._class(content[0])
        if not hasattr(kind, "__get_pydantic_core_schema__"):
            message = f"the stored value names {kind.__qualname__}, which pydantic does not know"
            raise Misfit(message)
        return TypeAdapter(kind).validate_json(content[1])

    def _read_leaf(self, content: Any) -> object:
        name, meta, data = content
        return named_codec(name).decode(base64.b64decode(data), meta)

    def _read_part(self, content: Any) -> object:
        return self._parts[content - 1]
