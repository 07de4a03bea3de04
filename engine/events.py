"""Events: the closed set of recorded facts, in the past tense.

Every event has `seq` (gapless per run, from 1), `at` (UTC, seconds since the epoch). Node events
add `node` and `attempt` (from 1). The run they belong to and the version of this set are said
once per stream, and in every JSON form. Fields are only ever added at the end, with a default.

Rule of this room: data only, no behaviour. `codec.py` beside the stores writes and reads them.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from onready.engine.errors import Failure
from onready.engine.names import NodeKey
from onready.engine.options import OnError
from onready.engine.values.stored import Live, Stored

EVENT_VERSION = 1

ScopeStatus = Literal["succeeded", "failed", "cancelled", "skipped"]
RunStatus = Literal["running", "succeeded", "failed", "cancelled", "interrupted"]


class Event(msgspec.Struct, array_like=True, gc=False):
    """What all events have."""

    seq: int
    at: float


class RunStarted(Event, tag="run.started"):
    """First event of every run. The plan is in the catalog under `plans/<fingerprint>.json`."""

    graph: str
    name: str
    fingerprint: str
    inputs: dict[str, Stored]
    on_error: OnError = "stop"
    target: str = ""
    """Where the graph was loaded from (`file.py:graph`), so that another process can do it."""
    epoch: int = 1
    version: int = EVENT_VERSION
    backend: str = ""
    """Where every Python task was told to run, "" where each says itself."""
    select: tuple[str, ...] = ()
    """The part of the graph that was asked for; empty: all of it."""
    cache: bool = True
    """False: cached tasks run like others, and nothing of them is kept."""


class RunResumed(Event, tag="run.resumed"):
    """A driver took the run over after a crash, or continued one that had ended (`retry`).

    With `retry`, what succeeded is kept and the rest runs again under new attempt numbers;
    `redo` are nodes that run again though they had succeeded, with all that needs them.
    `fingerprint` is set where the run goes on with another plan than before.
    """

    epoch: int
    owner: str = ""
    retry: bool = False
    redo: tuple[NodeKey, ...] = ()
    fingerprint: str = ""


class RunCancelling(Event, tag="run.cancelling"):
    """Cancellation was asked for; `grace` is in seconds."""

    reason: str
    grace: float


class RunSucceeded(Event, tag="run.succeeded"):
    """Terminal. `value` is the graph's; None too where it is a live object."""

    value: Stored = None


class RunFailed(Event, tag="run.failed"):
    """Terminal. `nodes` are those that failed for good, in that order."""

    nodes: tuple[NodeKey, ...] = ()
    reason: str = ""
    """Set where the run failed for a cause that is no node's: the run's own timeout."""


class RunCancelled(Event, tag="run.cancelled"):
    """Terminal."""

    reason: str = ""


class ScopeOpened(Event, tag="scope.opened"):
    """A composite got its body: `count` items of a map, or the chosen `arm`.

    A repeat opens once per iteration, `count` being the number of iterations by then. A rescue
    whose body failed opens again, with the arm `handler`; no `scope.closed` comes in between.
    """

    node: NodeKey
    count: int | None = None
    arm: str | None = None


class ScopeClosed(Event, tag="scope.closed"):
    """A composite ended."""

    node: NodeKey
    status: ScopeStatus


class AttemptPlanned(Event, tag="attempt.planned"):
    """Durable before the attempt is submitted to anything that leaves the process."""

    node: NodeKey
    attempt: int
    backend: str
    dispatch: str


class NodeStarted(Event, tag="node.started"):
    """An attempt runs. `handle` is the backend's opaque reference."""

    node: NodeKey
    attempt: int
    handle: str = ""


class NodeRetrying(Event, tag="node.retrying"):
    """The attempt failed and `delay` seconds later the next one becomes ready."""

    node: NodeKey
    attempt: int
    delay: float
    failure: Failure


class NodeSucceeded(Event, tag="node.succeeded"):
    """Terminal for the node."""

    node: NodeKey
    attempt: int
    value: Stored = None


class NodeFailed(Event, tag="node.failed"):
    """Terminal for the node: no retry is left, or none applies."""

    node: NodeKey
    attempt: int
    failure: Failure


class NodeLost(Event, tag="node.lost"):
    """Terminal: what became of the attempt cannot be known."""

    node: NodeKey
    attempt: int
    failure: Failure


class NodeCancelled(Event, tag="node.cancelled"):
    """Terminal."""

    node: NodeKey
    attempt: int
    reason: str = ""


class NodeSkipped(Event, tag="node.skipped"):
    """Terminal: never ran. `reason` is for people (`needs train[1]`)."""

    node: NodeKey
    attempt: int = 0
    reason: str = ""


class NodeCached(Event, tag="node.cached"):
    """Terminal: the value is that of an earlier run."""

    node: NodeKey
    attempt: int
    origin: str
    value: Stored = None


class NodeProgress(Event, tag="node.progress"):
    """The node says how far it is: `fraction` from 0 to 1, or None where unknown."""

    node: NodeKey
    attempt: int
    fraction: float | None
    message: str = ""


class NodeEmitted(Event, tag="node.emitted"):
    """The node hands out something of its own before it ends."""

    node: NodeKey
    attempt: int
    name: str
    value: Stored = None


class NodeLog(Event, tag="node.log"):
    """The attempt has output: `size` bytes so far on `stream`. The bytes are in the log store."""

    node: NodeKey
    attempt: int
    stream: str
    size: int


class BackendWarning(Event, tag="backend.warning"):
    """A backend has something to say that is no failure."""

    node: NodeKey
    attempt: int
    code: str
    message: str


class ArtifactStored(Event, tag="artifact.stored"):
    """A blob that a node made is in the catalog. `size` in bytes."""

    node: NodeKey
    attempt: int
    name: str
    digest: str
    size: int


AnyEvent = (
    RunStarted
    | RunResumed
    | RunCancelling
    | RunSucceeded
    | RunFailed
    | RunCancelled
    | ScopeOpened
    | ScopeClosed
    | AttemptPlanned
    | NodeStarted
    | NodeRetrying
    | NodeSucceeded
    | NodeFailed
    | NodeLost
    | NodeCancelled
    | NodeSkipped
    | NodeCached
    | NodeProgress
    | NodeEmitted
    | NodeLog
    | BackendWarning
    | ArtifactStored
)


def encode_hook(value: object) -> object:
    """For msgspec encoders: node keys by their printed form."""
    if type(value) is NodeKey:
        return str(value)
    if isinstance(value, Live):
        message = "a live object has no durable form"
        raise TypeError(message)
    message = f"events hold no {type(value).__name__}"
    raise TypeError(message)


def decode_hook(kind: type, value: object) -> object:
    """For msgspec decoders: the inverse of `encode_hook`."""
    if kind is NodeKey and isinstance(value, str):
        return NodeKey.parse(value)
    message = f"events hold no {kind.__name__}"
    raise TypeError(message)
