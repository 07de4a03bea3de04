"""The transition table of a row, as data: docs draw it, the machine looks things up in it.

All transitions are here. This file does not know scopes, joins or retries.
"""

from __future__ import annotations

import enum
from typing import Final

from onready.engine.scheduler.state import (
    BACKING_OFF,
    CANCELLED,
    CANCELLING,
    FAILED,
    LOST,
    PLANNED,
    READY,
    RUNNING,
    SKIPPED,
    SUCCEEDED,
    WAITING,
    State,
)


class Fact(enum.Enum):
    """What can happen to a row, as the table names it."""

    JOINED = "every wait ended well"
    PLANNED = "attempt.planned, or handed to a thread pool"
    STARTED = "node.started"
    OPENED = "scope.opened"
    SUCCEEDED = "node.succeeded"
    CACHED = "node.cached"
    FAILED = "node.failed"
    RETRYING = "node.retrying"
    LOST = "node.lost"
    CANCELLED = "node.cancelled"
    DUE = "the wait before the retry is over"
    SKIP = "not needed, or its scope failed"
    DROP = "cancelled before it ran"
    CANCEL = "cancellation was asked for"
    RESCUED = "the body of the rescue failed"


TRANSITIONS: Final[tuple[tuple[State, Fact, State], ...]] = (
    (WAITING, Fact.JOINED, READY),
    (WAITING, Fact.SKIP, SKIPPED),
    (WAITING, Fact.DROP, CANCELLED),
    (READY, Fact.PLANNED, PLANNED),
    (READY, Fact.STARTED, RUNNING),
    (READY, Fact.OPENED, RUNNING),
    (READY, Fact.CACHED, SUCCEEDED),
    (READY, Fact.FAILED, FAILED),
    (READY, Fact.SKIP, SKIPPED),
    (READY, Fact.DROP, CANCELLED),
    (PLANNED, Fact.STARTED, RUNNING),
    (PLANNED, Fact.SUCCEEDED, SUCCEEDED),
    (PLANNED, Fact.FAILED, FAILED),
    (PLANNED, Fact.RETRYING, BACKING_OFF),
    (PLANNED, Fact.LOST, LOST),
    (PLANNED, Fact.CANCELLED, CANCELLED),
    (PLANNED, Fact.CANCEL, CANCELLING),
    (RUNNING, Fact.SUCCEEDED, SUCCEEDED),
    (RUNNING, Fact.FAILED, FAILED),
    (RUNNING, Fact.RETRYING, BACKING_OFF),
    (RUNNING, Fact.LOST, LOST),
    (RUNNING, Fact.CANCELLED, CANCELLED),
    (RUNNING, Fact.CANCEL, CANCELLING),
    (RUNNING, Fact.RESCUED, READY),
    (CANCELLING, Fact.STARTED, CANCELLING),
    (CANCELLING, Fact.CANCEL, CANCELLING),
    (CANCELLING, Fact.SUCCEEDED, SUCCEEDED),
    (CANCELLING, Fact.FAILED, FAILED),
    (CANCELLING, Fact.LOST, LOST),
    (CANCELLING, Fact.CANCELLED, CANCELLED),
    (BACKING_OFF, Fact.DUE, READY),
    (BACKING_OFF, Fact.DROP, CANCELLED),
)


def _by_fact() -> dict[Fact, dict[State, State]]:
    table: dict[Fact, dict[State, State]] = {fact: {} for fact in Fact}
    for before, fact, after in TRANSITIONS:
        table[fact][before] = after
    return table


NEXT: Final = _by_fact()
"""For each fact: the states in which it is legal, and the state it leads to."""


def state_diagram() -> str:
    """The table as a Mermaid state diagram; composites share it (`scope.opened` starts them)."""
    lines = ["stateDiagram-v2", "    [*] --> waiting"]
    lines += [
        f"    {before.value} --> {after.value}: {fact.value}"
        for before, fact, after in TRANSITIONS
        if before is not after
    ]
    ends = {after for _, _, after in TRANSITIONS} - {before for before, _, _ in TRANSITIONS}
    lines += [f"    {state.value} --> [*]" for state in State if state in ends]
    return "\n".join(lines) + "\n"
