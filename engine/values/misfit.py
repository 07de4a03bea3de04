"""How an error inside a value finds its path: `$.models[3].alpha`.

Rule of this room: errors only. Each level of a walk adds its own step on the way out, so that a
walk without errors pays nothing for paths.
"""

from __future__ import annotations

from collections.abc import Iterable
from reprlib import Repr
from types import UnionType
from typing import Final, Union, get_args, get_origin

from onready.engine.errors import NoCodec, ValueMismatch

CURES: Final = (
    "annotate it with a supported type (scalars, list, dict, dataclass, TypedDict, pydantic, bytes,"
    " File, Dir, numpy, pandas, polars, pyarrow), or register a codec plug-in (entry-point group"
    ' `onready.codecs`), or opt in to pickle with codec="pickle"'
)
_SHOWN: Final = 60


class Misfit(Exception):
    """Something inside a value does not fit; `trail` grows from the inside out."""

    def __init__(self, message: str, *, codec: bool = False) -> None:
        self.message = message
        self.codec = codec
        self.trail: list[object] = []
        super().__init__(message)

    def public(self) -> ValueMismatch | NoCodec:
        """The error that users see."""
        path = path_text(reversed(self.trail))
        if self.codec:
            return NoCodec(f"{path}: {self.message}")
        return ValueMismatch(f"{path}: {self.message}", path)


class Attribute(str):
    """A step of a trail that is an attribute or a field, not a key."""

    __slots__ = ()


def no_codec(kind: type, why: str = "") -> Misfit:
    """The misfit for a type that nothing gives a durable form."""
    name = type_name(kind)
    reason = f" ({why})" if why else ""
    return Misfit(f"no codec gives {name} a durable form{reason}. Cures: {CURES}", codec=True)


def path_text(steps: Iterable[object]) -> str:
    """`$` and the steps as people write them in Python."""
    parts = ["$"]
    for step in steps:
        if isinstance(step, str) and step.isidentifier():
            parts.append(f".{step}")
        else:
            parts.append(f"[{shown(step)}]")
    return "".join(parts)


def shown(value: object, width: int = _SHOWN) -> str:
    """A short repr that never raises."""
    brief = Repr()
    brief.maxstring = brief.maxother = brief.maxlong = width
    try:
        text = brief.repr(value)
    except Exception:  # noqa: BLE001 - somebody's __repr__ must not hide the real error
        text = f"<{type(value).__name__}>"
    text = " ".join(text.split())
    return text if len(text) <= width else f"{text[: width - 3]}..."


def type_name(annotation: object) -> str:
    """A type as people read it: `int`, `module.Class`, `list[int]`."""
    if annotation is type(None):
        return "None"
    if isinstance(annotation, type) and not get_args(annotation):
        module = annotation.__module__
        name = annotation.__qualname__.rpartition("<locals>.")[2]
        return name if module in {"builtins", "__main__"} else f"{module}.{name}"
    args = get_args(annotation)
    origin = get_origin(annotation)
    if origin is Union or origin is UnionType:
        # None last: unions are equal in any order, and so share one cached reader.
        return " | ".join(map(type_name, sorted(args, key=lambda arg: arg is type(None))))
    if origin is not None and isinstance(origin, type) and args:
        inner = ", ".join("..." if arg is Ellipsis else type_name(arg) for arg in args)
        return f"{type_name(origin)}[{inner}]"
    return str(annotation).replace("typing.", "")
