"""Values with large pieces or files inside: the pieces stay apart, each with its own codec.

A list, tuple or dict becomes a Compound of its items as far down as the pieces are, so that a map
over it or a projection moves only what it needs. Anything else that holds a piece becomes a
Compound of kind `parts`: item 0 is its JSON, in which `{"$part": n}` stands for item n.

Rule of this room: JSON trees and encoded pieces; the values themselves are not seen here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec

from onready.engine.values.scalars import is_scalar
from onready.engine.values.stored import Compound, Encoded, Stored

_PART: Final = "$part"
_encode: Final = msgspec.json.Encoder().encode


def split(tree: Any, meta: str, parts: Sequence[Encoded]) -> Compound:
    """The Compound for a JSON tree that refers to `parts`, counted from 1; `meta` is the tree's."""
    if isinstance(tree, list):
        return Compound("list", _items(tree, meta, parts))
    if list(tree) == ["$tuple"]:
        return Compound("tuple", _items(tree["$tuple"], meta, parts))
    if len(tree) > 1 or not next(iter(tree)).startswith("$"):
        return Compound("dict", _items(tree.values(), meta, parts), tuple(tree))
    mine: list[Encoded] = []
    for reference in _references(tree):
        mine.append(parts[reference[_PART] - 1])
        reference[_PART] = len(mine)
    return Compound("parts", (_body(tree, meta), *mine))


def _items(trees: Any, meta: str, parts: Sequence[Encoded]) -> tuple[Stored, ...]:
    return tuple([_item(tree, meta, parts) for tree in trees])


def _item(tree: Any, meta: str, parts: Sequence[Encoded]) -> Stored:
    if isinstance(tree, dict) and list(tree) == [_PART]:
        number: int = tree[_PART]
        return parts[number - 1]
    if any(True for _ in _references(tree)):
        return split(tree, meta, parts)
    return tree if is_scalar(tree) else _body(tree, meta)


def _body(tree: Any, meta: str) -> Encoded:
    data = _encode(tree)
    return Encoded("json", data, None, len(data), meta)


def _references(tree: Any) -> Iterator[dict[str, int]]:
    """The places in a tree that stand for a part."""
    if isinstance(tree, dict):
        if list(tree) == [_PART]:
            yield tree
            return
        tree = tree.values()
    elif not isinstance(tree, list):
        return
    for item in tree:
        yield from _references(item)
