"""The machine: one mutating method, `handle(facts) -> commands`.

Joins are counters, scopes are records, and nothing recurses: what follows from a fact is put on
work lists and drained. Opening and sweeping of wide scopes is cut into pieces of `BUDGET` rows a
call; `busy` says that another call (with no facts) will do more.

What may not live here: clocks, I/O, await, randomness, values, retry arithmetic.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from onready.engine.errors import InternalError
from onready.engine.events import (
    AttemptPlanned,
    NodeCancelled,
    NodeFailed,
    NodeLost,
    NodeRetrying,
    NodeStarted,
    NodeSucceeded,
    RunCancelling,
    ScopeOpened,
    ScopeStatus,
)
from onready.engine.names import NodeKey
from onready.engine.options import OnError
from onready.engine.plan.model import Fragment, Plan
from onready.engine.scheduler.commands import (
    Cancel,
    Close,
    Command,
    Drop,
    End,
    Fact,
    Input,
    Open,
    RetryDue,
    Skip,
    Start,
    Submitted,
)
from onready.engine.scheduler.retry import is_infrastructure
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
    TERMINAL,
    WAITING,
    Row,
    Scope,
    State,
)
from onready.engine.scheduler.story import story
from onready.engine.scheduler.transitions import NEXT
from onready.engine.scheduler.transitions import Fact as What

BUDGET: Final = 500
"""Rows opened or swept per call, so that a fan-out of 100,000 never holds the loop for long."""

_SUCCESS = NEXT[What.SUCCEEDED]
_STARTED = NEXT[What.STARTED]
_LIVE = frozenset({RUNNING, CANCELLING})
_BEGINNINGS = frozenset({What.PLANNED, What.STARTED})


class Scheduler:
    """Decides which rows start, and when scopes and the run have ended.

    `late` counts facts about attempts that had ended already: they are dropped. `root` is the
    scope of the whole run, and None until `begin`.
    """

    def __init__(self, plan: Plan, on_error: OnError) -> None:
        self.plan = plan
        self.on_error: OnError = on_error
        self.late = 0
        self.ended = False
        self._stopping = False
        self.root = Scope(None, None, plan.root, len(plan.root.nodes), len(plan.root.nodes))
        self._commands: list[Command] = []
        self._starts: list[Row] = []
        self._failed: list[Row] = []
        self._opening: deque[Scope] = deque()
        self._sweeping: deque[tuple[Scope, int]] = deque()
        self._closing: list[Scope] = []
        self._index: dict[int, dict[str, int]] = {}
        self._handlers: dict[type, Callable[[Row, Input], None]] = {
            NodeSucceeded: self._on_succeeded,
            NodeStarted: self._on_started,
            AttemptPlanned: self._on_planned,
            Submitted: self._on_planned,
            NodeFailed: self._on_failed,
            NodeRetrying: self._on_retrying,
            NodeLost: self._on_lost,
            NodeCancelled: self._on_cancelled,
            ScopeOpened: self._on_opened,
            RetryDue: self._on_due,
        }

    # --- the door -----------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """Whether rows remain to be opened or swept: call `handle(())` again."""
        return bool(self._opening or self._sweeping)

    def begin(self) -> list[Command]:
        """Open the root scope. Call once, before any `handle`."""
        self._enter(self.root)
        return self.handle(())

    def handle(self, facts: Sequence[Fact]) -> list[Command]:
        """Take what happened, in order, and say what to do now, in order.

        A fact of an attempt that has ended is counted in `late` and changes nothing. A fact that
        cannot follow from the row's state raises InternalError with the row's story.
        """
        handlers = self._handlers
        for row, event in facts:
            if row is None:
                if type(event) is RunCancelling:
                    self._cancel_run()
                continue
            handler = handlers.get(type(event))
            # Progress, output and warnings are for subscribers: no state follows from them.
            if handler is not None:
                handler(row, event)
        self._drain()
        commands = self._commands
        starts = self._starts
        self._commands = []
        if starts:
            self._starts = []
        if self._stopping:
            # What became ready before the end of its scope was known is taken back.
            commands = [item for item in commands if type(item) is not Open or _wanted(item.row)]
            starts = [row for row in starts if _wanted(row)]
        if starts:
            commands.append(Start(starts))
        return commands

    def forget(self, scope: Scope) -> None:
        """Let go of the rows of `scope` and of every scope open in it; for whoever is done."""
        todo = [scope]
        while todo:
            rows = todo.pop().rows
            todo.extend(row.body for row in rows if row.body is not None)
            rows.clear()

    def find(self, key: NodeKey) -> Row | None:
        """The row with that key, if its scope is open; walks the scopes, keeps no table."""
        path: list[NodeKey] = []
        here: NodeKey | None = key
        while here is not None:
            path.append(here)
            here = here.parent
        scope: Scope | None = self.root
        row: Row | None = None
        for part in reversed(path):
            if scope is None:
                return None
            row = self._named(scope, part.name)
            if row is not None and part.index is not None:
                items = row.body
                known = items is not None and items.fragment is None
                inside = known and items is not None and part.index < len(items.rows)
                row = items.rows[part.index] if inside and items is not None else None
            if row is None:
                return None
            scope = row.body
        return row

    def _named(self, scope: Scope, name: str) -> Row | None:
        fragment = scope.fragment
        if fragment is None:
            return None
        index = self._index.get(id(fragment))
        if index is None:
            index = {node.name: node.position for node in fragment.nodes}
            self._index[id(fragment)] = index
        position = index.get(name)
        known = position is not None and position < len(scope.rows)
        return scope.rows[position] if known and position is not None else None

    # --- facts about attempts -----------------------------------------------------------------

    def _move(self, row: Row, what: What) -> None:
        after = NEXT[what].get(row.state)
        if after is None:
            raise _illegal(row, what)
        row.state = after

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
                raise _illegal(row, what)
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

    def _on_failed(self, row: Row, event: Input) -> None:
        assert type(event) is NodeFailed
        if self._attempt_ends(row, event.attempt, What.FAILED):
            row.failure = event.failure
            self._bad_end(row)

    def _on_lost(self, row: Row, event: Input) -> None:
        assert type(event) is NodeLost
        if self._attempt_ends(row, event.attempt, What.LOST):
            row.failure = event.failure
            self._bad_end(row)

    def _on_retrying(self, row: Row, event: Input) -> None:
        assert type(event) is NodeRetrying
        if not self._attempt_ends(row, event.attempt, What.RETRYING):
            return
        row.failure = event.failure
        task = row.node.task
        if task is not None and is_infrastructure(self.plan.tasks[task].retry, event.failure):
            row.infrastructure_retries += 1
        else:
            row.retries += 1
        if row.scope.doomed or row.scope.cancelling:
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
        if self._attempt_ends(row, event.attempt, What.CANCELLED):
            self._ended_cancelled(row)

    # --- joins --------------------------------------------------------------------------------

    def _feed(self, row: Row) -> None:
        """`row` ended well: count down what waits for it."""
        scope = row.scope
        scope.left -= 1
        if scope.fragment is not None and not (scope.doomed or scope.cancelling):
            rows = scope.rows
            opened = len(rows)
            for position in row.node.feeds:
                if position < opened:
                    target = rows[position]
                    target.pending -= 1
                    if not target.pending and target.state is WAITING:
                        self._ready(target)
        if not scope.left:
            self._closing.append(scope)

    def _ready(self, row: Row) -> None:
        row.state = READY
        if row.kind == "task":
            self._starts.append(row)
        else:
            self._commands.append(Open(row))

    # --- scopes -------------------------------------------------------------------------------

    def _on_opened(self, row: Row, event: Input) -> None:
        assert type(event) is ScopeOpened
        body = row.node.body
        if row.state is not READY:
            self._out_of_turn(row, 0, What.OPENED)
            return
        if row.kind == "map":
            count = event.count or 0
            scope = Scope(row.key, row, None, count, count)
        elif body is not None:
            scope = Scope(row.key, row, body, len(body.nodes), len(body.nodes))
        else:
            raise _illegal(row, What.OPENED)
        row.state = RUNNING
        # What the dispatcher found out about the body travels with the row until here.
        scope.values, row.value = row.value, None
        row.body = scope
        self._enter(scope)

    def _enter(self, scope: Scope) -> None:
        if scope.total:
            self._opening.append(scope)
        else:
            self._closing.append(scope)

    def _open_some(self, scope: Scope, budget: int) -> int:
        """Make up to `budget` more rows of `scope`; how many were made."""
        begin = len(scope.rows)
        end = min(scope.total, begin + budget)
        if scope.fragment is None:
            self._open_items(scope, begin, end)
        else:
            self._open_nodes(scope, scope.fragment, begin, end)
        return end - begin

    def _open_items(self, scope: Scope, begin: int, end: int) -> None:
        owner = scope.owner
        assert owner is not None
        node = owner.node
        key = owner.key
        kind = "task" if node.task is not None else "subgraph"
        for index in range(begin, end):
            row = Row(node, scope, NodeKey(key.name, key.parent, index), kind, item=index)
            scope.rows.append(row)
            self._ready(row)

    def _open_nodes(self, scope: Scope, fragment: Fragment, begin: int, end: int) -> None:
        rows = scope.rows
        key = scope.key
        for node in fragment.nodes[begin:end]:
            row = Row(node, scope, NodeKey(node.name, key), node.kind, len(node.waits))
            rows.append(row)
        for position in range(begin, end):
            row = rows[position]
            if scope.left < scope.total and row.pending and row.state is WAITING:
                # Some rows ended before this one was opened: their count-down missed it.
                self._catch_up(row)
            if not row.pending and row.state is WAITING:
                self._ready(row)

    def _catch_up(self, row: Row) -> None:
        rows = row.scope.rows
        opened = len(rows)
        for position in row.node.waits:
            if position < opened:
                upstream = rows[position]
                if upstream.state is SUCCEEDED:
                    row.pending -= 1
                elif upstream.state in TERMINAL:
                    self._skip(row, f"needs {upstream.key}")
                    return

    def _close(self, scope: Scope) -> None:
        """Every row of `scope` ended: end its owner, or the run."""
        scope.closed = True
        status = _status(scope)
        owner = scope.owner
        if owner is None:
            self.ended = True
            self._commands.append(End(status, self._failed))
            return
        self._commands.append(Close(owner, status))
        if status == "succeeded":
            owner.state = SUCCEEDED
            self._feed(owner)
        elif status == "cancelled":
            owner.state = CANCELLED
            self._ended_cancelled(owner)
        else:
            owner.state = FAILED
            self._bad_end(owner)

    # --- failure ------------------------------------------------------------------------------

    def _bad_end(self, row: Row) -> None:
        """`row` failed for good, or nobody knows: its scope fails."""
        scope = row.scope
        scope.left -= 1
        scope.failed += 1
        if row.kind == "task" or row.body is None:
            self._failed.append(row)
        if self.on_error == "continue":
            self._skip_dependents(row)
        else:
            self._doom(row)
        if not scope.left:
            self._closing.append(scope)

    def _doom(self, row: Row) -> None:
        """Nothing new starts in the failed row's scope, nor in any scope around it."""
        cancel = self.on_error == "cancel"
        scope: Scope | None = row.scope
        top: Scope | None = None
        while scope is not None and not scope.doomed:
            scope.doomed = True
            scope.cancelling = scope.cancelling or cancel
            scope.culprit = row.key
            top = scope
            scope = scope.owner.scope if scope.owner is not None else None
        if top is not None:
            self._stopping = True
            self._sweeping.append((top, 0))

    def _skip_dependents(self, row: Row) -> None:
        """Under `continue`: everything that needs `row`, directly or not, is skipped."""
        todo = [row]
        while todo:
            source = todo.pop()
            scope = source.scope
            if scope.fragment is None:
                continue
            reason = ""
            for position in source.node.feeds:
                if position < len(scope.rows):
                    target = scope.rows[position]
                    if target.state is WAITING:
                        reason = reason or f"needs {source.key}"
                        self._skip_one(target, reason)
                        todo.append(target)

    def _skip(self, row: Row, reason: str) -> None:
        self._skip_one(row, reason)
        self._skip_dependents(row)

    def _skip_one(self, row: Row, reason: str) -> None:
        self._move(row, What.SKIP)
        scope = row.scope
        scope.left -= 1
        scope.skipped += 1
        self._commands.append(Skip(row, reason))
        if not scope.left:
            self._closing.append(scope)

    # --- cancellation and sweeping ------------------------------------------------------------

    def _cancel_run(self) -> None:
        if not self.root.cancelling and not self.ended:
            self.root.cancelling = True
            self._stopping = True
            self._sweeping.append((self.root, 0))

    def _ended_cancelled(self, row: Row) -> None:
        scope = row.scope
        scope.left -= 1
        scope.cancelled += 1
        if self.on_error == "continue" and not scope.cancelling:
            self._skip_dependents(row)
        elif not (scope.doomed or scope.cancelling):
            self._doom(row)
        if not scope.left:
            self._closing.append(scope)

    def _sweep_some(self, scope: Scope, begin: int, budget: int) -> int:
        """Sweep up to `budget` rows of `scope` from `begin`; where to go on."""
        end = min(len(scope.rows), begin + budget)
        for position in range(begin, end):
            self._sweep_row(scope, scope.rows[position])
        if end == len(scope.rows) and end < scope.total:
            # Rows that were never opened never will be.
            scope.unopened = scope.total - end
            scope.left -= scope.unopened
            if scope.cancelling:
                scope.cancelled += scope.unopened
            else:
                scope.skipped += scope.unopened
            scope.total = end
            if not scope.left and not scope.closed:
                self._closing.append(scope)
        return end

    def _sweep_row(self, scope: Scope, row: Row) -> None:
        state = row.state
        if state is WAITING or state is READY or state is BACKING_OFF:
            # One that has had an attempt cannot be said to have been skipped.
            if scope.cancelling or row.attempt:
                self._move(row, What.DROP)
                self._commands.append(Drop(row, "cancelled" if scope.cancelling else "stopped"))
                self._count_dropped(row)
            else:
                self._skip_one(row, _reason(row))
        elif state is PLANNED or (scope.cancelling and state in _LIVE and row.kind == "task"):
            # Also where it was asked before: then it was planned, and may have begun meanwhile.
            row.state = CANCELLING
            self._commands.append(Cancel(row))
        elif row.body is not None and not row.body.closed:
            body = row.body
            body.doomed = body.doomed or scope.doomed
            body.cancelling = body.cancelling or scope.cancelling
            body.culprit = body.culprit or scope.culprit
            self._sweeping.append((body, 0))

    def _count_dropped(self, row: Row) -> None:
        scope = row.scope
        scope.left -= 1
        scope.cancelled += 1
        if not scope.left:
            self._closing.append(scope)

    # --- work lists ---------------------------------------------------------------------------

    def _drain(self) -> None:
        budget = BUDGET
        while True:
            while self._closing:
                scope = self._closing.pop()
                if not scope.closed:
                    self._close(scope)
            if budget > 0 and self._sweeping:
                scope, begin = self._sweeping.popleft()
                if scope.closed:
                    continue  # and forgotten by now, maybe
                end = self._sweep_some(scope, begin, budget)
                budget -= end - begin + 1
                if end < len(scope.rows):
                    self._sweeping.appendleft((scope, end))
            elif budget > 0 and self._opening:
                scope = self._opening[0]
                if scope.doomed or scope.cancelling:
                    self._opening.popleft()
                    self._sweeping.append((scope, len(scope.rows)))
                    continue
                budget -= self._open_some(scope, budget)
                if len(scope.rows) >= scope.total:
                    self._opening.popleft()
            else:
                return


def _status(scope: Scope) -> ScopeStatus:
    if scope.failed:
        return "failed"
    if scope.cancelled or (scope.skipped and scope.doomed):
        # Nothing in it failed, but something around it did: it was stopped half-way.
        return "cancelled"
    return "succeeded"


def _reason(row: Row) -> str:
    scope = row.scope
    if scope.fragment is not None:
        for position in row.node.waits:
            if position < len(scope.rows) and scope.rows[position].state in _BAD:
                return f"needs {scope.rows[position].key}"
    return f"stopped: {scope.culprit} failed"


def _wanted(row: Row) -> bool:
    scope = row.scope
    return row.state is READY and not (scope.doomed or scope.cancelling)


_BAD: frozenset[State] = frozenset({FAILED, LOST, CANCELLED, SKIPPED})


def _illegal(row: Row, what: What) -> InternalError:
    lines = [f"{what.value!r} cannot happen to {row.key} when {row.state.value}", *story(row)]
    return InternalError("\n".join(lines))
