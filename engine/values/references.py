"""Class references: how stored data names a class, and how the class is found again.

`module:qualname`, or `/folder/file.py:qualname` for scripts and modules that were loaded from a
file; the arguments of a generic pydantic model follow in brackets.

Rule of this room: only classes come out, and only of the kinds that `records.py` can rebuild.
Nothing is called on the way.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from functools import cache
from pathlib import Path
from typing import Final
from weakref import WeakKeyDictionary

from onready.engine.errors import GraphError
from onready.engine.loading import FILE_PREFIX, load_raw
from onready.engine.values.misfit import Misfit

_references: Final[WeakKeyDictionary[type, str]] = WeakKeyDictionary()


def reference_of(kind: type, known: Callable[[], Collection[type]]) -> str:
    """The reference of `kind`; a Misfit where nobody could find it again by it.

    Classes in `known` (those of the annotation) may live inside a function: whoever decodes by
    the same annotation finds them there.
    """
    reference = _references.get(kind)
    if reference is not None:
        return reference
    generic = getattr(kind, "__pydantic_generic_metadata__", None)
    if generic and generic["origin"] is not None:
        return _generic_reference(kind, generic["origin"], generic["args"], known)
    reference = f"{_place(kind.__module__)}:{kind.__qualname__}"
    if kind.__module__ in sys.modules and _attribute(kind.__module__, kind.__qualname__) is kind:
        _references[kind] = reference
        return reference
    if kind in known():
        return reference
    message = (
        f"the class {kind.__qualname__} of {kind.__module__} cannot be found again by its name:"
        " move it to the top level of a module, or annotate the task with it"
    )
    raise Misfit(message, codec=True)


def _generic_reference(
    kind: type, origin: type, args: tuple[object, ...], known: Callable[[], Collection[type]]
) -> str:
    if not all(isinstance(arg, type) and not hasattr(arg, "__args__") for arg in args):
        message = f"the generic model {kind.__qualname__} has arguments that are not plain classes"
        raise Misfit(message, codec=True)
    inner = ",".join(reference_of(arg, known) for arg in args if isinstance(arg, type))
    return f"{reference_of(origin, known)}[{inner}]"


@cache
def _place(module: str) -> str:
    """What stands for a module in references: a file's path where its name means nothing."""
    if module != "__main__" and not module.startswith(FILE_PREFIX):
        return module
    found = sys.modules.get(module)
    spec = getattr(found, "__spec__", None)
    if module == "__main__" and spec is not None:
        return str(spec.name)
    file = getattr(found, "__file__", None)
    return str(Path(file).resolve()) if isinstance(file, str) and file.endswith(".py") else module


def _attribute(module: str, qualname: str) -> object:
    found: object = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    return found


def class_of(reference: str, known: Collection[type]) -> type:
    """The class that `reference` names: of `known` first, else by import; Misfit if none is."""
    if reference.endswith("]"):
        return _generic_class(reference, known)
    place, _, qualname = reference.rpartition(":")
    for kind in known:
        if kind.__qualname__ == qualname and _place(kind.__module__) == place:
            return kind
    found = _find(place, qualname)
    if isinstance(found, type):
        return found
    same = [kind for kind in known if kind.__qualname__ == qualname]
    if len(same) == 1:
        return same[0]
    message = f"the stored value needs the class {reference}, which is not there"
    raise Misfit(message)


def _find(place: str, qualname: str) -> object:
    module = "__main__" if place == _place("__main__") else place
    if module in sys.modules:
        return _attribute(module, qualname)
    try:
        return load_raw(f"{place}:{qualname}")
    except GraphError:
        return None


def _generic_class(reference: str, known: Collection[type]) -> type:
    head, _, inner = reference[:-1].partition("[")
    origin = class_of(head, known)
    args = tuple(class_of(part, known) for part in _split(inner))
    if not hasattr(origin, "__pydantic_generic_metadata__"):
        message = f"the stored value needs {reference}, but {head} is no generic model"
        raise Misfit(message)
    found = origin[args]  # type: ignore[index] # a generic model is subscriptable
    if not isinstance(found, type):  # pragma: no cover - pydantic makes classes
        message = f"{reference} is not a class"
        raise Misfit(message)
    return found


def _split(text: str) -> list[str]:
    """Split at the commas that are outside of brackets."""
    parts, depth, start = [], 0, 0
    for position, char in enumerate(text):
        depth += (char == "[") - (char == "]")
        if char == "," and depth == 0:
            parts.append(text[start:position])
            start = position + 1
    return [*parts, text[start:]]
