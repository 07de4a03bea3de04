"""Values written in a graph: their stored form, made when the call is traced.

Made at once and not at compile time: a list that the user changes after the call must not change
what the call means, and a value that does not fit is reported where it was written.

Rule of this room: the values package is imported only when a value needs it.
"""

from __future__ import annotations

import dataclasses
from typing import Final, cast

from onready.engine.errors import NoCodec, ValueMismatch
from onready.engine.graph.codes import Code
from onready.engine.graph.functions import MISSING
from onready.engine.graph.locate import here
from onready.engine.graph.markers import Each
from onready.engine.graph.refs import Ref, describe
from onready.engine.values.stored import Live, Stored

_SHORT_TEXT: Final = 1024
_OWN_FORM: Final = frozenset({bool, float, type(None)})
_INT_LIMIT: Final = 2**63
_LEAVES: Final = frozenset({int, float, bool, str, bytes, type(None)})


def holds_ref(value: object) -> bool:
    """Whether a ref is in `value`: it is one, or is inside lists, tuples and dicts.

    A ref inside a set, an object or a dict's key is refused: the engine cannot fill it in there.
    """
    kind = type(value)
    if kind in _LEAVES:
        return False
    if kind is Ref:
        return True
    if kind is Each:
        message = "each() is not a direct argument of .map()"
        raise Code.G030.error(message, here())
    if isinstance(value, list | tuple):
        return any(holds_ref(item) for item in value)
    if isinstance(value, dict):
        for key in value:
            _refuse_if_ref(key, "a dict's key")
        return any(holds_ref(item) for item in value.values())
    if isinstance(value, set | frozenset):
        for item in value:
            _refuse_if_ref(item, "a set")
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            _refuse_if_ref(getattr(value, field.name, None), f"a {kind.__name__}")
    return False


def _refuse_if_ref(value: object, place: str) -> None:
    if type(value) is Ref:
        message = f"{describe(value)} is inside {place}"
        raise Code.G015.error(message, here())


def store(value: object, annotation: object, target: str) -> Stored:
    """The stored form of a constant that goes to `target`; GraphError if it does not fit.

    What no codec handles is kept live: engines with a durable store refuse it when they run.
    """
    # Most constants are scalars that are their own stored form.
    if annotation is MISSING or annotation is type(value):
        if type(value) in _OWN_FORM:
            return cast("Stored", value)
        if type(value) is int and -_INT_LIMIT <= value < _INT_LIMIT:
            return value
        if type(value) is str and len(value) <= _SHORT_TEXT and value.isascii():
            return value
    return _encode(value, annotation, target)


def _encode(value: object, annotation: object, target: str) -> Stored:
    from onready.engine.values import ValueType

    value_type = ValueType.any() if annotation is MISSING else ValueType.of(annotation)
    try:
        return value_type.encode(value)
    except ValueMismatch as error:
        message = f"{target} cannot take {value!r:.80}: {error}"
        raise Code.G005.error(message, here()) from error
    except NoCodec:
        return Live(value)
