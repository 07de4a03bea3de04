"""Values to JSON that gives back the same types: the codec `json`, writing side.

Plain structures (dicts with text keys, lists, scalars) are plain JSON. Whatever JSON has no form
for is an object with one key that begins with `$`: `{"$tuple": [...]}`, `{"$bytes": "..."}`,
`{"$data": [0, {...}]}`. `Encoded.meta` is then a JSON list: the class references that the data
counts into; it is empty for plain JSON. What other codecs encode goes in as `{"$leaf": ...}`;
large pieces and files stay outside, and the value is then a Compound (`splitting.py`).

Rule of this room: exact types decide, never `isinstance`: a subclass that is not known has no form.
"""

from __future__ import annotations

import base64
import math
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import msgspec

from onready.engine.values.codec import Codec, leaf_codec
from onready.engine.values.leaves import WRITERS
from onready.engine.values.misfit import Attribute, Misfit, no_codec
from onready.engine.values.records import data_state, enum_state, model_state, record_kind
from onready.engine.values.references import reference_of
from onready.engine.values.splitting import split
from onready.engine.values.stored import INLINE_LIMIT, Compound, Encoded

_INT_LOW: Final = -(2**63)
_INT_HIGH: Final = 2**64 - 1
_TEXT: Final = frozenset({str})
_SIMPLE: Final = frozenset({type(None), bool, int, str})
_NUMBERS: Final = frozenset({int, float})
_ITEMS: Final = frozenset({list, tuple, set, frozenset, dict})
_APART: Final = frozenset({"path", "secret"})
"""Codecs whose pieces are handled by others on their way, so they stay where those see them."""
_PAIRS: Final = {OrderedDict: "ordereddict", Counter: "counter"}
_OTHERS: Final = frozenset({deque, defaultdict, *_PAIRS})
FACTORIES: Final[dict[str, type]] = {
    kind.__name__: kind for kind in (list, dict, set, frozenset, tuple, int, float, str, bool)
}
"""Default factories that are stored: never a class that the data could choose freely."""
_encode: Final = msgspec.json.Encoder().encode

FieldCheck = Callable[[type, str, object], None]
Known = Callable[[], Collection[type]]


def has_json_form(kind: type) -> bool:
    """Whether values of exactly this class are written here, and not by another codec."""
    return kind in _ITEMS or kind in WRITERS or kind in _OTHERS or bool(record_kind(kind))


def dumps(value: object, known: Known, check: FieldCheck | None = None) -> Encoded | Compound:
    """The stored form of a structure; Misfit with the trail to what has none.

    `known` gives the classes of the annotation. `check(class, field, value)` is called for each
    field of each dataclass and named tuple, if given. RecursionError where it has no end.
    """
    if check is None and is_plain(value):
        try:
            data = _encode(value)
        except (OverflowError, ValueError):
            pass  # ints of thousands of digits, lone surrogates: these need their tags
        else:
            return Encoded("json", data, None, len(data))
    writer = Writer(known, check)
    tree = writer.write(value)
    meta = _encode(writer.references).decode() if writer.tagged else ""
    if writer.parts:
        return split(tree, meta, writer.parts)
    data = _encode(tree)
    return Encoded("json", data, None, len(data), meta)


def is_plain(value: Any) -> bool:
    """Whether `value` is its own JSON: what comes back is equal and of the same types."""
    kind = type(value)
    if kind in _SIMPLE:
        return True
    if kind is list:
        return _all_plain(value)
    if kind is dict:
        return _plain_keys(value) and _all_plain(value.values())
    return kind is float and math.isfinite(value)


def _all_plain(values: Collection[Any]) -> bool:
    if _SIMPLE.issuperset(map(type, values)):
        return True
    if _NUMBERS.issuperset(map(type, values)):
        try:
            return math.isfinite(sum(values))  # at C speed; a false alarm only costs time
        except OverflowError:
            return False
    return all(map(is_plain, values))


def _plain_keys(value: Mapping[object, object]) -> bool:
    if not _TEXT.issuperset(map(type, value)):
        return False
    return len(value) != 1 or not str(next(iter(value))).startswith("$")


class Writer:
    """One walk over a value, from Python to tagged JSON."""

    __slots__ = ("_check", "_known", "_positions", "parts", "references", "tagged")

    def __init__(self, known: Known, check: FieldCheck | None) -> None:
        self._known = known
        self._check = check
        self._positions: dict[type, int] = {}
        self.references: list[str] = []
        self.parts: list[Encoded] = []
        self.tagged = False

    def write(self, value: Any) -> object:
        """The JSON tree of `value`."""
        kind = type(value)
        if kind is str:
            return value if value.isascii() else self._text(value)
        if kind is int:
            small = _INT_LOW <= value <= _INT_HIGH
            return value if small else self._tag("int", hex(value))
        if kind is float:
            return value if math.isfinite(value) else self._tag("float", repr(value))
        if value is None or kind is bool:
            return value
        if kind is list:
            return self._items(value)
        if kind is dict:
            return self._dict(value)
        if kind is tuple:
            return self._tag("tuple", self._items(value))
        return self._other(value, kind)

    def _tag(self, name: str, content: object) -> dict[str, object]:
        self.tagged = True
        return {f"${name}": content}

    def _text(self, value: str) -> object:
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
        check = self._check
        try:
            for name, value in fields.items():
                if check is not None and kind is not None:
                    check(kind, name, value)
                result[name] = self.write(value)
        except Misfit as misfit:
            misfit.trail.append(name if kind is None else Attribute(name))
            raise
        return result

    def _dict(self, value: dict[Any, object]) -> object:
        if _plain_keys(value) and all(map(str.isascii, value)):
            return self._fields(value)
        return self._tag("dict", self._pairs(value))

    def _pairs(self, value: Mapping[object, object]) -> list[object]:
        result: list[object] = []
        key: object = None
        try:
            for key, item in value.items():
                result.append([self.write(key), self.write(item)])
        except Misfit as misfit:
            misfit.trail.append(key)
            raise
        return result

    def _other(self, value: Any, kind: type) -> object:
        form = WRITERS.get(kind)
        if form is not None:
            name, content = form(value)
            return self._tag(name, content)
        if kind is set or kind is frozenset:
            # Sorted by their JSON, since the order of a set changes from process to process.
            return self._tag(kind.__name__, sorted(map(self.write, value), key=_encode))
        record = record_kind(kind)
        if record:
            return self._record(value, kind, record)
        if kind in _PAIRS:
            return self._tag(_PAIRS[kind], self._pairs(value))
        if kind is deque:
            return self._tag("deque", [self._items(value), value.maxlen])
        if kind is defaultdict:
            return self._defaultdict(value)
        return self._leaf(value, kind)

    def _defaultdict(self, value: defaultdict[object, object]) -> object:
        factory = value.default_factory
        name = None if factory is None else getattr(factory, "__name__", "")
        if name is not None and FACTORIES.get(name) is not factory:
            raise no_codec(defaultdict, f"its factory is none of {', '.join(FACTORIES)}")
        return self._tag("defaultdict", [name, self._pairs(value)])

    def _class(self, kind: type) -> int:
        position = self._positions.get(kind)
        if position is None:
            reference = reference_of(kind, self._known)
            position = self._positions[kind] = len(self.references)
            self.references.append(reference)
        return position

    def _record(self, value: Any, kind: Any, record: str) -> object:
        position = self._class(kind)
        if record == "enum":
            return self._tag("enum", [position, self.write(enum_state(value))])
        if record == "named":
            fields = self._fields(dict(zip(kind._fields, value, strict=True)), kind)
            return self._tag("named", [position, list(fields.values())])
        if record == "data":
            return self._tag("data", [position, self._fields(data_state(value), kind)])
        state = model_state(value)
        content = [
            self._fields(state.fields),  # pydantic's own validators have seen them
            state.given,
            None if state.extra is None else self._fields(state.extra),
            None if state.private is None else self._fields(state.private),
        ]
        return self._tag("model", [position, content])

    def _leaf(self, value: object, kind: type) -> object:
        codec = leaf_codec(kind)
        if codec is None:
            return self._pydantic(value, kind)
        data, meta = encode_leaf(codec, value)
        if codec.name in _APART or len(data) > INLINE_LIMIT:
            self.parts.append(Encoded(codec.name, data, None, len(data), meta))
            return self._tag("part", len(self.parts))
        return self._tag("leaf", [codec.name, meta, base64.b64encode(data).decode()])

    def _pydantic(self, value: object, kind: type) -> object:
        """Classes that pydantic knows (URLs and the like): by its JSON, if that is faithful."""
        if not hasattr(kind, "__get_pydantic_core_schema__"):
            raise no_codec(kind)
        from pydantic import TypeAdapter

        try:
            adapter: TypeAdapter[object] = TypeAdapter(kind)
            data = adapter.dump_json(value)
            faithful = adapter.validate_json(data) == value
        except Exception as error:  # noqa: BLE001 - somebody's schema may fail in any way
            raise no_codec(kind, str(error)) from None
        if not faithful:
            raise no_codec(kind, "its JSON form loses something")
        return self._tag("pydantic", [self._class(kind), data.decode()])


def encode_leaf(codec: Codec, value: object) -> tuple[bytes, str]:
    """`codec.encode(value)`, its errors turned into a Misfit that names the codec."""
    try:
        return codec.encode(value)
    except Misfit:
        raise
    except Exception as error:
        why = f"the codec {codec.name!r} says: {type(error).__name__}: {error}"
        raise no_codec(type(value), why) from error
