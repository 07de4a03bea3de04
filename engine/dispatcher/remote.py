"""Attempts in backends that leave the process: one coroutine per live attempt.

Rows are planned ahead of the free slots, so that the flush barrier before submission is paid once
per group and not once per node.

What may not live here: how a backend starts anything.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import anyio

from onready.engine.dispatcher.lanes import Lane, Ticket
from onready.engine.dispatcher.loop import Handle
from onready.engine.dispatcher.report import AttemptReporter
from onready.engine.errors import BackendError, Failure, FailureKind, NoCodec, StoreError
from onready.engine.events import AttemptPlanned, NodeStarted, NodeSucceeded
from onready.engine.names import dispatch_name
from onready.engine.scheduler.retry import DRIVER, UNSTARTED, is_drivers
from onready.engine.scheduler.rules import may_start
from onready.engine.scheduler.state import PLANNED, READY, Row
from onready.engine.spi import Attempt, Backend, Failed, Labels, Lost, Outcome, Succeeded
from onready.engine.values.stored import Compound, Encoded, Stored

if TYPE_CHECKING:
    from onready.engine.dispatcher.core import Dispatcher

PICKLE: Final = "pickle"

CROWD: Final = 8
"""Attempts in one backend; from here on, turns are left to the tick."""

AHEAD: Final = 64
"""Rows per lane that are planned, and durably so, before a slot is free for them."""


class RemoteFeed:
    """The attempts of one run in one backend."""

    def __init__(self, dispatcher: Dispatcher, name: str, backend: Backend) -> None:
        self._dispatcher = dispatcher
        self._name = name
        self._backend = backend
        self._live: dict[int, Ticket] = {}
        self._handed: list[Ticket] | None = None
        self._running = 0
        self._left: anyio.Event | None = None
        self.barrier = backend.capabilities.barrier
        self._adopt = backend.capabilities.adopt

    def plan(self, lane: Lane) -> list[Ticket]:
        """Plan rows of the lane ahead: `attempt.planned` for each goes to the inbox."""
        planned: list[Ticket] = []
        dispatcher = self._dispatcher
        if lane.ahead > AHEAD // 2:
            # In groups: each group is one look at the journal and one launch.
            return planned
        while lane.backlog and lane.ahead < AHEAD:
            row = lane.backlog.popleft()
            if row.state is not READY or not may_start(row):
                continue
            ticket = Ticket(row, lane, row.attempt + 1)
            name = ticket.name = dispatch_name(dispatcher.run, row.key, ticket.number)
            now = dispatcher.now()
            event = AttemptPlanned(0, now, row.key, ticket.number, self._name, name)
            dispatcher.inbox.append((row, event))
            lane.ahead += 1
            self._live[id(row)] = ticket
            planned.append(ticket)
        return planned

    def submit(self, ticket: Ticket) -> None:
        """Run a planned attempt: it has its share of its limits."""
        ticket.lane.ahead -= 1
        if self._handed is None:
            self._begin(ticket)
        else:
            ticket.stop = _nothing  # it begins at once, or is done by then
            self._handed.append(ticket)

    def recover(self, row: Row, lane: Lane, name: str, cause: str) -> None:
        """Ask the backend what became of the row's attempt, which an earlier driver had planned.

        It may be running, so it has its share of its limits, and what is new waits for that.
        With a `cause` it was being cancelled: what is left of it is removed.
        """
        ticket = Ticket(row, lane, row.attempt)
        ticket.name = name
        ticket.recovers = True
        ticket.cause = cause
        lane.take_anyway()
        ticket.holds = True
        self._live[id(row)] = ticket
        self._begin(ticket)

    def _begin(self, ticket: Ticket) -> None:
        handle = self._dispatcher.loop.start(partial(self._serve, ticket))
        ticket.handle = handle
        ticket.stop = handle.cancel

    async def _serve(self, ticket: Ticket) -> None:
        """Attempts one after the other: a new task for each would cost as much as its dispatch."""
        handle = ticket.handle
        following: Ticket | None = ticket
        try:
            while following is not None:
                if not following.done:
                    await self._attempt(following)
                following = self._next()
        except Exception as error:  # noqa: BLE001 - of a turn: a backend's own never comes here
            self._dispatcher.crash(error)
        finally:
            self._dispatcher.loop.forget(handle)

    def _next(self) -> Ticket | None:
        """Tell what ended, and go on with the first attempt that has room because of it."""
        if self._running > CROWD or self._dispatcher.closing:
            # Others end in this same round of the loop: one turn for them all.
            self._dispatcher.tick_soon()
            return None
        handed: list[Ticket] = []
        self._handed = handed
        try:
            self._dispatcher.turn_and_wake()
        finally:
            self._handed = None
        for ticket in handed[1:]:
            self._begin(ticket)
        return handed[0] if handed else None

    async def _attempt(self, ticket: Ticket) -> None:
        ticket.started = True
        row = ticket.row
        dispatcher = self._dispatcher
        reporter = ticket.reporter = dispatcher.reporters.attempt(row, ticket.number)
        # Of a recovered attempt the start may be recorded already.
        reporter.said_start = row.state is not PLANNED
        limit, reason = dispatcher.outcomes.time_left(row, ticket.lane.task)
        outcome: Outcome | None = None
        self._running += 1
        timer: Handle | None = None
        try:
            # Asyncio's own cancellation of the task would pass through the shields in which
            # backends submit, and stop what they have submitted.
            with anyio.move_on_after(None if self._adopt else limit) as scope:
                ticket.stop = scope.cancel
                if self._adopt and limit is not None:
                    stop = partial(dispatcher.when_sure, scope.cancel)
                    timer = dispatcher.later(limit, stop)
                lease = dispatcher.lease
                # Where it was planned before we were stopped for long, it may be another's by now.
                if self.barrier and lease is not None and not (lease.sure or await lease.confirm()):
                    return
                outcome = await self._outcome(ticket, reporter, limit)
        finally:
            if timer is not None:
                timer.cancel()
            self._running -= 1
            if not self._running and self._left is not None:
                self._left.set()
        if ticket.done:
            return  # given up, or the run is over: nobody asks any more
        if outcome is None and not ticket.cause:
            outcome = Failed(Failure("timeout", f"no end within {limit:g} s", reason=reason))
        self._end(ticket, outcome, reporter)

    async def _outcome(
        self, ticket: Ticket, reporter: AttemptReporter, limit: float | None
    ) -> Outcome | None:
        try:
            if ticket.recovers and ticket.cause:
                # Cancelled before it was adopted: whatever is left of it goes.
                await self._backend.sweep(partial(_is_another, ticket, self._dispatcher.run))
                return None
            return await self._execute(ticket, reporter, limit)
        except NoCodec as error:
            return Failed(Failure("config", str(error), "NoCodec"))
        except (BackendError, StoreError) as error:
            # `evicted` is nobody's fault and has retries of its own.
            kind: FailureKind = "evicted" if error.retryable else "error"
            return Failed(Failure(kind, str(error), type(error).__name__))
        except Exception as error:  # noqa: BLE001 - a backend's fault fails the attempt only
            return Failed(self._dispatcher.outcomes.failure_of(ticket.row, ticket.number, error))

    async def _execute(
        self, ticket: Ticket, reporter: AttemptReporter, limit: float | None
    ) -> Outcome:
        row = ticket.row
        task = ticket.lane.task
        dispatcher = self._dispatcher
        folder = Path(f"{dispatcher.reporters.work}{os.sep}{ticket.name}")
        dispatcher.reporters.used = True
        attempt = ticket.attempt = Attempt(
            run=dispatcher.run,
            key=row.key,
            number=ticket.number,
            epoch=dispatcher.epoch,
            name=ticket.name,
            backend=self._name,
            work=task.spec.work,
            inputs=await dispatcher.flow.durable_inputs(row, folder, task.spec.work),
            resources=task.spec.resources,
            catalog=dispatcher.services.catalog,
            folder=folder,
            timeout=limit,
            grace=dispatcher.grace,
            options=task.spec.options,
            fingerprint=dispatcher.plan.fingerprint,
            function=task.function,
            secrets=dispatcher.services.secrets,
        )
        if not ticket.recovers:
            return await self._backend.execute(attempt, reporter)
        outcome = await self._backend.recover(attempt, reporter)
        # Where attempts outlive their driver, one that is not there has not begun.
        reason = UNSTARTED if self._adopt else DRIVER
        return outcome or Lost(Failure("lost", "nothing of it is left", reason=reason))

    def _end(self, ticket: Ticket, outcome: Outcome | None, reporter: AttemptReporter) -> None:
        self._finish(ticket)
        row = ticket.row
        dispatcher = self._dispatcher
        reporter.close()
        if outcome is None:
            dispatcher.outcomes.cancelled(row, ticket.number, ticket.cause)
        elif type(outcome) is Succeeded and not _trusted(outcome.value, ticket):
            message = "the worker sent a pickle, and the task has not asked for codec='pickle'"
            dispatcher.outcomes.failed(row, ticket.number, Failure("config", message))
        elif type(outcome) is Succeeded:
            now = dispatcher.now()
            if not reporter.said_start:
                dispatcher.inbox.append((row, NodeStarted(0, now, row.key, ticket.number)))
            event = NodeSucceeded(0, now, row.key, ticket.number, outcome.value)
            dispatcher.inbox.append((row, event))
        else:
            assert isinstance(outcome, (Failed, Lost))
            if ticket.recovers and is_drivers(outcome.failure):
                dispatcher.outcomes.driver_lost(row, ticket.number, outcome.failure.reason)
                return
            lost = type(outcome) is Lost
            dispatcher.outcomes.failed(row, ticket.number, outcome.failure, lost=lost)

    def _finish(self, ticket: Ticket) -> None:
        ticket.done = True
        self._live.pop(id(ticket.row), None)
        ticket.release()

    def stop(self, rows: Collection[int], cause: str) -> None:
        """Stop these rows' attempts; one that was only planned ends at once."""
        for key in rows:
            ticket = self._live.get(key)
            if ticket is None:
                continue
            ticket.cause = cause
            self._tell_grace(ticket)
            if ticket.stop is None:
                ticket.lane.ahead -= 1
            elif self._adopt and ticket.started:
                self._dispatcher.when_sure(ticket.stop)
            else:
                ticket.stop()
            if not ticket.started:
                self._finish(ticket)
                self._dispatcher.outcomes.cancelled(ticket.row, ticket.number, cause)

    def hurry(self) -> None:
        """The run's grace has become less: so it has for what is being stopped."""
        for ticket in self._live.values():
            self._tell_grace(ticket)

    def _tell_grace(self, ticket: Ticket) -> None:
        if ticket.attempt is not None:
            ticket.attempt.grace = self._dispatcher.grace

    def give_up(self) -> None:
        """The backend did not stop what it was told to: nobody knows what that does now."""
        for ticket in tuple(self._live.values()):
            if ticket.cause:
                self._finish(ticket)
                message = f"{self._name} did not stop it in time"
                failure = Failure("lost", message)
                self._dispatcher.outcomes.failed(ticket.row, ticket.number, failure, lost=True)

    def stop_all(self, *, fenced: bool) -> None:
        """The run cannot go on: stop what it has in the backend, and say nothing of it."""
        live = tuple(self._live.values())
        self.close()
        for ticket in live:
            self._tell_grace(ticket)
            if ticket.attempt is not None:
                ticket.attempt.fenced = fenced
            if ticket.stop is not None:
                ticket.stop()

    async def left(self) -> None:
        """Wait until no attempt is in the backend."""
        if self._running:
            self._left = anyio.Event()
            await self._left.wait()

    def close(self) -> None:
        """The run is over."""
        for ticket in tuple(self._live.values()):
            self._finish(ticket)
            if ticket.reporter is not None:
                ticket.reporter.close()


def _trusted(value: Stored, ticket: Ticket) -> bool:
    """Whether reading `value` runs no code that the task's author has not agreed to."""
    if ticket.lane.task.spec.codec == PICKLE:
        return True
    todo: list[Stored] = [value]
    while todo:
        item = todo.pop()
        if type(item) is Encoded and item.codec == PICKLE:
            return False
        if type(item) is Compound:
            todo.extend(item.items)
    return True


def _is_another(ticket: Ticket, run: str, labels: Labels) -> bool:
    """Whether what carries `labels` is of another attempt than the ticket's."""
    own = (run, str(ticket.row.key), ticket.number)
    return (labels.run, labels.node, labels.attempt) != own


def _nothing() -> None:
    """Stops what has not begun."""
