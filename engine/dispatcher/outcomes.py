"""What became of attempts: failures, retries and their timers, time limits, cancellations.

Whether to retry is the scheduler's rule (`scheduler/retry.py`); the jitter is drawn and the wait
is kept here.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec

from onready.engine.dispatcher.lanes import Ticket
from onready.engine.dispatcher.loop import Handle
from onready.engine.dispatcher.tasks import LiveTask
from onready.engine.errors import Failure
from onready.engine.events import NodeCancelled, NodeFailed, NodeLost, NodeRetrying
from onready.engine.failure import failure_from
from onready.engine.masking import mask_failure
from onready.engine.names import NodeKey
from onready.engine.scheduler.commands import RetryDue
from onready.engine.scheduler.retry import (
    DRIVER,
    TAKEOVERS,
    UNSTARTED,
    is_infrastructure,
    retry_delay,
)
from onready.engine.scheduler.rules import may_start
from onready.engine.scheduler.state import CANCELLING, Row

if TYPE_CHECKING:
    from onready.engine.dispatcher.core import Dispatcher

LOG_LINES = 20


class Outcomes:
    """The bad ends of attempts, as facts. Good ends are written where they happen."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        # By key, and not by the row's `id`: rows go with their scopes, and others get their ids.
        self._deadlines: dict[NodeKey, float] = {}
        self._timers: dict[NodeKey, Handle] = {}
        self.takeovers: dict[NodeKey, int] = {}
        """How many drivers died while a row's attempts ran, by the row's `id`."""

    def raised(self, row: Row, number: int, error: BaseException) -> None:
        """The node's own code, or the reading of its inputs, raised `error`."""
        self.failed(row, number, self.failure_of(row, number, error))

    def failure_of(self, row: Row, number: int, error: BaseException) -> Failure:
        """The failure that an exception stands for."""
        tail = self._dispatcher.reporters.tail(row, number, LOG_LINES)
        return failure_from(error, node=str(row.key), attempt=number, log=tail)

    def failed(self, row: Row, number: int, failure: Failure, *, lost: bool = False) -> None:
        """The attempt failed: try again later, or for good."""
        dispatcher = self._dispatcher
        if not failure.node:
            failure = msgspec.structs.replace(failure, node=str(row.key), attempt=number)
        failure = mask_failure(failure)
        now = dispatcher.now()
        inbox = dispatcher.inbox
        delay = self._delay(row, number, failure)
        if delay is None:
            kind = NodeLost if lost else NodeFailed
            inbox.append((row, kind(0, now, row.key, number, failure)))
        else:
            inbox.append((row, NodeRetrying(0, now, row.key, number, delay, failure)))
            due = partial(self._due, row, number)
            self._timers[row.key] = dispatcher.later(delay, due)

    def _delay(self, row: Row, number: int, failure: Failure) -> float | None:
        if not number:
            # No attempt was made: the map's items, or what it asks for, cannot be had.
            return None
        if row.state is CANCELLING or row.node.task is None or not may_start(row):
            return None
        dispatcher = self._dispatcher
        policy = dispatcher.tasks[row.node.task].spec.retry
        delay = retry_delay(row, policy, failure)
        if delay is None:
            return None
        if policy.jitter or is_infrastructure(policy, failure):
            delay *= dispatcher.draw()
        deadline = self._deadlines.get(row.key)
        if deadline is not None and dispatcher.monotonic() + delay >= deadline:
            return None
        return delay

    def _due(self, row: Row, number: int) -> None:
        self._timers.pop(row.key, None)
        self._dispatcher.inbox.append((row, RetryDue(number)))
        self._dispatcher.turn_and_wake()

    def cancelled(self, row: Row, number: int, reason: str) -> None:
        """The attempt was stopped at our wish."""
        now = self._dispatcher.now()
        self._dispatcher.inbox.append((row, NodeCancelled(0, now, row.key, number, reason)))

    def driver_lost(self, row: Row, number: int, reason: str = DRIVER) -> None:
        """The attempt ended with the driver before this one: it is made again, but not for ever.

        `reason` is DRIVER, or UNSTARTED, of which there may be any number.
        """
        dispatcher = self._dispatcher
        died = self.takeovers.get(row.key, 0)
        now = dispatcher.now()
        if row.state is CANCELLING or not may_start(row):
            self.cancelled(row, number, "its driver died, and its scope is stopped")
            return
        node = str(row.key)
        if died >= TAKEOVERS and reason == DRIVER:
            message = f"its driver died {died + 1} times while it ran"
            failure = Failure("lost", message, node=node, attempt=number, reason=DRIVER)
            dispatcher.inbox.append((row, NodeLost(0, now, row.key, number, failure)))
            return
        message = f"its driver died {'before it began' if reason == UNSTARTED else 'while it ran'}"
        failure = Failure("lost", message, node=node, attempt=number, reason=reason)
        dispatcher.inbox.append((row, NodeRetrying(0, now, row.key, number, 0.0, failure)))
        dispatcher.inbox.append((row, RetryDue(number)))

    def wait_again(self, row: Row, delay: float) -> None:
        """Go on with the wait before a retry, `delay` seconds of it."""
        due = partial(self._due, row, row.attempt)
        self._timers[row.key] = self._dispatcher.later(delay, due)

    def stopped(self, row: Row, number: int, ticket: Ticket | None, cause: str) -> None:
        """A worker coroutine ended with its node: cancelled by us, by itself, or with the run."""
        dispatcher = self._dispatcher
        if ticket is not None:
            ticket.done = True
            ticket.release()
        dispatcher.reporters.close(row, number)
        if dispatcher.closing:
            return
        if cause:
            self.cancelled(row, number, cause)
        else:
            message = "the node cancelled the task that it runs in"
            self.failed(row, number, Failure("error", message, "CancelledError"))
        dispatcher.tick_soon()

    def time_left(self, row: Row, task: LiveTask) -> tuple[float | None, str]:
        """Seconds that the attempt that starts now may take, and which limit says so."""
        limit = task.spec.timeout
        total = task.spec.node_timeout
        if total is None:
            return limit, "timeout"
        now = self._dispatcher.monotonic()
        left = self._deadlines.setdefault(row.key, now + total) - now
        if limit is None or left < limit:
            return max(left, 0.0), "node_timeout"
        return limit, "timeout"

    def timed_out(self, row: Row, number: int, limit: float | None, reason: str) -> None:
        """The attempt took longer than it may."""
        said = (
            f"no end within {limit:g} s"
            if reason == "timeout"
            else ("no end within the time for all attempts")
        )
        tail = self._dispatcher.reporters.tail(row, number, LOG_LINES)
        self.failed(row, number, Failure("timeout", said, reason=reason, log=tail))

    def close(self) -> None:
        """Stop the timers."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
