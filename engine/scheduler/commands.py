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
    """Find out how many items the map has, or which arm is chosen, and report `scope.opened`.

    A rescue is opened a second time, for its handler, with the `failure` of its body.
    """

    row: Row


class Decide(msgspec.Struct, gc=False):
    """An iteration of the repeat ended well: report the next (`scope.opened`), or `Decided`.

    Where neither can be (its limit is reached), report `node.failed` with attempt 0.
    """

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


Command = Start | Open | Decide | Close | Skip | Drop | Cancel | End


class RetryDue(msgspec.Struct, gc=False):
    """The wait before attempt `attempt + 1` is over. Not an event: timers are not history."""

    attempt: int


class Submitted(msgspec.Struct, gc=False):
    """Attempt `attempt` is queued in this process where it cannot be seen to start: a thread pool.

    Not an event: it dies with the process.
    """

    attempt: int


class Decided(msgspec.Struct, gc=False):
    """No iteration follows in the repeat.

    Not an event: the values from which it follows are in the log, and so is the scope's end.
    """


class GraceOver(msgspec.Struct, gc=False):
    """What is being cancelled has had its time: clean-up nodes are cancelled too."""


Input = AnyEvent | RetryDue | Submitted | Decided | GraceOver
Fact = tuple[Row | None, Input]
"""One input: the row it is about (None: the run), and what happened."""
