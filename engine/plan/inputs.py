"""The inputs of a run: checked against the graph's parameters and brought to their stored form.

Rule of this room: reads values; knows nothing of where they came from (a call, flags, a file).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from onready.engine.errors import InputError, NoCodec, ValueMismatch
from onready.engine.graph.codes import did_you_mean
from onready.engine.values import ValueType
from onready.engine.values.stored import Live

if TYPE_CHECKING:
    from onready.engine.plan.model import Plan
    from onready.engine.values.stored import Stored


def read_inputs(plan: Plan, inputs: Mapping[str, object]) -> dict[str, Stored]:
    """The stored form of a run's inputs, defaults filled in, in the order of the parameters.

    What no codec handles is a `Live` object: fine in memory, refused by a durable store. Raises
    InputError, which names every input that is missing, unknown or does not fit.
    """
    params = plan.root.params
    names = [param.name for param in params]
    problems = [
        f"no input {name!r}. {did_you_mean(name, names)}" for name in inputs if name not in names
    ]
    stored: dict[str, Stored] = {}
    for param in params:
        if param.name in inputs:
            try:
                stored[param.name] = _encode(plan, param.name, inputs[param.name])
            except ValueMismatch as error:
                problems.append(f"{param.name}: {error}")
        elif param.required:
            hint = f" ({param.type})" if param.type else ""
            problems.append(f"{param.name}{hint} is missing")
        else:
            stored[param.name] = param.default
    if problems:
        message = f"inputs of {plan.name}: {'; '.join(problems)}"
        raise InputError(message)
    return stored


def _encode(plan: Plan, name: str, value: object) -> Stored:
    known = plan.param_types
    value_type = ValueType.of(known[name]) if name in known else ValueType.any()
    try:
        return value_type.encode(value)
    except NoCodec:
        return Live(value)
