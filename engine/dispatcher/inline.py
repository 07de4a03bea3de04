"""The elastic pool of worker coroutines: in-process async nodes, without a task per node.

A worker takes rows from one deque and awaits them, one after the other. While none suspends, one
worker runs everything and even makes the scheduler's turns itself; when one does, the tick that
every worker leaves behind in the loop starts another. So there are as many workers as nodes that
wait at once, never more than `LIVE`.

What may not live here: limits other than `LIVE`, retries, where values come from.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Coroutine
from contextvars import copy_context
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Final

import anyio

from onready.engine.context import bind
from onready.engine.dispatcher.lanes import Ticket
from onready.engine.dispatcher.loop import Handle, Waker
from onready.engine.dispatcher.tasks import BIG, LONG_TEXT, SCALARS, LiveTask
from onready.engine.events import NodeStarted, NodeSucceeded
from onready.engine.scheduler.rules import may_start
from onready.engine.scheduler.state import READY, Row
from onready.engine.values.stored import Stored

if TYPE_CHECKING:
    from onready.engine.dispatcher.core import Dispatcher

LIVE: Final = 1000
"""In-process async nodes that may wait at once in one run."""

BURST: Final = 64
"""Workers woken at a time, at most."""

CROWD: Final = 8
"""Workers that wait in nodes; from here on, turns are left to the tick."""

IDLE: Final = 32
"""Workers kept for the next rows; to end one later costs more than to start another."""

SLICE: Final = 0.002
"""Seconds that a worker runs nodes that never suspend before it lets others have the loop."""


class Worker:
    """One worker coroutine; `row` is what it runs now. `cause`: why it was told to stop.

    Class attributes and no `__init__`: a thousand nodes that wait need a thousand of these.
    """

    row: Row | None = None
    number = 0
    ticket: Ticket | None = None
    cause = ""
    handle: Handle | None = None
    waker: Waker | None = None


class InlinePool:
    """The workers of one run. Rows whose task is `fast` are queued bare, others as tickets."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self.queue: deque[Row | Ticket] = deque()
        self.workers: set[Worker] = set()
        self._idle: list[Waker] = []
        self._paused = 0
        self._burst = 1

    def submit(self, ticket: Ticket) -> None:
        """Queue an attempt that needs care: it has its share of its limits already."""
        self.queue.append(ticket)

    def wake(self) -> None:
        """See to it that somebody works on the queue.

        Called while every worker waits in its node. If that happens again and again, the nodes
        are such that wait: then more workers at a time.
        """
        if self._paused:
            return
        self._burst = min(self._burst * 2, BURST)
        for _ in range(min(self._burst, len(self.queue))):
            if self._idle:
                self._idle.pop().wake()
            elif len(self.workers) < LIVE:
                worker = Worker()
                self.workers.add(worker)
                worker.handle = self._dispatcher.loop.start(partial(self._work, worker))
            else:
                return

    def cancel(self, rows: Collection[int], cause: str) -> None:
        """Stop the workers that run these rows (by `id`)."""
        for worker in tuple(self.workers):
            if worker.row is None or worker.cause or worker.handle is None:
                continue  # the scheduler may ask twice; a node that is ending is left to it
            if id(worker.row) in rows:
                worker.cause = cause
                worker.handle.cancel()

    def purge(self) -> None:
        """In some scope nothing new starts: what of it is queued is swept by the scheduler."""
        kept: list[Row | Ticket] = []
        for item in self.queue:
            row = item.row if type(item) is Ticket else item
            assert type(row) is Row
            if row.state is READY and may_start(row):
                kept.append(item)
            elif type(item) is Ticket:
                item.release()
        self.queue.clear()
        self.queue.extend(kept)

    def cancel_again(self) -> None:
        """For nodes that swallowed their cancellation, or are slow to end."""
        for worker in tuple(self.workers):
            if worker.row is not None and worker.cause and worker.handle is not None:
                worker.handle.cancel()

    def give_up(self) -> None:
        """Nodes that will not end: their workers are left to themselves."""
        for worker in tuple(self.workers):
            row = worker.row
            if row is not None and worker.cause:
                worker.row = None
                reason = f"{worker.cause}; it swallowed its cancellation"
                self._dispatcher.outcomes.cancelled(row, worker.number, reason)
                if worker.ticket is not None:
                    worker.ticket.release()

    def close(self) -> None:
        """The run is over: what its nodes held goes back."""
        for worker in self.workers:
            if worker.ticket is not None:
                worker.ticket.release()
        for item in self.queue:
            if type(item) is Ticket:
                item.release()
        self.queue.clear()

    async def _work(self, worker: Worker) -> None:
        try:
            await self._serve(worker)
        except Exception as error:  # noqa: BLE001 - a node's own never comes here
            self._dispatcher.crash(error)
        finally:
            self.workers.discard(worker)
            self._dispatcher.loop.forget(worker.handle)
            # What its last node came to may be in the inbox, and no worker after it looks.
            self._dispatcher.tick_soon()
            row = worker.row
            if row is not None:
                # The cancellation went through the node: that is its end, and this worker's.
                worker.row = None
                outcomes = self._dispatcher.outcomes
                outcomes.stopped(row, worker.number, worker.ticket, worker.cause)

    async def _serve(self, worker: Worker) -> None:
        dispatcher = self._dispatcher
        queue = self.queue
        idle = self._idle
        pause = dispatcher.loop.pause
        slice_end = perf_counter() + SLICE
        while not worker.cause:
            if not queue:
                self._burst = 1
                if len(self.workers) - len(idle) > CROWD:
                    # Others end in this same round of the loop: one turn for them all.
                    dispatcher.tick_soon()
                else:
                    dispatcher.turn()
                if not queue:
                    if not await self._rest(worker):
                        return
                    slice_end = perf_counter() + SLICE
                    continue
            if perf_counter() > slice_end:
                dispatcher.turn()
                if self._paused:
                    # One at a time goes on after its slice: several would stall the loop for the
                    # sum of theirs.
                    if not await self._rest(worker):
                        return
                else:
                    self._paused += 1
                    try:
                        await pause()
                    finally:
                        self._paused -= 1
                slice_end = perf_counter() + SLICE
                continue
            item = queue.popleft()
            if type(item) is Row:
                if item.state is READY and not await self._run(worker, item):
                    return
            else:
                assert type(item) is Ticket
                if not await self._run_with_care(worker, item):
                    return

    async def _rest(self, worker: Worker) -> bool:
        """Park until there is something to do; False: there are enough who wait for that."""
        if len(self._idle) >= IDLE:
            return False
        if worker.waker is None:
            worker.waker = self._dispatcher.loop.waker()
        self._idle.append(worker.waker)
        await worker.waker.park()
        return True

    async def _run(self, worker: Worker, row: Row) -> bool:
        """One attempt of a fast task. False: the node changed its context, so retire."""
        dispatcher = self._dispatcher
        if not dispatcher.ticking:
            dispatcher.tick_soon()
        now = dispatcher.now
        number = row.attempt + 1
        key = row.key
        inbox = dispatcher.inbox
        inbox.append((row, NodeStarted(0, now(), key, number)))
        task = dispatcher.tasks[row.node.task]  # type: ignore[index] # a task row has a task
        worker.row = row
        worker.number = number
        bind((dispatcher, key, number))
        context = copy_context()
        try:
            arguments = dispatcher.flow.quick_arguments(row, task)
            if arguments is None:
                context_of = dispatcher.node_context(key, number)
                arguments = await dispatcher.flow.arguments(row, task, context_of)
            call: Callable[..., Coroutine[object, object, object]] = task.function  # type: ignore[assignment] # fast tasks are coroutine functions
            value = await call(**arguments)
            kind = type(value)
            if not (
                (kind is task.exact or (task.untyped and kind in SCALARS))
                and (kind is not int or -BIG <= value < BIG)  # type: ignore[operator] # an int
                and (kind is not str or (len(value) < LONG_TEXT and value.isascii()))  # type: ignore[arg-type, attr-defined] # a str
            ):
                value = await dispatcher.flow.store(task, value)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a node raises is its failure
            worker.row = None
            dispatcher.outcomes.raised(row, number, error)
        else:
            worker.row = None
            # The inbox may be another list by now: a turn takes it away whole.
            dispatcher.inbox.append((row, NodeSucceeded(0, now(), key, number, value)))  # type: ignore[arg-type] # checked above
        if dispatcher.reporters.live:
            dispatcher.reporters.close(row, number)
        # A node's context variables must not reach the next node: contexts compare in no time
        # while nothing was set.
        return copy_context() == context

    async def _run_with_care(self, worker: Worker, ticket: Ticket) -> bool:
        """One attempt with time limits, admission or live objects. False: retire."""
        row = ticket.row
        if ticket.done or row.state is not READY:  # pragma: no cover - a halted run drops them
            ticket.release()
            return True
        self._dispatcher.tick_soon()
        worker.row = row
        worker.number = ticket.number = row.attempt + 1
        worker.ticket = ticket
        bind((self._dispatcher, row.key, ticket.number))
        context = copy_context()
        await self._call_with_care(ticket)
        worker.row = worker.ticket = None
        return copy_context() == context

    async def _call_with_care(self, ticket: Ticket) -> None:
        dispatcher = self._dispatcher
        row = ticket.row
        number = ticket.number
        task = ticket.lane.task
        dispatcher.inbox.append((row, NodeStarted(0, dispatcher.now(), row.key, number)))
        if dispatcher.caution is not None:
            await dispatcher.caution.begun()
        limit, reason = dispatcher.outcomes.time_left(row, task)
        try:
            with anyio.move_on_after(limit) as clock:
                stored = await self._call(row, number, task)
                event = NodeSucceeded(0, dispatcher.now(), row.key, number, stored)
                dispatcher.inbox.append((row, event))
            if clock.cancelled_caught:
                dispatcher.outcomes.timed_out(row, number, limit, reason)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - whatever a node raises is its failure
            dispatcher.outcomes.raised(row, number, error)
        ticket.done = True
        ticket.release()
        dispatcher.reporters.close(row, number)

    async def _call(self, row: Row, number: int, task: LiveTask) -> Stored:
        dispatcher = self._dispatcher
        flow = dispatcher.flow
        arguments = None if task.careful_inputs else flow.quick_arguments(row, task)
        if arguments is None:
            context = dispatcher.node_context(row.key, number)
            arguments = await flow.arguments(row, task, context)
        value = task.call()(**arguments)
        if isinstance(value, Awaitable):  # pragma: no branch - plain functions go to threads
            value = await value
        return await flow.store(task, value)
