"""The fold of a run's log: what a driver that goes on with the run must know of its past.

A run is continued in two ways. After a crash its events are taken as they are. After an end
(`retry`) what succeeded is kept, what did not is forgotten but for the attempts that it used up;
the record of that is `run.resumed` with `retry`, so that a later fold comes to the same.

Rule of this room: pure; events in, a `History` out. How it becomes the state of a scheduler is in
`dispatcher/replay.py`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from onready.engine.errors import StoreError
from onready.engine.events import (
    AnyEvent,
    AttemptPlanned,
    NodeCached,
    NodeCancelled,
    NodeFailed,
    NodeLost,
    NodeRetrying,
    NodeSkipped,
    NodeStarted,
    NodeSucceeded,
    RunCancelled,
    RunCancelling,
    RunFailed,
    RunResumed,
    RunStarted,
    RunSucceeded,
    ScopeClosed,
    ScopeOpened,
)
from onready.engine.names import NodeKey

End = RunSucceeded | RunFailed | RunCancelled

_ENDS: Final = (RunSucceeded, RunFailed, RunCancelled)
_ATTEMPTS: Final = (
    AttemptPlanned,
    NodeStarted,
    NodeRetrying,
    NodeSucceeded,
    NodeFailed,
    NodeLost,
    NodeCancelled,
)
_GOOD: Final = (NodeSucceeded, NodeCached, ScopeOpened)
_STATE: Final = (*_ATTEMPTS, NodeCached, NodeSkipped, ScopeOpened, ScopeClosed, RunCancelling)
"""Events from which state follows; the others are for people."""


@dataclass(slots=True)
class History:
    """What is recorded of one run.

    `events` are those to replay, in order. `past` are the attempts that were made before the last
    retry, by node. `last` is the newest sequence number, `epoch` the newest epoch. `end` is the
    terminal event, None where the run was interrupted. `fingerprint` is that of the plan in force.
    """

    first: RunStarted
    events: list[AnyEvent] = field(default_factory=list)
    past: dict[NodeKey, int] = field(default_factory=dict)
    last: int = 0
    epoch: int = 1
    fingerprint: str = ""
    end: End | None = None
    epochs: list[int] = field(default_factory=list)
    """Of the drivers since the run began, or was last continued after an end."""

    def add(self, events: Iterable[AnyEvent]) -> None:
        """Take the events that follow, in order."""
        for event in events:
            self.last = event.seq
            if isinstance(event, _STATE):
                self.events.append(event)
            elif isinstance(event, RunResumed):
                self._resumed(event)
            elif isinstance(event, _ENDS):
                self.end = event

    def _resumed(self, event: RunResumed) -> None:
        self.epoch = event.epoch
        self.fingerprint = event.fingerprint or self.fingerprint
        if event.retry:
            self.forget_failures(event.redo)
            self.epochs.clear()
        self.epochs.append(event.epoch)

    def forget_failures(self, redo: Sequence[NodeKey]) -> None:
        """As a retry does: keep what succeeded, but for `redo`; remember attempts by number."""
        for event in self.events:
            if isinstance(event, _ATTEMPTS):
                self.past[event.node] = max(self.past.get(event.node, 0), event.attempt)
        self.events = list(_kept(self.events, frozenset(redo)))
        self.end = None

    def knows(self, key: NodeKey) -> bool:
        """Whether something is recorded of the node, or of one inside it."""
        return any(
            key in _around(event.node) for event in self.events if not isinstance(event, _RUN)
        )


_RUN: Final = (
    RunStarted,
    RunResumed,
    RunCancelling,
    RunSucceeded,
    RunFailed,
    RunCancelled,
)


def fold(events: Iterable[AnyEvent]) -> History:
    """The history that begins with these events; StoreError where there is no first one."""
    source = iter(events)
    first = next(source, None)
    if not isinstance(first, RunStarted):
        message = f"a run begins with run.started, not with {type(first).__name__}"
        raise StoreError(message)
    history = History(first, last=first.seq, epoch=first.epoch, fingerprint=first.fingerprint)
    history.epochs.append(first.epoch)
    history.add(source)
    return history


def _kept(events: Sequence[AnyEvent], redo: frozenset[NodeKey]) -> Iterable[AnyEvent]:
    """The events that still hold when a run is tried again."""
    closed = {
        event.node
        for event in events
        if isinstance(event, ScopeClosed) and event.status == "succeeded"
    }
    for event in events:
        if isinstance(event, _RUN):
            continue  # a cancellation is over
        around = _around(event.node)
        if not redo.isdisjoint(around):
            continue
        # Inside of what ended well the failures count too: something else made good for them.
        inside = not closed.isdisjoint(around[1:])
        ended = isinstance(event, ScopeClosed) and event.node in closed
        if isinstance(event, _GOOD) or inside or ended:
            yield event


def _around(key: NodeKey) -> list[NodeKey]:
    """The key itself, and everything that it is inside of: items, arms and composites as such."""
    found: list[NodeKey] = []
    here: NodeKey | None = key
    while here is not None:
        found.append(here)
        if here.index is not None or here.arm is not None:
            found.append(NodeKey(here.name, here.parent))
        here = here.parent
    return found
