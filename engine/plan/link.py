"""The live side of a plan that came from JSON: functions and their annotations.

Rule of this room: imports the user's code by the references that the plan holds; no other way in.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import get_type_hints

from onready.engine.loading import load_function
from onready.engine.plan.model import Plan, TaskRuntime
from onready.engine.spi import Call


def link(plan: Plan) -> Plan:
    """The plan with `runtimes` filled: a copy, each referenced function imported once.

    GraphError where a reference leads nowhere (the codes of `onready.engine.loading.load`).
    """
    known: dict[str, TaskRuntime] = {}
    runtimes: list[TaskRuntime] = []
    for task in plan.tasks:
        if not isinstance(task.work, Call):
            runtimes.append(TaskRuntime(None))
            continue
        reference = task.work.reference
        if reference not in known:
            known[reference] = _runtime(load_function(reference))
        runtimes.append(known[reference])
    return replace(plan, runtimes=tuple(runtimes))


def _runtime(function: Callable[..., object]) -> TaskRuntime:
    try:
        hints = get_type_hints(function, include_extras=True)
    except (NameError, TypeError):
        # A name that exists for type checkers only: such a function takes and gives any value.
        hints = {}
    typed = "return" in hints
    returns = hints.pop("return", inspect.Signature.empty)
    return TaskRuntime(function, hints, returns, typed)
