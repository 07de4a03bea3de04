"""Every exception of onready, split by whose fault it is.

    OnreadyError
    ├── GraphError          the definition is wrong: code, file:line, suggestion
    ├── ConfigError         the configuration or a plug-in's settings are wrong
    ├── InputError          a run was given inputs that its graph does not take
    ├── ValueMismatch       a value does not fit its annotation: the path inside the value
    ├── NoCodec             a value has no durable form: names the cures
    ├── SecretError         no provider has a secret, or it is asked for where it cannot be had
    ├── NodeFailed          a node failed for good: carries a Failure
    ├── RunCancelled        the run that was awaited was cancelled
    ├── RunNotFound         no run has that id, prefix or name
    ├── RunConflict         the run is not what is asked for: another plan, other inputs, its end
    │   └── PlanDrift       graph or code changed since the run began: says what
    ├── RunLeaseHeld        another driver drives that run
    ├── EnvironmentFault    outside the definition and the node; `retryable` says if again may help
    │   ├── BackendError
    │   └── StoreError
    │       ├── StaleEpoch  a newer driver took the run over: this one must stop
    │       └── DamagedEntry  a value in the cache cannot be used: as good as none
    ├── PluginError         a plug-in is missing, clashes or does not load
    └── InternalError       ours: file a bug
    RunFailed (ExceptionGroup of NodeFailed)

Rule of this room: imports only `names`; no behaviour beyond what an error says of itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Self

import msgspec

from onready.engine.names import Location

FailureKind = Literal[
    "error",
    "timeout",
    "oom",
    "exit",
    "evicted",
    "image",
    "config",
    "unschedulable",
    "lost",
    "cancelled",
]

INFRASTRUCTURE: frozenset[str] = frozenset({"evicted", "lost"})
"""Kinds that are nobody's fault: they have a retry budget of their own."""


class Frame(msgspec.Struct, frozen=True, array_like=True):
    """One frame of a traceback: the user's code only."""

    file: str
    line: int
    function: str
    code: str = ""


class Failure(msgspec.Struct, frozen=True, array_like=True):
    """Why an attempt, and at last its node, failed.

    `kind` is the class of failure; `type` and `message` are the exception's, where there was
    one. `frames` are the user's own frames, outermost first. `reason` is the backend's raw word
    for it (an exit status, Docker's error). `log` holds the last lines that the attempt wrote.
    `node` is the printed key; `attempt` counts from 1.
    """

    kind: FailureKind
    message: str
    type: str = ""
    node: str = ""
    attempt: int = 0
    frames: tuple[Frame, ...] = ()
    reason: str = ""
    log: tuple[str, ...] = ()
    exit_code: int | None = None
    bases: tuple[str, ...] = ()
    """Names of the exception's class and its bases, so that `Retry(on=...)` can match remotely."""

    def __str__(self) -> str:
        return f"{self.type}: {self.message}" if self.type else self.message


class OnreadyError(Exception):
    """Base of all errors that onready raises (RunFailed, an exception group, aside)."""


class GraphError(OnreadyError):
    """The definition of a graph is wrong.

    `code` is stable and listed in the docs; `location` is where the user wrote it;
    `suggestion` says what to do about it.
    """

    def __init__(
        self, code: str, message: str, location: Location | None = None, suggestion: str = ""
    ) -> None:
        self.code = code
        self.message = message
        self.location = location
        self.suggestion = suggestion
        where = f"{location}: " if location is not None else ""
        hint = f"\n  {suggestion}" if suggestion else ""
        super().__init__(f"{where}{code}: {message}{hint}")


class ConfigError(OnreadyError):
    """The configuration is wrong; the message names the key and the place it came from."""


class InputError(OnreadyError):
    """The inputs of a run do not fit its graph's parameters."""


class ValueMismatch(OnreadyError):
    """A value does not fit its annotation. `path` leads to the place inside the value."""

    def __init__(self, message: str, path: str = "") -> None:
        self.path = path
        super().__init__(message)


class NoCodec(OnreadyError):
    """No codec gives this value a durable form; the message names the three cures."""


class SecretError(OnreadyError):
    """No provider has that secret, or it was asked for where it cannot be had.

    The message names the secret and the providers that were asked, never a value.
    """


class NodeFailed(OnreadyError):
    """A node failed for good."""

    def __init__(self, failure: Failure) -> None:
        self.failure = failure
        where = f"{failure.node}: " if failure.node else ""
        super().__init__(f"{where}{failure}")


class RunFailed(ExceptionGroup[NodeFailed]):
    """A run failed. `exceptions` has one NodeFailed per node that failed for good."""

    run: str = ""

    @classmethod
    def of(cls, run: str, failures: Sequence[Failure]) -> Self:
        """The group for `run` whose nodes failed with `failures` (at least one)."""
        error = cls(f"run {run} failed", [NodeFailed(failure) for failure in failures])
        error.run = run
        return error

    def derive(self, excs: Sequence[NodeFailed], /) -> RunFailed:  # type: ignore[override] # narrowed
        """A group of some of the errors, for the same run: `split` and `except*` call it."""
        error = RunFailed(self.message, excs)
        error.run = self.run
        return error

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The failures, in the order in which the nodes failed."""
        return tuple(error.failure for error in self.exceptions if isinstance(error, NodeFailed))


class RunCancelled(OnreadyError):
    """The run that was awaited was cancelled."""

    def __init__(self, run: str, reason: str = "") -> None:
        self.run = run
        self.reason = reason
        super().__init__(f"run {run} was cancelled" + (f": {reason}" if reason else ""))


class RunNotFound(OnreadyError):
    """No run has that id, prefix or name."""


class RunConflict(OnreadyError):
    """The run is not what is asked for: another plan or other inputs, or it has (not) ended."""


class PlanDrift(RunConflict):
    """Graph or code changed since the run began. `changes` says what, one line each."""

    def __init__(self, run: str, changes: tuple[str, ...]) -> None:
        self.run = run
        self.changes = changes
        lines = "\n".join(f"  {change}" for change in changes)
        super().__init__(
            f"run {run} was started with another plan; changed since:\n{lines}\n"
            "accept the drift to go on with what there is now"
        )


class RunLeaseHeld(OnreadyError):
    """Another driver holds the lease of that run: `owner`, where the store says who."""

    def __init__(self, message: str, owner: str = "") -> None:
        self.owner = owner
        super().__init__(message)


class EnvironmentFault(OnreadyError):
    """Something outside the definition and the node went wrong."""

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        self.retryable = retryable
        super().__init__(message)


class BackendError(EnvironmentFault):
    """A backend cannot do what it was asked."""


class StoreError(EnvironmentFault):
    """A run log or a catalog cannot do what it was asked."""


class StaleEpoch(StoreError):
    """A driver with a newer epoch took the run over; this one must stop at once."""


class DamagedEntry(StoreError):
    """A record of the cache, or a blob that it refers to, cannot be used: as good as none."""


class PluginError(OnreadyError):
    """A plug-in is missing, clashes with another, or does not load."""


class InternalError(OnreadyError):
    """A fault of onready itself: please file a bug with the node's story below."""
