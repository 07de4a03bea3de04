"""Values from JSON: the codec `json`, reading side. The form is told in `writing.py`.

Rule of this room: what the data can choose is a tag of the tables here, and a class of the kinds
that `records.py` rebuilds. Nothing else is looked up by a name that the data holds.
"""

from __future__ import annotations

import base64
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec

from onready.engine.values.codec import named_codec
from onready.engine.values.leaves import READERS
from onready.engine.values.misfit import Misfit
from onready.engine.values.records import build_data, build_enum, build_model, build_named
from onready.engine.values.references import class_of
from onready.engine.values.writing import FACTORIES, Known

_decode: Final = msgspec.json.Decoder().decode
_references: Final = msgspec.json.Decoder(list[str]).decode


def loads(data: bytes, meta: str, known: Known, parts: Sequence[object] = ()) -> object:
    """The value whose stored form is `data`; `parts` are decoded values, counted from 1.

    Raises Misfit, or whatever bad data brings about.
    """
    tree = _decode(data)
    return Reader(_references(meta), known, parts).read(tree) if meta else tree


class Reader:
    """One walk over a JSON tree, back to Python."""

    __slots__ = ("_classes", "_known", "_parts", "_references")

    def __init__(self, references: list[str], known: Known, parts: Sequence[object]) -> None:
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
        return self.fields(tree)

    def _tagged(self, name: str, content: Any) -> object:
        plain = READERS.get(name)
        if plain is not None:
            return plain(content)
        tag = _TAGS.get(name)
        if tag is None:
            message = f"the stored value has the tag ${name}, which this version does not know"
            raise Misfit(message)
        return tag(self, content)

    def items(self, content: list[Any]) -> list[object]:
        """The values of a list of trees."""
        return [self.read(item) for item in content]

    def fields(self, content: dict[str, Any]) -> dict[str, object]:
        """The values of an object's fields; the object itself is no tag."""
        return {name: self.read(item) for name, item in content.items()}

    def pairs(self, content: list[Any]) -> dict[Any, Any]:
        """A dict of a list of keys and values."""
        return {self.read(key): self.read(item) for key, item in content}

    def kind(self, position: int) -> type:
        """The class at `position` of the references."""
        found = self._classes.get(position)
        if found is None:
            found = self._classes[position] = class_of(self._references[position], self._known())
        return found

    def part(self, position: int) -> object:
        """The decoded part, counted from 1."""
        return self._parts[position - 1]


def _model(reader: Reader, content: Any) -> object:
    fields, given, extra, private = content[1]
    return build_model(
        reader.kind(content[0]),
        reader.fields(fields),
        given,
        None if extra is None else reader.fields(extra),
        None if private is None else reader.fields(private),
    )


def _defaultdict(reader: Reader, content: Any) -> object:
    factory = None if content[0] is None else FACTORIES[content[0]]
    return defaultdict(factory, reader.pairs(content[1]))


def _pydantic(reader: Reader, content: Any) -> object:
    kind = reader.kind(content[0])
    if not hasattr(kind, "__get_pydantic_core_schema__"):
        message = f"the stored value names {kind.__qualname__}, which pydantic does not know"
        raise Misfit(message)
    from pydantic import TypeAdapter

    return TypeAdapter(kind).validate_json(content[1])


def _leaf(reader: Reader, content: Any) -> object:
    del reader
    name, meta, data = content
    return named_codec(name).decode(base64.b64decode(data), meta)


_TAGS: Final[dict[str, Callable[[Reader, Any], object]]] = {
    "tuple": lambda reader, content: tuple(reader.items(content)),
    "set": lambda reader, content: set(reader.items(content)),
    "frozenset": lambda reader, content: frozenset(reader.items(content)),
    "dict": Reader.pairs,
    "ordereddict": lambda reader, content: OrderedDict(reader.pairs(content)),
    "counter": lambda reader, content: Counter(reader.pairs(content)),
    "deque": lambda reader, content: deque(reader.items(content[0]), content[1]),
    "defaultdict": _defaultdict,
    "enum": lambda reader, content: build_enum(reader.kind(content[0]), reader.read(content[1])),
    "named": lambda reader, content: build_named(reader.kind(content[0]), reader.items(content[1])),
    "data": lambda reader, content: build_data(reader.kind(content[0]), reader.fields(content[1])),
    "model": _model,
    "pydantic": _pydantic,
    "leaf": _leaf,
    "part": Reader.part,
}
