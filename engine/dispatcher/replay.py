"""Going on with a run: its history becomes the state of a scheduler, then everything open goes on.

The recorded facts are given to the scheduler one by one, and it works out again what followed;
nothing of that is performed but the values of composites. What the earlier driver had decided and
not recorded any more is recorded now. While the history is replayed nothing is swept: the log
says what was, and a row that it says nothing about had not been come to.

Then attempts that were live are asked after: backends that keep them may know what became of
them, those of a process that died with its driver are made again.

What may not live here: what a history keeps after a retry (`engine/fold.py`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import anyio.lowlevel

from onready.engine.errors import Failure, StoreError
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
    RunCancelling,
    ScopeClosed,
    ScopeOpened,
)
from onready.engine.fold import History
from onready.engine.names import NodeKey
from onready.engine.scheduler.commands import (
    Close,
    Command,
    Decide,
    Decided,
    Drop,
    End,
    Fact,
    Open,
    RetryDue,
    Skip,
    Start,
)
from onready.engine.scheduler.ends import is_inside
from onready.engine.scheduler.retry import DRIVER, is_drivers
from onready.engine.scheduler.rules import may_start
from onready.engine.scheduler.state import (
    BACKING_OFF,
    CANCELLING,
    PLANNED,
    READY,
    RUNNING,
    WAITING,
    Row,
    Scope,
)

if TYPE_CHECKING:
    from onready.engine.dispatcher.core import Dispatcher

PIECE: Final = 500
"""Events replayed before others have the loop."""

_LIVE: Final = frozenset({PLANNED, RUNNING, CANCELLING})
_BEGINNINGS: Final = (AttemptPlanned, NodeStarted)
_ENDS: Final = (NodeSucceeded, NodeFailed, NodeLost, NodeCancelled, NodeRetrying)
AttemptEvent = (
    AttemptPlanned
    | NodeStarted
    | NodeSucceeded
    | NodeFailed
    | NodeLost
    | NodeCancelled
    | NodeRetrying
)


class Replay:
    """The past of one run, made its dispatcher's present."""

    def __init__(self, dispatcher: Dispatcher, history: History) -> None:
        self._dispatcher = dispatcher
        self._history = history
        self._scheduler = dispatcher.scheduler
        self._ready: dict[int, Row] = {}
        self._opens: dict[int, Row] = {}
        self._decides: dict[int, Row] = {}
        self._planned: dict[NodeKey, AttemptPlanned] = {}
        self._waits: dict[NodeKey, NodeRetrying] = {}
        self._owed: dict[NodeKey, AnyEvent] = {}
        """Decisions that follow from the history and are not (yet) found in it."""
        self._over: Scope | None = None
        """Has ended, says the log: what it does not say of rows in there was never to be said.

        An earlier driver gave up rows that it had not opened yet, without a word.
        """

    async def run(self) -> None:
        """Replay, record what is owed, go on with everything that is open."""
        scheduler = self._scheduler
        scheduler.past = self._history.past
        scheduler.told = {
            event.node: event.status
            for event in self._history.events
            if isinstance(event, ScopeClosed)
        }
        scheduler.deferred = True
        self._perform(scheduler.begin())
        self._settle()
        for count, event in enumerate(self._history.events):
            await self._apply(event)
            if not count % PIECE:
                await anyio.lowlevel.checkpoint()
        scheduler.deferred = False
        self._feed()
        self._settle()
        self._dispatcher.journal.extend(self._owed.values())
        self._go_on()

    # --- replaying ----------------------------------------------------------------------------

    async def _apply(self, event: AnyEvent) -> None:
        if isinstance(event, RunCancelling):
            self._dispatcher.cancelled_before(event.reason, event.grace)
            self._feed((None, event))
        elif isinstance(event, ScopeOpened):
            await self._opened(event)
        elif isinstance(event, ScopeClosed):
            self._closed(event)
        elif isinstance(event, AttemptEvent):
            self._attempt(event)
        elif isinstance(event, NodeSkipped | NodeCached) and not self._owed.pop(event.node, None):
            row = self._scheduler.find(event.node)
            if row is not None and (row.state is READY or row.state is WAITING):
                self._feed((row, event))
                self._owed.pop(event.node, None)

    def _attempt(self, event: AttemptEvent) -> None:
        if self._owed.pop(event.node, None) is not None:
            return  # it was dropped, and the log says so too
        row = self._scheduler.find(event.node)
        if row is None or (row.state is WAITING and not isinstance(event, NodeCancelled)):
            return  # of a scope that has ended, or of a node that is to run again
        if row.state is BACKING_OFF and event.attempt == row.attempt + 1:
            self._feed((row, RetryDue(row.attempt)))
        if isinstance(event, _BEGINNINGS):
            if isinstance(event, AttemptPlanned):
                self._planned[row.key] = event
        elif not isinstance(event, NodeCancelled) or event.attempt > row.attempt:
            self._scheduler.restore(row, event.attempt)
        self._feed((row, event))
        self._owed.pop(event.node, None)
        if isinstance(event, NodeRetrying):
            self._waits[row.key] = event
            if is_drivers(event.failure) and event.failure.reason == DRIVER:
                takeovers = self._dispatcher.outcomes.takeovers
                takeovers[row.key] = takeovers.get(row.key, 0) + 1

    async def _opened(self, event: ScopeOpened) -> None:
        row = self._scheduler.find(event.node)
        if row is None:
            return
        if row.kind == "rescue" and row.state is RUNNING and row.body is not None:
            if row.body.key is None or row.body.key.arm == event.arm:
                return
            # The handler was opened, so its body had failed and ended.
            self._end(row.body)
        if row.state is READY and await self._prepare(row, event):
            self._feed((row, event))
        elif row.kind == "repeat" and row.state is RUNNING:
            self._decides.pop(id(row), None)
            self._feed((row, event))

    async def _prepare(self, row: Row, event: ScopeOpened) -> bool:
        """Give the composite what its body needs; False where the plan has no such body."""
        found = await self._dispatcher.composites.prepare(row, event.arm)
        if isinstance(found, Failure):
            message = f"{row.key} was opened, and now cannot be: {found}"
            raise StoreError(message)
        if found is not None and found != event.count and row.kind == "map":
            message = f"{row.key} was opened with {event.count} items, and now has {found}"
            raise StoreError(message)
        return found is not None

    def _closed(self, event: ScopeClosed) -> None:
        if self._owed.pop(event.node, None) is not None:
            return
        row = self._scheduler.find(event.node)
        if row is None or row.body is None:
            return
        if self._decides.pop(id(row), None) is not None:
            # Nothing followed its last iteration, so that was the decision.
            self._feed((row, Decided()))
        elif event.status != "succeeded":
            self._end(row.body)
        self._owed.pop(event.node, None)

    def _end(self, scope: Scope) -> None:
        """The log says that `scope` ended."""
        self._over = scope
        self._scheduler.sweep_now(scope)
        self._feed()
        self._over = None

    def _feed(self, *facts: Fact) -> None:
        self._perform(self._scheduler.handle(facts))
        while self._scheduler.busy:
            self._perform(self._scheduler.handle(()))

    def _settle(self) -> None:
        while self._scheduler.busy:
            self._perform(self._scheduler.handle(()))

    def _perform(self, commands: list[Command]) -> None:
        now = self._dispatcher.now()
        for command in commands:
            if isinstance(command, Start):
                self._ready.update((id(row), row) for row in command.rows)
            elif isinstance(command, Open):
                self._opens[id(command.row)] = command.row
            elif isinstance(command, Decide):
                self._decides[id(command.row)] = command.row
            elif isinstance(command, Close):
                row = command.row
                self._owe(row, ScopeClosed(0, now, row.key, command.status))
                self._dispatcher.composites.close(row, command.status)
            elif isinstance(command, Skip):
                row = command.row
                self._owe(row, NodeSkipped(0, now, row.key, reason=command.reason))
            elif isinstance(command, Drop):
                row = command.row
                self._owe(row, NodeCancelled(0, now, row.key, row.attempt, command.reason))
            elif isinstance(command, End):
                self._dispatcher.ended_before(command)

    def _owe(self, row: Row, event: AnyEvent) -> None:
        if self._over is None or not is_inside(row, self._over):
            self._owed[row.key] = event

    # --- going on -----------------------------------------------------------------------------

    def _go_on(self) -> None:
        dispatcher = self._dispatcher
        for row in self._decides.values():
            if row.state is RUNNING:
                dispatcher.composites.decide(row)
        for row in self._opens.values():
            if row.state is READY and may_start(row):
                dispatcher.composites.open(row)
        todo = [self._scheduler.root]
        while todo:
            for row in todo.pop().rows:
                if row.body is not None:
                    todo.append(row.body)
                elif row.kind == "task" and row.state in _LIVE:
                    self._ask_after(row)
                elif row.state is BACKING_OFF:
                    dispatcher.outcomes.wait_again(row, self._left_of(row))
        # After those that run already: they have their shares of the limits.
        ready = [row for row in self._ready.values() if row.state is READY and may_start(row)]
        dispatcher.admission.admit(ready)

    def _left_of(self, row: Row) -> float:
        """Seconds of a wait for a retry that are left."""
        event = self._waits[row.key]
        # Two clocks, or one that was put back: never longer than the wait was to be.
        left = event.at + event.delay - self._dispatcher.now()
        return min(max(left, 0.0), event.delay)

    def _ask_after(self, row: Row) -> None:
        """The attempt was live when the earlier driver died."""
        dispatcher = self._dispatcher
        planned = self._planned.get(row.key)
        if planned is None or planned.attempt != row.attempt:
            dispatcher.outcomes.driver_lost(row, row.attempt)
        else:
            dispatcher.admission.recover(row, planned.dispatch)
