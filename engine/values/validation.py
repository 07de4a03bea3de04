"""Fitting a value to its annotation by pydantic, where the quick check was not sure.

A value that is what its annotation says stays as it is. A value that reads as the annotated
type in JSON becomes it: a dict for a model, a list for a tuple, a text for a date; numpy scalars
become Python's. Nothing else is converted: "1" is no int.

Rule of this room: pydantic is imported here alone, and only when first needed.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from onready.engine.values.misfit import Misfit, shown, type_name
from onready.engine.values.typed_dicts import NEEDED, modernise

if TYPE_CHECKING:
    from pydantic import TypeAdapter, ValidationError
    from pydantic_core import ErrorDetails

_EXPECTED: Final = {
    "int_type": "int",
    "float_type": "float",
    "string_type": "str",
    "bool_type": "bool",
    "bytes_type": "bytes",
    "list_type": "list",
    "tuple_type": "tuple",
    "set_type": "set",
    "frozen_set_type": "frozenset",
    "dict_type": "dict",
    "mapping_type": "mapping",
    "none_required": "None",
    "datetime_type": "datetime",
    "date_type": "date",
    "time_type": "time",
    "time_delta_type": "timedelta",
    "uuid_type": "UUID",
    "decimal_type": "Decimal",
    "path_type": "path",
}
_NO_JSON: Final = "needs_python_object"
_PLAIN_KINDS: Final = "biufU"
"""numpy's kinds of bool, ints, float, text: dates have an `item` too, but it may be a count."""
_JSON_TYPES: Final = frozenset({type(None), bool, int, float, str})


class Validator:
    """The pydantic side of one annotation; one that pydantic cannot read lets all values pass."""

    __slots__ = ("_adapter", "annotation")

    def __init__(self, annotation: object) -> None:
        from pydantic import ConfigDict, TypeAdapter

        self.annotation = annotation
        # In a list, since pydantic takes no configuration for a bare dataclass or TypedDict.
        config = ConfigDict(arbitrary_types_allowed=True, allow_inf_nan=True)
        try:
            wrapped: Any = list[modernise(annotation) if NEEDED else annotation]  # type: ignore[misc] # known at run time only
            adapter: TypeAdapter[list[object]] = TypeAdapter(wrapped, config=config)
            self._adapter = adapter if adapter.pydantic_complete else None
        except Exception:  # noqa: BLE001 - annotations are the user's: anything may go wrong
            self._adapter = None

    def fit(self, value: object) -> object:
        """`value`, or what it reads as; Misfit where it does not fit."""
        if self._adapter is None:
            return value
        from pydantic import ValidationError

        try:
            result = self._adapter.validate_python([value], strict=True)[0]
        except ValidationError as error:
            return self._from_json(value, error)
        return result if _converted(value, result) else value

    def _from_json(self, value: object, strict: ValidationError) -> object:
        from pydantic import ValidationError
        from pydantic_core import to_json

        if self._adapter is not None and _is_json(value):
            try:
                data = to_json([value], inf_nan_mode="constants")
                return self._adapter.validate_json(data, strict=True)[0]
            except ValidationError as error:
                kinds = {item["type"] for item in error.errors(include_url=False)}
                # Where JSON cannot say (an array), the strict errors are the ones to read.
                if _NO_JSON not in kinds:
                    raise explain(error, value, self.annotation) from None
            except ValueError:
                pass  # a text that is not UTF-8: the strict error says enough
        raise explain(strict, value, self.annotation) from None


def _converted(value: Any, result: Any) -> bool:
    """Whether pydantic made something else of `value`: then what it made is taken."""
    if not isinstance(value, type(result)):
        # An int serves as a float; a ValidatorIterator is what pydantic makes of an Iterable.
        return not isinstance(value, int) and type(result).__name__ != "ValidatorIterator"
    if isinstance(value, dict):
        return any(_converted(value.get(key), item) for key, item in result.items())
    if isinstance(value, list | tuple):
        return any(map(_converted, value, result))
    return False


def _is_json(value: object) -> bool:
    kind = type(value)
    if kind in _JSON_TYPES:
        return True
    if kind is list or kind is tuple:
        return all(map(_is_json, value))  # type: ignore[call-overload] # a list or tuple
    if kind is dict:
        keys = all(type(key) is str or type(key) is int for key in value)  # type: ignore[attr-defined]
        return keys and all(map(_is_json, value.values()))  # type: ignore[attr-defined] # a dict
    return False


def soften(value: object) -> object:
    """`value` with numpy's scalars turned into Python's, in lists, tuples and dicts too."""
    numpy = sys.modules.get("numpy")
    return value if numpy is None else _soften(value, numpy.generic)


def _soften(value: Any, generic: Any) -> object:
    kind = type(value)
    if kind is list or kind is tuple:
        items = [_soften(item, generic) for item in value]
        same = all(new is old for new, old in zip(items, value, strict=True))
        return value if same else kind(items)
    if kind is dict:
        pairs = {_soften(key, generic): _soften(item, generic) for key, item in value.items()}
        same = all(
            new_key is key and new is old
            for (new_key, new), (key, old) in zip(pairs.items(), value.items(), strict=False)
        )
        return value if same and len(pairs) == len(value) else pairs
    if isinstance(value, generic) and value.dtype.kind in _PLAIN_KINDS:
        plain: object = value.item()
        return plain if type(plain) in _JSON_TYPES else value
    return value


def explain(error: ValidationError, value: object, annotation: object) -> Misfit:
    """The Misfit for what pydantic found: the deepest place, what it wants and what is there."""
    places: list[tuple[list[object], object, ErrorDetails]] = []
    for item in error.errors(include_url=False):
        trail, found = _walk(item["loc"][1:], value, missing=item["type"] == "missing")
        places.append((trail, found, item))
    deepest = max(len(trail) for trail, _, _ in places)
    trail, found, first = next(place for place in places if len(place[0]) == deepest)
    wanted: list[str] = []
    for other, _, item in places:
        text = _expected(item)
        if other == trail and text not in wanted:
            wanted.append(text)
    text = " or ".join(wanted)
    if not trail:
        # The whole value: its annotation says best what was wanted, unless there is a rule in it.
        rule = first["type"] not in _EXPECTED and "_type" not in first["type"]
        text = f"{type_name(annotation)} ({text})" if rule else type_name(annotation)
    if first["type"] == "missing":
        misfit = Misfit("is missing")
    else:
        misfit = Misfit(f"expected {text}, got {type_name(type(found))} {shown(found)}")
    misfit.trail.extend(reversed(trail))
    return misfit


def _expected(item: ErrorDetails) -> str:
    kind = item["type"]
    if kind in _EXPECTED:
        return _EXPECTED[kind]
    context = item.get("ctx", {})
    for key in ("class", "class_name", "expected"):
        if key in context:
            return str(context[key])
    text = str(item["msg"])
    return text.removeprefix("Input should be ").removeprefix("a valid ")


def _walk(
    loc: tuple[int | str, ...], value: object, *, missing: bool
) -> tuple[list[object], object]:
    """The steps of `loc` that exist in `value`: pydantic puts labels of its own between them."""
    trail: list[object] = []
    for position, step in enumerate(loc):
        if missing and position == len(loc) - 1:
            trail.append(step)
            break
        found = _step(value, step)
        if found is not None:
            trail.append(found[0])
            value = found[1]
    return trail, value


def _step(value: object, step: int | str) -> tuple[object, object] | None:
    """The key that `step` stands for and what is there, or None where there is no such place."""
    if isinstance(value, Mapping):
        # A key of another class is named by its text.
        texts = [key for key in value if str(step) in {str(key), repr(key)}]
        keys = [step] if step in value else texts
        return (keys[0], value[keys[0]]) if keys else None
    if isinstance(step, int):
        if isinstance(value, Sequence) and not isinstance(value, str) and step < len(value):
            return step, value[step]
        return None
    fields = getattr(value, "_fields", None) if isinstance(value, tuple) else None
    if fields is None and isinstance(value, str | int | float | list | tuple | set | None):
        return None
    return (step, getattr(value, step)) if hasattr(value, step) else None
