"""The live side of a plan's tasks: value types and limits, prepared once per run.

What may not live here: anything about one node or one attempt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import NoneType
from typing import Final

from onready.engine.errors import InternalError
from onready.engine.plan.model import Plan, TaskRuntime, TaskSpec
from onready.engine.values import ValueType

SCALARS: Final = frozenset({NoneType, bool, int, float, str})

BIG: Final = 1 << 63
"""Integers from here on are not their own stored form: encoders have 64 bits."""

LONG_TEXT: Final = 4096
"""Characters from which a text takes the codec's way."""


class LiveTask:
    """One task of the plan, ready to be called.

    `fast` says that an attempt is nothing but a call of a coroutine function in the loop: no
    time limit, no admission, no live objects. `exact` is the type whose instances are their own
    stored form; `untyped` that any scalar is.
    """

    __slots__ = (
        "accepts",
        "careful_inputs",
        "exact",
        "fast",
        "function",
        "inputs",
        "position",
        "returns",
        "spec",
        "untyped",
    )

    def __init__(self, position: int, spec: TaskSpec, runtime: TaskRuntime) -> None:
        self.position = position
        self.spec = spec
        self.function: Callable[..., object] | None = runtime.function
        self.accepts: Mapping[str, object] = runtime.accepts
        self.inputs: dict[str, ValueType] = {}
        self.returns = (
            ValueType.of(runtime.returns, spec.codec)
            if runtime.typed_return or spec.codec
            else ValueType.any()
        )
        self.exact = self.returns.exact
        self.untyped = not runtime.typed_return and not spec.codec
        self.fast = False
        self.careful_inputs = False

    def input(self, name: str) -> ValueType:
        """How the parameter `name` reads its value."""
        found = self.inputs.get(name)
        if found is None:
            annotated = name in self.accepts
            found = ValueType.of(self.accepts[name]) if annotated else ValueType.any()
            self.inputs[name] = found
        return found

    def call(self) -> Callable[..., object]:
        """The function; InternalError where the plan was not linked."""
        if self.function is None:
            message = f"task {self.spec.name} has no function: the plan was not linked"
            raise InternalError(message)
        return self.function


def live_tasks(plan: Plan) -> list[LiveTask]:
    """The live side of every task of `plan`, by position."""
    return [
        LiveTask(position, spec, runtime)
        for position, (spec, runtime) in enumerate(zip(plan.tasks, plan.runtimes, strict=True))
    ]
