"""onready: an async, event-driven DAG execution engine.

This is the whole public API; the contracts for plug-in authors are in `onready.engine.spi`, their
test kit in `onready.engine.testing`.
"""

from onready.engine.context import NodeContext, current
from onready.engine.engine import Engine
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
from onready.engine.portal import run_sync
from onready.engine.run import Run, RunOutcome
from onready.engine.values import Dir, File

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
