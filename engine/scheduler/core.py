"""The machine's door: one mutating method, `handle(facts) -> commands`.

Here is what each fact means to the row that it is about; what follows from that for others is in
`ends.py`. `busy` says that another call (with no facts) will do more.

What may not live here: clocks, I/O, await, randomness, values, retry arithmetic.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from onready.engine.events import (
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
    ScopeOpened,
)
from onready.engine.names import NodeKey
from onready.engine.options import OnError
from onready.engine.plan.model import Fragment, Plan
from onready.engine.scheduler.commands import (
    Command,
    Decided,
    Fact,
    GraceOver,
    Input,
    Open,
    RetryDue,
    Start,
    Submitted,
)
from onready.engine.scheduler.finding import Finder
from onready.engine.scheduler.past import Past
from onready.engine.scheduler.retry import is_drivers, is_infrastructure
from onready.engine.scheduler.rules import awaits_decision, illegal, is_stopped, may_start
from onready.engine.scheduler.state import (
    BACKING_OFF,
    PLANNED,
    READY,
    RUNNING,
    SUCCEEDED,
    TERMINAL,
    WAITING,
    Row,
    Scope,
)
from onready.engine.scheduler.transitions import NEXT
from onready.engine.scheduler.transitions import Fact as What

_SUCCESS = NEXT[What.SUCCEEDED]
_STARTED = NEXT[What.STARTED]
_BEGINNINGS = frozenset({What.PLANNED, What.STARTED})


class Scheduler(Past):
    """Decides which rows start, and when scopes and the run have ended.

    `late` counts facts about attempts that had ended already: they are dropped. `root` is the
    scope of the whole run. `stopping`: in some scope nothing new starts any more.
    """

    def __init__(self, plan: Plan, on_error: OnError) -> None:
        super().__init__(plan, on_error)
        self._finder = Finder()
        self._handlers: dict[type, Callable[[Row, Input], None]] = {
            NodeSucceeded: self._on_succeeded,
            NodeCached: self._on_cached,
            NodeStarted: self._on_started,
            AttemptPlanned: self._on_planned,
            Submitted: self._on_planned,
            NodeFailed: self._on_failed,
            NodeRetrying: self._on_retrying,
            NodeLost: self._on_lost,
            NodeCancelled: self._on_cancelled,
            NodeSkipped: self._on_skipped,
            ScopeOpened: self._on_opened,
            Decided: self._on_decided,
            RetryDue: self._on_due,
        }

    def begin(self) -> list[Command]:
        """Open the root scope. Call once, before any `handle`."""
        self._enter(self.root)
        return self.handle(())

    def handle(self, facts: Sequence[Fact]) -> list[Command]:
        """Take what happened, in order, and say what to do now, in order.

        A fact of an attempt that has ended is counted in `late` and changes nothing. A fact that
        cannot follow from the row's state raises InternalError with the row's story.
        """
        if self._rescued:
            self._forget_rescued()
        handlers = self._handlers
        for row, event in facts:
            if row is None:
                self._drain_ends()
                if type(event) is RunCancelling:
                    self._cancel_run()
                elif type(event) is GraceOver:
                    self._force()
                continue
            handler = handlers.get(type(event))
            # Progress, output and warnings are for subscribers: no state follows from them.
            if handler is not None:
                handler(row, event)
        if self._closing or self._opening or self._sweeping or self._cleaning:
            self._drain()
        commands = self._commands
        starts = self._starts
        self._commands = []
        if starts:
            self._starts = []
        if self.stopping:
            # What became ready before the end of its scope was known is taken back.
            commands = [item for item in commands if type(item) is not Open or _wanted(item.row)]
            starts = [row for row in starts if _wanted(row)]
        if starts:
            commands.append(Start(starts))
        return commands

    def find(self, key: NodeKey) -> Row | None:
        """The row with that key, if its scope is open."""
        return self._finder.find(self.root, key)

    # --- facts about attempts -----------------------------------------------------------------

    def _attempt_ends(self, row: Row, attempt: int, what: What) -> bool:
        """Move a row as its live attempt ended; False where that is old news."""
        after = NEXT[what].get(row.state)
        # Attempt 0: the row failed before an attempt was made of it.
        live = attempt == row.attempt if row.state is not READY else not attempt
        if after is None or not live or row.body is not None:
            self._out_of_turn(row, attempt, what)
            return False
        row.state = after
        return True

    def _out_of_turn(self, row: Row, attempt: int, what: What) -> None:
        """Old news is counted and dropped; what is none cannot happen."""
        state = row.state
        if state not in TERMINAL and row.body is None:
            over = state is READY or state is BACKING_OFF or what in _BEGINNINGS
            if not 0 < attempt < row.attempt + over:
                raise illegal(row, what)
        self.late += 1

    def _on_started(self, row: Row, event: Input) -> None:
        assert type(event) is NodeStarted
        state = row.state
        if state is READY and event.attempt == row.attempt + 1:
            row.attempt = event.attempt
        elif row.attempt != event.attempt or state is READY or state not in _STARTED:
            self._out_of_turn(row, event.attempt, What.STARTED)
            return
        row.state = _STARTED[state]

    def _on_planned(self, row: Row, event: Input) -> None:
        assert isinstance(event, (AttemptPlanned, Submitted))
        if row.state is not READY or event.attempt != row.attempt + 1:
            self._out_of_turn(row, event.attempt, What.PLANNED)
            return
        row.attempt = event.attempt
        row.state = PLANNED

    def _on_succeeded(self, row: Row, event: Input) -> None:
        assert type(event) is NodeSucceeded
        if row.attempt != event.attempt or row.state not in _SUCCESS:
            self._out_of_turn(row, event.attempt, What.SUCCEEDED)
            return
        row.state = SUCCEEDED
        row.value = event.value
        self._feed(row)

    def _on_cached(self, row: Row, event: Input) -> None:
        assert type(event) is NodeCached
        if row.state is not READY:
            self._out_of_turn(row, 0, What.CACHED)
            return
        self._move(row, What.CACHED)
        row.value = event.value
        self._feed(row)

    def _on_failed(self, row: Row, event: Input) -> None:
        assert type(event) is NodeFailed
        # What had ended when this came did so before it: a replay sees each fact alone.
        self._drain_ends()
        if row.kind == "repeat" and row.body is not None and awaits_decision(row.body):
            # Its limit is reached, or its test cannot be read.
            row.failure = event.failure
            row.body.decided = True
            row.body.failed += 1
            self._failed.append(row)
            self._close(row.body)
        elif self._attempt_ends(row, event.attempt, What.FAILED):
            row.failure = event.failure
            self._bad_end(row)

    def _on_lost(self, row: Row, event: Input) -> None:
        assert type(event) is NodeLost
        self._drain_ends()
        if self._attempt_ends(row, event.attempt, What.LOST):
            row.failure = event.failure
            self._bad_end(row)

    def _on_retrying(self, row: Row, event: Input) -> None:
        assert type(event) is NodeRetrying
        if not self._attempt_ends(row, event.attempt, What.RETRYING):
            return
        row.failure = event.failure
        task = row.node.task
        if is_drivers(event.failure):
            row.past += 1
        elif task is not None and is_infrastructure(self.plan.tasks[task].retry, event.failure):
            row.infrastructure_retries += 1
        else:
            row.retries += 1
        if not (may_start(row) or self.deferred):
            self._sweep_row(row.scope, row)

    def _on_due(self, row: Row, event: Input) -> None:
        assert type(event) is RetryDue
        if row.state is not BACKING_OFF or row.attempt != event.attempt:
            self._out_of_turn(row, event.attempt, What.DUE)
            return
        row.state = READY
        self._starts.append(row)

    def _on_cancelled(self, row: Row, event: Input) -> None:
        assert type(event) is NodeCancelled
        self._drain_ends()
        waits = row.state in {WAITING, READY, BACKING_OFF} and event.attempt == row.attempt
        if self.deferred and waits:
            # In a replay: the log says what the sweep had done.
            self._swept(row.scope)
            self._drop(row, event.reason)
        elif self._attempt_ends(row, event.attempt, What.CANCELLED):
            self._ended_cancelled(row)

    def _on_skipped(self, row: Row, event: Input) -> None:
        """In a replay alone: else skipping is this machine's own word."""
        assert type(event) is NodeSkipped
        if row.state is WAITING or row.state is READY:
            # It does not follow from what was replayed: a sweep did it.
            self._swept(row.scope)
            self._skip_one(row, event.reason)

    def restore(self, row: Row, attempt: int) -> None:
        """In a replay: the next fact is about this attempt, whatever came before it."""
        if row.state is READY and attempt > 0:
            if attempt != row.attempt + 1:
                row.attempt = row.past = attempt - 1
            self._on_planned(row, Submitted(attempt))

    # --- facts about composites ---------------------------------------------------------------

    def _on_opened(self, row: Row, event: Input) -> None:
        assert type(event) is ScopeOpened
        body = row.body
        if row.kind == "repeat" and row.state is RUNNING and body is not None:
            self._next_iteration(row, body, event.count or 0)
            return
        if row.state is not READY:
            self._out_of_turn(row, 0, What.OPENED)
            return
        if row.kind == "map":
            count = event.count or 0
            scope = Scope(row.key, row, None, count, count)
        elif row.kind == "repeat":
            scope = Scope(row.key, row, None, 1, 1)
        else:
            scope = self._body_of(row, event.arm)
        row.state = RUNNING
        # What the dispatcher found out about the body travels with the row until here.
        scope.values, row.value = row.value, None
        row.body = scope
        self._enter(scope)

    def _body_of(self, row: Row, chosen: str | None) -> Scope:
        fragment: Fragment | None = row.node.body
        key = row.key
        for arm in row.node.arms:
            if arm.name == chosen:
                fragment = arm.body
                key = key.choose(arm.name)
        if fragment is None:
            raise illegal(row, What.OPENED)
        return Scope(key, row, fragment, len(fragment.nodes), len(fragment.nodes))

    def _next_iteration(self, row: Row, scope: Scope, count: int) -> None:
        if not awaits_decision(scope) or count != scope.total + 1:
            self._out_of_turn(row, 0, What.OPENED)
        elif is_stopped(scope):
            # It was to go on, and is stopped half-way.
            self._give_up(scope, 1)
            self._closing.append(scope)
        else:
            scope.total += 1
            scope.left += 1
            self._opening.append(scope)

    def _on_decided(self, row: Row, event: Input) -> None:
        del event
        scope = row.body
        if row.state is RUNNING and scope is not None and awaits_decision(scope):
            scope.decided = True
            self._closing.append(scope)
        else:
            self._out_of_turn(row, 0, What.OPENED)


def _wanted(row: Row) -> bool:
    return row.state is READY and may_start(row)
