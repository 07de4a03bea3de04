"""Commands, a closed set of wishes in the imperative; and the inputs that are no events.

Rule of this room: data only. The dispatcher performs commands in the order given.
"""

from __future__ import annotations

import msgspec

from onready.engine.events import AnyEvent, ScopeStatus
from onready.engine.scheduler.state import Row


class Start(msgspec.Struct, gc=False):
    """Run these task rows, in this order, as limits allow."""

    rows: list[Row]


class Open(msgspec.Struct, gc=False):
    """Find out how many items the map has (or which arm is chosen) and report `scope.opened`."""

    row: Row


class Close(msgspec.Struct, gc=False):
    """The composite ended: record `scope.closed`, make its value, forget its rows."""

    row: Row
    status: ScopeStatus


class Skip(msgspec.Struct, gc=False):
    """Record `node.skipped`: the row never ran."""

    row: Row
    reason: str


class Drop(msgspec.Struct, gc=False):
    """Record `node.cancelled` for a row that has no live attempt."""

    row: Row
    reason: str


class Cancel(msgspec.Struct, gc=False):
    """Stop the row's live attempt and report what became of it."""

    row: Row


class End(msgspec.Struct, gc=False):
    """Everything ended: record the run's terminal event."""

    status: ScopeStatus
    failed: list[Row]


Command = Start | Open | Close | Skip | Drop | Cancel | End


class RetryDue(msgspec.Struct, gc=False):
    """The wait before attempt `attempt + 1` is over. Not an event: timers are not history."""

    attempt: int


class Submitted(msgspec.Struct, gc=False):
    """Attempt `attempt` is queued in this process where it cannot be seen to start: a thread pool.

    Not an event: it dies with the process.
    """

    attempt: int


Input = AnyEvent | RetryDue | Submitted
Fact = tuple[Row | None, Input]
"""One input: the row it is about (None: the run), and what happened."""
