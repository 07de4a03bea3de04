"""What can only be judged with the backends at hand: can this task run where it shall run.

Rule of this room: checks; each raises a GraphError with a code of the graph's table.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Final

from onready.engine.graph.codes import Code, did_you_mean
from onready.engine.graph.markers import CONTEXT, SPECIAL
from onready.engine.graph.shell import ShellCommand
from onready.engine.graph.task import Task
from onready.engine.names import Location
from onready.engine.plan.sources import reference_of
from onready.engine.spi import Capabilities

if TYPE_CHECKING:
    from onready.engine.graph.body import Node
    from onready.engine.graph.functions import Function
    from onready.engine.plan.model import TaskSpec

DEFAULT_ASYNC: Final = "inline"
DEFAULT_SYNC: Final = "thread"
DEFAULT_SHELL: Final = "subprocess"
DEFAULT_IMAGE: Final = "docker"


def default_backend(callee: Task[..., object] | ShellCommand) -> str:
    """Where a task runs that does not say where."""
    if isinstance(callee, ShellCommand):
        return DEFAULT_IMAGE if callee.work.image else DEFAULT_SHELL
    return DEFAULT_ASYNC if callee.function.is_async else DEFAULT_SYNC


def check_task(
    spec: TaskSpec,
    callee: Task[..., object] | ShellCommand,
    backends: Mapping[str, Capabilities],
    where: Location,
) -> None:
    """Refuse a task that its backend cannot run; `where` is its first call."""
    can = backends.get(spec.backend)
    if can is None:
        message = f"{spec.name}: there is no backend {spec.backend!r}"
        raise Code.G050.error(message, where, did_you_mean(spec.backend, backends))
    problem = _inability(spec, callee, can)
    if problem:
        able = [name for name, other in backends.items() if not _inability(spec, callee, other)]
        cure = f"Backends that can: {', '.join(sorted(able))}." if able else "No backend here can."
        message = f"{spec.name}: the backend {spec.backend!r} {problem}"
        raise Code.G051.error(message, where, cure)
    for option in spec.options:
        if can.options is not None and option not in can.options:
            message = f"{spec.name}: the backend {spec.backend!r} has no option {option!r}"
            cure = _who_has(option, backends) or did_you_mean(option, can.options)
            raise Code.G055.error(message, where, cure)
    wrong = can.check(spec.options, spec.work) if can.check is not None else ""
    if wrong:
        message = f"{spec.name}: the backend {spec.backend!r} {wrong}"
        raise Code.G055.error(message, where)
    if isinstance(callee, Task) and not can.in_process:
        _check_importable(spec, callee.function, where)


def _who_has(option: str, backends: Mapping[str, Capabilities]) -> str:
    """Which backends have an option that this one has not; "" where none is known to."""
    able = [name for name, can in backends.items() if option in (can.options or ())]
    if not able and option == "image":  # not opened yet, so nobody has asked it
        able = [DEFAULT_IMAGE]
    return f"Say backend={min(able)!r}, which has it." if able else ""


def _inability(spec: TaskSpec, callee: Task[..., object] | ShellCommand, can: Capabilities) -> str:
    """What the backend cannot do of what the task needs; "" if it can do all."""
    if isinstance(callee, ShellCommand):
        if not can.shell:
            return "runs no shell commands"
    elif not can.python:
        return "runs no Python functions"
    elif can.coroutines and not spec.is_async:
        return "runs `async def` alone: a `def` would block the loop"
    if isinstance(callee, ShellCommand) and callee.work.image and not can.image:
        return "runs no images"
    if spec.resources.gpu and not can.gpu:
        return f"has no GPUs to give, and the task asks for {spec.resources.gpu}"
    return ""


def _check_importable(spec: TaskSpec, function: Function, where: Location) -> None:
    """Refuse what a worker process would not find again under its reference."""
    reference = reference_of(function.fn)
    if reference is None:
        message = f"{spec.name} runs on {spec.backend!r}, but no other process can import it"
        raise Code.G052.error(message, where)
    # Only what is loaded already is compared: a script's `__main__` must not be run twice.
    found = _loaded(function)
    if found is not function.fn:
        message = f"{spec.name} runs on {spec.backend!r}, but {reference} is not that function"
        raise Code.G052.error(message, where, "Give the function a name of its own.")


def _loaded(function: Function) -> object:
    import sys

    found: object = sys.modules.get(function.fn.__module__)
    for name in function.fn.__qualname__.split("."):
        found = getattr(found, name, None)
    return getattr(found, "fn", found) if isinstance(found, Task) else found


def check_provided(
    node: Node,
    given: Collection[str],
    callee: Task[..., object],
    spec: TaskSpec,
    can: Capabilities,
    known: Collection[str] | None,
) -> None:
    """Refuse a node whose provided objects cannot reach it, or that nobody provides."""
    for parameter in callee.function.provided:
        name = parameter.provided
        if name in SPECIAL or parameter.name in given:
            continue
        if not can.in_process:
            message = f"{node.name} runs on {spec.backend!r} and wants the live object {name!r}"
            raise Code.G053.error(message, node.location)
        if known is not None and name not in known:
            message = f"{node.name} wants the provided object {name!r}"
            raise Code.G054.error(message, node.location, did_you_mean(name, known))


# --- the cache ----------------------------------------------------------------------------------


def check_cached(callee: Task[..., object], where: Location) -> None:
    """Refuse to cache a function that holds values which are neither inputs nor source text."""
    fn = callee.function.fn
    if isinstance(fn, functools.partial):
        message = f"{callee.label} is cached, and a partial that holds arguments of its own"
        raise Code.G080.error(message, where, "Give them to the task as inputs.")
    if not isinstance(fn, types.FunctionType):
        message = f"{callee.label} is cached, and an object ({type(fn).__name__}) with a state"
        raise Code.G080.error(message, where, "Write a function whose inputs are all it takes.")
    held = _held_value(fn)
    if held:
        message = f"{callee.label} is cached, and takes {held!r} from the function around it"
        raise Code.G080.error(message, where)


def _held_value(fn: types.FunctionType) -> str:
    """The first name that a function, or one it wraps, closes over and that is no code; or ""."""
    seen: set[int] = set()
    todo = [fn]
    while todo:
        function = todo.pop()
        seen.add(id(function))
        names = function.__code__.co_freevars
        for name, cell in zip(names, function.__closure__ or (), strict=True):
            try:
                value: object = cell.cell_contents
            except ValueError:  # not bound yet: a function that is defined further down
                continue
            value = value.fn if isinstance(value, Task) else value
            if isinstance(value, types.FunctionType):
                todo += [value] if id(value) not in seen else []
            elif not isinstance(value, _CODE):
                return name
    return ""


_CODE: Final = (type, types.ModuleType, types.BuiltinFunctionType)
"""What a cached function may close over, beside functions: it is as fixed as a global name."""


def check_nothing_live(node: Node, given: Collection[str], callee: Task[..., object]) -> None:
    """Refuse live objects of a cached task; its own context is no input."""
    for parameter in callee.function.provided:
        name = parameter.provided
        if name != CONTEXT and parameter.name not in given:
            message = f"{node.name} is cached, and takes the live object {name!r}"
            cure = "Take what the value depends on as an input, or leave cache= out."
            raise Code.G080.error(message, node.location, cure)
