"""`ValueType`: one annotation, and the way of its values to their stored form and back.

Rule of this room: synchronous and CPU only. Blobs and files are moved by `moving.py`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Final

from onready.engine.errors import InternalError, NoCodec, OnreadyError, StoreError
from onready.engine.values.annotations import (
    NONE,
    SCALARS,
    Check,
    classes_in,
    is_any,
    quick_check,
)
from onready.engine.values.codec import Codec, leaf_codec, named_codec
from onready.engine.values.misfit import Misfit, type_name
from onready.engine.values.raw import BYTES
from onready.engine.values.reading import loads
from onready.engine.values.scalars import is_scalar
from onready.engine.values.secret import refers_to_secret
from onready.engine.values.stored import Compound, Encoded, Live, Stored
from onready.engine.values.validation import Validator, soften
from onready.engine.values.writing import dumps, encode_leaf, has_json_form

_ENDLESS: Final = "$: the value is nested too deeply, or refers to itself"
_HELD: Final = frozenset({Encoded, Compound, Live})
_CACHED: Final = 4096


class ValueType:
    """How values of one annotation are checked, stored and read.

    `exact` is the scalar class whose instances are their own stored form, None where there is
    none. An int must be within 64 bits for that, and a text short and encodable: `is_scalar`.
    `takes_any` says that there is no annotation.
    Make one with `of` or `any`: they are cached, and pydantic's part is built when first needed.
    """

    __slots__ = (
        "_check",
        "_known",
        "_scalars",
        "_validator",
        "annotation",
        "codec",
        "exact",
        "takes_any",
    )

    def __init__(self, annotation: object, codec: str = "") -> None:
        self.annotation = annotation
        self.codec = "" if codec == "json" else codec
        self.takes_any = annotation is Any
        if codec and codec != "json":
            named_codec(codec)  # a PluginError now, not at the end of the first attempt
        check = quick_check(annotation)
        self._check: Check = Check() if check is None else check
        self._validator: Validator | None = None
        self._known: frozenset[type] | None = None
        self._scalars = self._check.kinds & SCALARS if self.codec in {"", "pickle"} else frozenset()
        plain = NONE if annotation is None else annotation
        self.exact: type | None = next((k for k in self._scalars if k is plain), None)

    @staticmethod
    def of(annotation: object, codec: str = "") -> ValueType:
        """The type of values annotated so; `codec` is a task's explicit choice, "" for none."""
        if is_any(annotation):
            annotation = Any
        try:
            return _of(annotation, codec)
        except TypeError:  # unhashable metadata in Annotated
            return _of_identity(_Identity(annotation), codec)

    @staticmethod
    def any() -> ValueType:
        """The type of values without an annotation."""
        return _ANY

    def __repr__(self) -> str:
        return f"ValueType({type_name(self.annotation)})"

    def encode(self, value: object, *, validate: bool = True) -> Stored:
        """The stored form of `value`: ValueMismatch where it does not fit, NoCodec if it has none.

        A file or folder gives `Encoded("path", ...)`, which `settle` must move. Inline data may
        have any size before that.
        """
        if type(value) in self._scalars and is_scalar(value):
            return value
        try:
            if self.takes_any or not validate:
                return self._encode(value, check=False)
            if self._check.passes(value):
                return self._encode(value, check=False)
            return self._encode_fitted(value)
        except Misfit as misfit:
            raise misfit.public() from misfit.__cause__
        except RecursionError:
            raise NoCodec(_ENDLESS) from None

    def _encode_fitted(self, value: object) -> Stored:
        try:
            fitted = self._fit(value)
        except Misfit:
            # A secret is a text by and by: whether it fits is seen where the node runs.
            if refers_to_secret(value):
                return self._encode(value, check=False)
            raise
        return self._encode(fitted, check=True)

    def _encode(self, value: object, *, check: bool) -> Stored:
        if self.codec:
            return _whole(named_codec(self.codec), value)
        if is_scalar(value):
            return value
        kind = type(value)
        codec = named_codec("bytes") if kind in BYTES else None
        if codec is None and not has_json_form(kind):
            codec = leaf_codec(kind)
        if codec is not None:
            return _whole(codec, value)
        return dumps(value, self._classes, _check_field if check else None)

    def _fit(self, value: object) -> object:
        """`value` as the annotation has it, or a Misfit."""
        if self._check.passes(value):
            return value
        softened = soften(value)
        if softened is not value and self._check.passes(softened):
            return softened
        if self._validator is None:
            self._validator = Validator(self.annotation)
        return self._validator.fit(softened)

    def _classes(self) -> frozenset[type]:
        if self._known is None:
            self._known = classes_in(self.annotation)
        return self._known

    def decode(self, stored: Stored) -> object:
        """A fresh value: ValueMismatch where it does not fit the annotation.

        Needs inline data: `bring` comes first. What is not readable raises StoreError. A live
        object is given as it is.
        """
        if type(stored) is Live:
            return stored.value
        try:
            value = self._decode(stored)
            if self.takes_any or type(value) in self._check.kinds:
                return value
            return self._fit(value)
        except Misfit as misfit:
            raise misfit.public() from None
        except (OnreadyError, MemoryError):
            raise
        except Exception as error:
            message = f"a stored value does not decode: {type(error).__name__}: {error}"
            raise StoreError(message) from error

    def _decode(self, stored: Stored) -> object:
        kind = type(stored)
        if kind is Encoded:
            return self._decode_encoded(stored)  # type: ignore[arg-type] # Encoded
        if kind is Compound:
            return self._decode_compound(stored)  # type: ignore[arg-type] # Compound
        return stored.value if isinstance(stored, Live) else stored

    def _decode_encoded(self, stored: Encoded) -> object:
        data = stored.data
        if data is None or stored.codec in {"file", "dir"}:
            message = f"a blob ({stored.codec} {stored.digest}) was decoded before it was brought"
            raise InternalError(message)
        if stored.codec == "json":
            return loads(data, stored.meta, self._classes)
        return named_codec(stored.codec).decode(data, stored.meta)

    def _decode_compound(self, stored: Compound) -> object:
        items = stored.items
        if stored.kind == "parts":
            body = items[0]
            if not isinstance(body, Encoded) or body.data is None:
                message = "a value in parts was decoded before it was brought"
                raise InternalError(message)
            return loads(body.data, body.meta, self._classes, list(map(self._decode, items[1:])))
        values = items if _HELD.isdisjoint(map(type, items)) else map(self._decode, items)
        if stored.kind == "dict":
            return dict(zip(stored.keys, values, strict=True))
        return list(values) if stored.kind == "list" else tuple(values)


def _whole(codec: Codec, value: object) -> Encoded:
    data, meta = encode_leaf(codec, value)
    return Encoded(codec.name, data, None, len(data), meta)


def _check_field(kind: type, name: str, value: object) -> None:
    """A field of a dataclass that pydantic let pass: it does not look into instances."""
    field = _field_types(kind).get(name)
    if field is not None and not field._check.passes(value):
        field._fit(value)


@lru_cache(_CACHED)
def _field_types(kind: type) -> dict[str, ValueType]:
    from typing import get_type_hints

    try:
        hints = get_type_hints(kind, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}
    return {name: ValueType.of(hint) for name, hint in hints.items()}


@lru_cache(_CACHED)
def _of(annotation: object, codec: str) -> ValueType:
    return ValueType(annotation, codec)


class _Identity:
    """Hashes an annotation by identity, and keeps it alive while it is a key."""

    __slots__ = ("annotation",)

    def __init__(self, annotation: object) -> None:
        self.annotation = annotation

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and other.annotation is self.annotation

    def __hash__(self) -> int:
        return id(self.annotation)


@lru_cache(_CACHED)
def _of_identity(identity: _Identity, codec: str) -> ValueType:
    return ValueType(identity.annotation, codec)


_ANY: Final = ValueType.of(Any)
