"""Feeding plain calls to thread pools, in bulk, and taking back what became of them.

Calls go to the pool as they become ready; their threads put what happened on a deque, and wake
the loop once for as much as has gathered by then.

What may not live here: threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from contextvars import Context, copy_context
from functools import partial
from threading import Event
from typing import TYPE_CHECKING, Final

from onready.engine.context import bind
from onready.engine.dispatcher.caution import noted, wait_until
from onready.engine.dispatcher.lanes import Ticket
from onready.engine.dispatcher.tasks import BIG, LONG_TEXT, SCALARS
from onready.engine.events import NodeStarted, NodeSucceeded
from onready.engine.scheduler.commands import Submitted
from onready.engine.spi import BulkBackend, BulkCall
from onready.engine.values import needs_settling
from onready.engine.values.stored import Stored
from onready.engine.worker.calling import run_function

if TYPE_CHECKING:
    from onready.engine.dispatcher.core import Dispatcher

LOOK: Final = 0.02
"""Seconds after which the start of a call that has not ended is noticed."""


class BulkFeed:
    """The calls of one run in one bulk backend."""

    def __init__(self, dispatcher: Dispatcher, backend: BulkBackend) -> None:
        self._dispatcher = dispatcher
        self._backend = backend
        self._batch: list[BulkCall] = []
        self._news: deque[tuple[Ticket, float, object, BaseException | None, bool]] = deque()
        self._signalled = False
        self._looking = False
        self._context = copy_context()
        self._live: dict[int, Ticket] = {}
        self._enter = self._call

    def be_careful(self) -> None:
        """From now on calls begin once that is durable (see `caution.py`)."""
        self._enter = self._call_with_caution

    def relax(self) -> None:
        """The opposite again."""
        self._enter = self._call

    def submit(self, ticket: Ticket) -> None:
        """Queue one call for the next `flush`."""
        row = ticket.row
        ticket.number = row.attempt + 1
        self._live[id(row)] = ticket
        dispatcher = self._dispatcher
        dispatcher.inbox.append((row, Submitted(ticket.number)))
        task = ticket.lane.task
        if task.careful_inputs:
            dispatcher.loop.spawn(partial(self._prepare, ticket))
            return
        try:
            arguments = dispatcher.flow.quick_arguments(row, task)
        except Exception as error:  # noqa: BLE001 - an argument that does not fit fails the node
            self._raised(ticket, error)
            return
        if arguments is None:
            dispatcher.loop.spawn(partial(self._prepare, ticket))
        else:
            self._batch.append(BulkCall(ticket, partial(self._enter, ticket, arguments)))

    async def _prepare(self, ticket: Ticket) -> None:
        """The arguments need waiting: blobs, live objects."""
        row = ticket.row
        try:
            arguments = await self._dispatcher.flow.arguments(
                row, ticket.lane.task, self._dispatcher.node_context(row.key, ticket.number)
            )
        except Exception as error:  # noqa: BLE001 - as in `submit`
            if not ticket.done:
                self._raised(ticket, error)
                self._dispatcher.tick_soon()
            return
        if ticket.cause and not ticket.done:
            # Cancelled meanwhile: it has not begun, and does not.
            self._finish(ticket)
            self._dispatcher.outcomes.cancelled(row, ticket.number, ticket.cause)
            self._dispatcher.tick_soon()
        elif not ticket.done:
            self._batch.append(BulkCall(ticket, partial(self._enter, ticket, arguments)))
            self.flush()

    def flush(self) -> None:
        """Hand over what was queued."""
        if self._batch:
            batch, self._batch = self._batch, []
            self._backend.submit(batch, self._done)
            self._look_later()

    def _look_later(self) -> None:
        """Hear of calls that began and take their time."""
        if not self._looking:
            self._looking = True
            self._dispatcher.later(LOOK, self._look)

    def _look(self) -> None:
        self._looking = False
        if self._live and not self._dispatcher.closing:
            if self._news:
                self._drain()
            self._look_later()

    # --- in the pool's threads ----------------------------------------------------------------

    def _call(self, ticket: Ticket, arguments: dict[str, object]) -> object:
        self._tell(ticket, None, None, ended=False)
        return self._run(ticket, arguments)

    def _call_with_caution(self, ticket: Ticket, arguments: dict[str, object]) -> object:
        durable = Event()
        self._tell(ticket, durable, None, ended=False)
        self._dispatcher.soon_threadsafe(self._drain)
        wait_until(durable, self._dispatcher)
        return self._run(ticket, arguments)

    def _run(self, ticket: Ticket, arguments: dict[str, object]) -> object:
        context: Context = self._context.copy()
        return context.run(self._call_in_context, ticket, arguments)

    def _call_in_context(self, ticket: Ticket, arguments: dict[str, object]) -> object:
        dispatcher = self._dispatcher
        row = ticket.row
        task = ticket.lane.task
        bind((dispatcher, row.key, ticket.number))
        value = (
            run_function(task.call(), arguments) if task.spec.is_async else task.call()(**arguments)
        )
        kind = type(value)
        if (
            (kind is task.exact or (task.untyped and kind in SCALARS))
            and (kind is not int or -BIG <= value < BIG)  # type: ignore[operator] # an int
            and (kind is not str or (len(value) < LONG_TEXT and value.isascii()))  # type: ignore[arg-type, attr-defined] # a str
        ):
            return value
        # Encoding is work for the processor: better here than in the loop.
        return dispatcher.flow.encode(task, value)

    def _done(self, token: object, value: object, error: BaseException | None) -> None:
        assert type(token) is Ticket
        self._tell(token, value, error, ended=True)

    def _tell(
        self, ticket: Ticket, value: object, error: BaseException | None, *, ended: bool
    ) -> None:
        self._news.append((ticket, self._dispatcher.now(), value, error, ended))
        # A start does not wake the loop: most calls have ended before it would look.
        if ended and not self._signalled:
            self._signalled = True
            self._dispatcher.soon_threadsafe(self._drain)

    # --- in the loop --------------------------------------------------------------------------

    def _drain(self) -> None:
        # Cleared first: what arrives from here on signals again.
        self._signalled = False
        news = self._news
        dispatcher = self._dispatcher
        waiting: list[Event] = []
        for _ in range(len(news)):
            ticket, at, value, error, ended = news.popleft()
            if ticket.done:
                if type(value) is Event:
                    value.set()
                continue
            row = ticket.row
            if not ended:
                if type(value) is Event:
                    waiting.append(value)
                if not ticket.started:  # pragma: no branch - a call begins once
                    ticket.started = True
                    dispatcher.inbox.append((row, NodeStarted(0, at, row.key, ticket.number)))
                    self._guard(ticket)
            elif error is not None:
                self._raised(ticket, error)
            elif not _is_scalar(value) and needs_settling(value):  # type: ignore[arg-type] # stored
                dispatcher.loop.spawn(partial(self._settle, ticket, value))  # type: ignore[arg-type] # stored
            else:
                self._succeeded(ticket, at, value)  # type: ignore[arg-type] # stored
        dispatcher.turn_and_wake()
        if waiting:
            noted(waiting, dispatcher)

    def _succeeded(self, ticket: Ticket, at: float, value: Stored) -> None:
        self._finish(ticket)
        row = ticket.row
        event = NodeSucceeded(0, at, row.key, ticket.number, value)
        self._dispatcher.inbox.append((row, event))

    def _raised(self, ticket: Ticket, error: BaseException) -> None:
        self._finish(ticket)
        self._dispatcher.outcomes.raised(ticket.row, ticket.number, error)

    async def _settle(self, ticket: Ticket, value: Stored) -> None:
        try:
            stored = await self._dispatcher.flow.settle(value)
        except Exception as error:  # noqa: BLE001 - the value could not be stored
            if not ticket.done:
                self._raised(ticket, error)
        else:
            if not ticket.done:
                self._succeeded(ticket, self._dispatcher.now(), stored)
        self._dispatcher.tick_soon()

    def _finish(self, ticket: Ticket) -> None:
        ticket.done = True
        self._live.pop(id(ticket.row), None)
        if ticket.timer is not None:
            ticket.timer()
        ticket.release()
        self._dispatcher.reporters.close(ticket.row, ticket.number)

    def _guard(self, ticket: Ticket) -> None:
        dispatcher = self._dispatcher
        limit, reason = dispatcher.outcomes.time_left(ticket.row, ticket.lane.task)
        if limit is not None:
            late = partial(self._time_out, ticket, limit, reason)
            ticket.timer = dispatcher.later(limit, late).cancel

    def _time_out(self, ticket: Ticket, limit: float, reason: str) -> None:
        """A thread cannot be stopped: the attempt ends here, the call may go on for nobody."""
        if not ticket.done:  # pragma: no branch - it ended in the round of its timer
            self._finish(ticket)
            self._dispatcher.outcomes.timed_out(ticket.row, ticket.number, limit, reason)
            self._dispatcher.turn_and_wake()

    # --- stopping -----------------------------------------------------------------------------

    def withdraw(self, rows: Collection[int], cause: str) -> None:
        """Take back calls that have not begun; those that have may end within the grace."""
        for key in rows:
            ticket = self._live.get(key)
            if ticket is not None:
                if self._backend.withdraw(ticket):
                    self._finish(ticket)
                    self._dispatcher.outcomes.cancelled(ticket.row, ticket.number, cause)
                elif ticket.row.scope.cancelling:
                    ticket.cause = cause

    def abandon_cancelled(self) -> None:
        """The grace is over and threads cannot be stopped: do not wait for them any longer."""
        for ticket in tuple(self._live.values()):
            if ticket.cause:
                self._finish(ticket)
                reason = f"{ticket.cause}; its thread could not be stopped"
                self._dispatcher.outcomes.cancelled(ticket.row, ticket.number, reason)

    def close(self) -> None:
        """The run is over: nothing of it starts any more."""
        for ticket in tuple(self._live.values()):
            self._backend.withdraw(ticket)
            self._finish(ticket)


def _is_scalar(value: object) -> bool:
    return type(value) in SCALARS
