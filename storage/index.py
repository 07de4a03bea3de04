"""What a run log's index says of a run, worked out from its events. Shared by the run logs.

Rule of this room: pure functions over events and records.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from operator import attrgetter
from typing import Final, Self

from onready.engine.errors import StoreError
from onready.engine.events import (
    AnyEvent,
    RunCancelled,
    RunFailed,
    RunResumed,
    RunStarted,
    RunStatus,
    RunSucceeded,
)
from onready.engine.names import is_run_id
from onready.engine.spi import RunFilter, RunRecord

BATCH: Final = 2_000
"""Events that a read hands out at a time, about."""

_STATUS: Final[dict[type, RunStatus]] = {
    RunStarted: "running",
    RunResumed: "running",
    RunSucceeded: "succeeded",
    RunFailed: "failed",
    RunCancelled: "cancelled",
}
_KINDS: Final = frozenset(_STATUS)
_seq: Final = attrgetter("seq")


class Reading:
    """The batches of a run, one after the other, until there is none.

    No generator: one that is left half read would have to be closed, and trio warns of it.
    """

    __slots__ = ("_after", "_next")

    def __init__(
        self, following: Callable[[int], Awaitable[Sequence[AnyEvent]]], after: int
    ) -> None:
        self._next = following
        self._after = max(after, 0)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Sequence[AnyEvent]:
        batch = await self._next(self._after)
        if not batch:
            raise StopAsyncIteration
        self._after = batch[-1].seq
        return batch


def run_changes(events: Sequence[AnyEvent]) -> tuple[RunStatus | None, float | None]:
    """The status that `events` leave the run in, and its end; None where they do not say."""
    if _KINDS.isdisjoint(map(type, events)):
        return None, None
    last = next(event for event in reversed(events) if type(event) in _KINDS)
    status = _STATUS[type(last)]
    return status, None if status == "running" else last.at


def gapless(events: Sequence[AnyEvent]) -> bool:
    """Whether the sequence numbers of `events` rise by one."""
    first = events[0].seq
    return all(map(int.__eq__, map(_seq, events), range(first, first + len(events))))


def check_run(run: str) -> None:
    """StoreError unless `run` may be the id of a run."""
    if not is_run_id(run):
        message = f"not the id of a run: {run[:200]!r}"
        raise StoreError(message)


def check_first(run: str, event: AnyEvent) -> None:
    """StoreError unless a run may begin with `event`."""
    if event.seq != 1 or type(event) is not RunStarted:
        kind = type(event).__name__
        message = f"run {run}: begins with {kind} number {event.seq}, not with RunStarted number 1"
        raise StoreError(message)


def matches(record: RunRecord, query: RunFilter) -> bool:
    """Whether `query` asks for this run, its limit aside."""
    if query.status is not None and record.status != query.status:
        return False
    if query.graph and record.graph != query.graph:
        return False
    named = record.run.startswith(query.prefix) or record.name == query.prefix
    return not query.prefix or named
