"""A function and one call of it: stored values in, a stored value or a failure out.

Rule of this room: no event loop of ours is running here; the caller brings blobs before and
settles the value after.
"""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from functools import cache, partial
from types import CoroutineType, SimpleNamespace
from typing import Final

from onready.engine.context import ContextSource, bind, current
from onready.engine.errors import BackendError, ValueMismatch
from onready.engine.failure import failure_from
from onready.engine.loading import load_function
from onready.engine.names import NodeKey
from onready.engine.spi import Call, Failed, Secrets, Succeeded
from onready.engine.values import ValueType
from onready.engine.values.secret import decode_secret, holds_secret, reveal
from onready.engine.values.stored import Stored
from onready.engine.worker.ending import Terminated, TimeUp

_CONTEXT: Final = "NodeContext"
_FAILURE: Final = "Failure"


def run_function(function: Callable[..., object], arguments: Mapping[str, object]) -> object:
    """The value of `function(**arguments)`, in this thread, sync or async.

    An `async def` gets an asyncio loop of its own for as long as it runs; what it leaves running
    is cancelled.
    """
    value = function(**arguments)
    if isinstance(value, CoroutineType):
        import asyncio

        return asyncio.run(value)
    return value


class Callee:
    """A function as workers need it: how each input is read, how the result is written."""

    __slots__ = ("accepts", "contexts", "function", "returns")

    def __init__(self, function: Callable[..., object], codec: str = "") -> None:
        hints = _hints(function)
        self.function = function
        self.contexts = _context_parameters(function)
        self.returns = (
            ValueType.of(hints["return"], codec)
            if "return" in hints
            else ValueType.of(inspect.Signature.empty, codec)
            if codec
            else ValueType.any()
        )
        self.accepts = {
            name: ValueType.of(hint)
            for name, hint in hints.items()
            if name != "return" and name not in self.contexts
        }

    def arguments(
        self, inputs: Mapping[str, Stored], secrets: Secrets | None = None
    ) -> dict[str, object]:
        """The inputs, decoded, and the node's context where a parameter asks for it."""
        arguments: dict[str, object] = {}
        accepts = self.accepts
        for name, stored in inputs.items():
            kind = accepts.get(name)
            if kind is None:
                kind = accepts[name] = ValueType.any()
            try:
                arguments[name] = (
                    stored
                    if type(stored) is kind.exact
                    else kind.decode(stored)
                    if secrets is None or not holds_secret(stored)
                    else decode_secret(kind, stored, reveal(stored, secrets.resolve))
                )
            except ValueMismatch as error:
                message = f"input {name!r}: {error}"
                raise ValueMismatch(message, error.path) from error
        for name in self.contexts:
            if name not in arguments:
                arguments[name] = current()
        return arguments

    def call(self, inputs: Mapping[str, Stored], secrets: Secrets | None = None) -> Stored:
        """Decode, run, encode; the value may need settling. Raises whatever the user raised."""
        return self.returns.encode(run_function(self.function, self.arguments(inputs, secrets)))


def _context_parameters(function: Callable[..., object]) -> tuple[str, ...]:
    found: list[str] = []
    for name, parameter in inspect.signature(function).parameters.items():
        default: object = parameter.default
        # By name and not by import: workers do without the graph layer.
        if type(default).__name__ != "ProvidedObject":
            continue
        provided: object = getattr(default, "name", "")
        if provided == _FAILURE:
            continue  # among the inputs, since it is a value
        if provided != _CONTEXT:
            message = (
                f"parameter {name!r} wants the live object {provided!r}, "
                "which exists in the driver's process only"
            )
            raise BackendError(message)
        found.append(name)
    return tuple(found)


def _hints(function: Callable[..., object]) -> dict[str, object]:
    """Annotations that resolve; one that does not means "any value" and hides no other."""
    inner = function
    while isinstance(inner, partial):
        inner = inner.func
    if not hasattr(inner, "__code__") and not isinstance(inner, type):
        inner = type(inner).__call__
    try:
        return typing.get_type_hints(inner, include_extras=True)
    except Exception:  # noqa: BLE001 - annotations are the user's code: anything may go wrong
        found: dict[str, object] = {}
        scope = getattr(inspect.unwrap(inner), "__globals__", {})
        for name, annotation in getattr(inner, "__annotations__", {}).items():
            one = SimpleNamespace(__annotations__={name: annotation})
            try:
                found.update(typing.get_type_hints(one, scope, include_extras=True))
            except Exception:  # noqa: BLE001, S112 - as above
                continue
        return found


@cache
def callee_of(reference: str, codec: str) -> Callee:
    """The function of a reference, looked at once per process."""
    return Callee(load_function(reference), codec)


def run_call(
    work: Call,
    inputs: Mapping[str, Stored],
    source: ContextSource,
    key: NodeKey,
    attempt: int,
    secrets: Secrets | None = None,
) -> Succeeded | Failed:
    """One attempt of `work`: everything that goes wrong in it is a Failed.

    Inputs must be here already; the value of a Succeeded may need settling. `secrets` has the
    values of those among the inputs, None where there are none.
    """
    bind((source, key, attempt))
    try:
        return Succeeded(callee_of(work.reference, work.codec).call(inputs, secrets))
    except Terminated:
        raise
    except TimeUp as error:
        return Failed(failure_from(error, node=str(key), attempt=attempt, kind="timeout"))
    except BackendError as error:
        return Failed(failure_from(error, node=str(key), attempt=attempt, kind="config"))
    except BaseException as error:  # noqa: BLE001 - SystemExit and the like are the node's failure
        return Failed(failure_from(error, node=str(key), attempt=attempt))
