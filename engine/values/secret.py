"""Secrets as values: a name that travels, and the text that takes its place where a node runs.

    Secret("TOKEN") ── encode ──> Encoded("secret", b"TOKEN") ── reveal ──> the text itself

Events, envelopes, plans and catalogs hold the name alone. To decode it gives the reference again;
only `reveal` puts a value in, and only whoever is about to run the node calls it.

Rule of this room: knows no provider; who has the values is told to `reveal`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final, cast

from onready.engine.errors import SecretError, ValueMismatch
from onready.engine.values.misfit import type_name
from onready.engine.values.stored import Compound, Encoded, Stored

if TYPE_CHECKING:
    from onready.engine.values.types import ValueType

CODEC: Final = "secret"
_HELD: Final = frozenset({Encoded, Compound})


class SecretRef:
    """Stands for the text that a secret provider has under `name`. Equal names are equal."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"Secret({self.name!r})"

    def __format__(self, spec: str, /) -> str:
        # Else f"Bearer {token}" in a graph would quietly hold these words instead of the secret.
        message = f"{self!r} cannot be put into a text here: pass it to the task that builds it"
        raise SecretError(message)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretRef) and other.name == self.name

    def __hash__(self) -> int:
        return hash((SecretRef, self.name))


class SecretCodec:
    """The stored form of a reference: its name."""

    name = CODEC

    def handles(self, kind: type, /) -> bool:
        """References alone."""
        return kind is SecretRef

    def encode(self, value: object, /) -> tuple[bytes, str]:
        """The name."""
        return cast("SecretRef", value).name.encode(), ""

    def decode(self, data: bytes, meta: str, /) -> object:
        """The reference; never the secret."""
        del meta
        return SecretRef(data.decode())


def refers_to_secret(value: object) -> bool:
    """Whether a live value is a reference, or has one in its lists, tuples and dicts."""
    if type(value) is SecretRef:
        return True
    if isinstance(value, list | tuple):
        return any(map(refers_to_secret, cast("list[object]", value)))
    if isinstance(value, dict):
        return any(map(refers_to_secret, cast("dict[object, object]", value).values()))
    return False


def secret_names(*values: Stored) -> tuple[str, ...]:
    """The names of all secrets in stored values, each once, in order."""
    return tuple(dict.fromkeys(name for value in values for name in _names(value)))


def holds_secret(stored: object) -> bool:
    """Whether a secret is anywhere in a stored value."""
    return next(_names(stored), None) is not None


def _names(stored: object) -> Iterator[str]:
    if type(stored) is Encoded:
        if stored.codec == CODEC and stored.data is not None:
            yield stored.data.decode()
    elif type(stored) is Compound and not _HELD.isdisjoint(map(type, stored.items)):
        for item in stored.items:
            yield from _names(item)


def reveal(stored: Stored, resolve: Callable[[str], str]) -> Stored:
    """`stored` with the text of each secret in its place: not to be kept, not to be sent."""
    if type(stored) is Encoded:
        if stored.codec == CODEC and stored.data is not None:
            return resolve(stored.data.decode())
    elif type(stored) is Compound and holds_secret(stored):
        items = tuple([reveal(item, resolve) for item in stored.items])
        return Compound(stored.kind, items, stored.keys)
    return stored


def decode_secret(reader: ValueType, stored: Stored, revealed: Stored) -> object:
    """What `reader` makes of `revealed`; a ValueMismatch says nothing of the value.

    Its usual words would show the beginning of the secret.
    """
    try:
        return reader.decode(revealed)
    except ValueMismatch as error:
        names = ", ".join(f"Secret({name!r})" for name in secret_names(stored))
        place = "" if error.path == "$" else f" (at {error.path})"
        message = f"the value of {names} does not fit {type_name(reader.annotation)}{place}"
        raise ValueMismatch(message) from None


def secret_inputs(inputs: Mapping[str, Stored]) -> frozenset[str]:
    """The names of those inputs in which there is a secret."""
    return frozenset(name for name, stored in inputs.items() if holds_secret(stored))
