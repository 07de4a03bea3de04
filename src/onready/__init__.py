"""onready: an async, event-driven DAG execution engine.

This is the whole public API; the contracts for plug-in authors are in `onready.engine.spi`, their
test kit in `onready.engine.testing`.

What drives runs is loaded when it is first named (PEP 562): user code that defines tasks is also
imported by the worker of each process, container and Job, and none of them drives anything.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from onready.engine.context import NodeContext, current
from onready.engine.errors import (
    BackendError,
    ConfigError,
    Failure,
    GraphError,
    InputError,
    NoCodec,
    NodeFailed,
    OnreadyError,
    PluginError,
    RunCancelled,
    RunConflict,
    RunFailed,
    RunLeaseHeld,
    RunNotFound,
    StoreError,
    ValueMismatch,
)
from onready.engine.graph import (
    Bound,
    GraphBuilder,
    Provided,
    Ref,
    Secret,
    Task,
    branch,
    each,
    graph,
    repeat,
    rescue,
    shell,
    switch,
    task,
)
from onready.engine.options import Resources, Retry
from onready.engine.values import Dir, File

if TYPE_CHECKING:
    from onready.engine.engine import Engine
    from onready.engine.portal import run_sync
    from onready.engine.run import Run, RunOutcome

__all__ = [
    "BackendError",
    "Bound",
    "ConfigError",
    "Dir",
    "Engine",
    "Failure",
    "File",
    "GraphBuilder",
    "GraphError",
    "InputError",
    "NoCodec",
    "NodeContext",
    "NodeFailed",
    "OnreadyError",
    "PluginError",
    "Provided",
    "Ref",
    "Resources",
    "Retry",
    "Run",
    "RunCancelled",
    "RunConflict",
    "RunFailed",
    "RunLeaseHeld",
    "RunNotFound",
    "RunOutcome",
    "Secret",
    "StoreError",
    "Task",
    "ValueMismatch",
    "branch",
    "current",
    "each",
    "graph",
    "repeat",
    "rescue",
    "run_sync",
    "shell",
    "switch",
    "task",
]


def __getattr__(name: str) -> object:
    match name:
        case "Engine":
            room = import_module("onready.engine.engine")
        case "Run" | "RunOutcome":
            room = import_module("onready.engine.run")
        case "run_sync":
            room = import_module("onready.engine.portal")
        case _:
            message = f"module {__name__!r} has no attribute {name!r}"
            raise AttributeError(message, name=name)
    found: object = getattr(room, name)
    globals()[name] = found  # the next time it is there
    return found


def __dir__() -> list[str]:
    return sorted(__all__)
