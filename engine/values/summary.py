"""Stored values in a few words, for people: `[80, 71, 91, ... 943 ints]`, `<numpy 12.3 KiB>`.

Rule of this room: never raises, never imports a value's library, never decodes another codec's
bytes than JSON.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from onready.engine.values.leaves import READERS
from onready.engine.values.misfit import shown
from onready.engine.values.stored import Compound, Encoded, Live, Stored

_DECODED: Final = 256 * 1024
_FIRST: Final = 3
_DEEP: Final = 3
_NOUNS: Final = {"int": "ints", "float": "floats", "str": "texts", "bool": "bools"}
_KIB: Final = 1024


def summarise(stored: Stored, width: int = 60) -> str:
    """What `stored` holds, in at most `width` characters (at least 8)."""
    try:
        text = _stored(stored, 0)
    except Exception:  # noqa: BLE001 - a summary must not hide the error it is printed with
        text = f"<{type(stored).__name__}>"
    return cut(text, max(width, 8))


def cut(text: str, width: int) -> str:
    """`text` on one line, the middle left out where it is too long."""
    text = "".join(char if char.isprintable() else " " for char in text)
    if len(text) <= width:
        return text
    tail = (width - 3) // 3
    return f"{text[: width - 3 - tail]}...{text[len(text) - tail :]}"


def _stored(stored: Stored, depth: int) -> str:
    if isinstance(stored, Encoded):
        return _encoded(stored, depth)
    if isinstance(stored, Compound):
        return _compound(stored, depth)
    if isinstance(stored, Live):
        return f"<live {type(stored.value).__name__}>"
    return shown(stored, 200)


def _encoded(stored: Encoded, depth: int) -> str:
    if stored.codec == "json" and stored.data is not None and len(stored.data) <= _DECODED:
        references: list[str] = msgspec.json.decode(stored.meta) if stored.meta else []
        return _tree(msgspec.json.decode(stored.data), references, depth)
    if stored.codec == "path" and stored.data is not None:
        return f"<{stored.meta} {Path(os.fsdecode(stored.data)).name}>"
    if stored.codec in {"file", "dir"}:
        return f"<{stored.codec} {stored.meta.split(':', 2)[-1]} {size_text(stored.size)}>"
    if stored.codec == "secret" and stored.data is not None:
        return f"Secret({stored.data.decode()!r})"
    return f"<{stored.codec} {size_text(stored.size)}>"


def size_text(size: int) -> str:
    """Bytes as people read them: `512 B`, `12.3 KiB`."""
    if size < _KIB:
        return f"{size} B"
    amount = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        amount /= _KIB
        if amount < _KIB:
            return f"{amount:.1f} {unit}"
    return f"{amount / _KIB:.1f} TiB"


def _compound(stored: Compound, depth: int) -> str:
    if stored.kind == "parts":
        body = stored.items[0]
        if not isinstance(body, Encoded) or body.data is None or len(body.data) > _DECODED:
            return f"<{len(stored.items) - 1} {'part' if len(stored.items) == 2 else 'parts'}>"
        references: list[str] = msgspec.json.decode(body.meta)
        return _tree(msgspec.json.decode(body.data), references, depth, stored.items)
    items = [_stored(item, depth + 1) for item in stored.items[:_FIRST]]
    if stored.kind == "dict":
        pairs = [f"{key!r}: {item}" for key, item in zip(stored.keys, items, strict=False)]
        return _joined("{", pairs, len(stored.items), "keys", "}")
    noun = _noun(stored.items)
    ends = "[]" if stored.kind == "list" else "()"
    return _joined(ends[0], items, len(stored.items), noun, ends[1])


def _noun(items: Sequence[object]) -> str:
    names = {type(item).__name__ for item in items}
    return _NOUNS.get(next(iter(names)), "items") if len(names) == 1 else "items"


def _joined(start: str, shown_items: list[str], count: int, noun: str, end: str) -> str:
    inner = ", ".join(shown_items)
    if start == "(" and count == 1:
        inner += ","
    if count > len(shown_items):
        inner += f", ... {count} {noun}"
    return f"{start}{inner}{end}"


def _tree(tree: Any, references: list[str], depth: int, parts: Sequence[Stored] = ()) -> str:
    if depth > _DEEP:
        return "..."

    def inner(item: Any) -> str:
        return _tree(item, references, depth + 1, parts)

    if isinstance(tree, list):
        return _joined("[", [inner(item) for item in tree[:_FIRST]], len(tree), _noun(tree), "]")
    if not isinstance(tree, dict):
        return shown(tree, 200)
    if len(tree) == 1:
        name, content = next(iter(tree.items()))
        if name.startswith("$"):
            return _tagged(name[1:], content, references, inner, parts)
    pairs = [f"{key!r}: {inner(item)}" for key, item in list(tree.items())[:_FIRST]]
    return _joined("{", pairs, len(tree), "keys", "}")


def _tagged(
    name: str, content: Any, references: list[str], inner: Any, parts: Sequence[Stored]
) -> str:
    if name in {"tuple", "set", "frozenset"}:
        items = [inner(item) for item in content[:_FIRST]]
        ends = "()" if name == "tuple" else "{}"
        return _joined(ends[0], items, len(content), _noun(content), ends[1])
    if name == "dict":
        pairs = [f"{inner(key)}: {inner(item)}" for key, item in content[:_FIRST]]
        return _joined("{", pairs, len(content), "keys", "}")
    if name in {"data", "model", "named", "enum"}:
        return _object(name, references[content[0]].rpartition(":")[2], content[1], inner)
    if name == "part":
        return _stored(parts[content], 1)
    if name == "leaf":
        return f"<{content[0]} {size_text(_base64_size(content[2]))}>"
    if name in {"bytes", "bytearray", "memoryview"}:
        return f"<{name} {size_text(_base64_size(content))}>"
    if name in READERS:
        value = READERS[name](content)
        return shown(value) if isinstance(value, int | float | str) else str(value)
    return f"<{name}>"


def _base64_size(text: str) -> int:
    return len(text) * 3 // 4 - text.count("=", -2)


def _object(name: str, kind: str, content: Any, inner: Any) -> str:
    kind = kind.rpartition(".")[2]
    if name == "enum":
        return f"{kind}.{content}" if isinstance(content, str) else f"{kind}({content})"
    if name == "named":
        return _joined(
            f"{kind}(", [inner(item) for item in content[:_FIRST]], len(content), "fields", ")"
        )
    fields: Mapping[str, Any] = content[0] if name == "model" else content
    pairs = [f"{key}={inner(item)}" for key, item in list(fields.items())[:_FIRST]]
    return _joined(f"{kind}(", pairs, len(fields), "fields", ")")
