"""What follows when rows end: joins, scopes that open and close, failure, cancellation, sweeping.

Joins are counters, scopes are records, and nothing recurses: what follows is put on work lists
and drained. Opening and sweeping of wide scopes is cut into pieces of `BUDGET` rows a call.

What may not live here: facts about attempts (`core.py`), clocks, I/O, await, randomness, values.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Final

from onready.engine.errors import Failure
from onready.engine.events import ScopeStatus
from onready.engine.names import NodeKey
from onready.engine.options import OnError
from onready.engine.plan.model import Fragment, Plan
from onready.engine.scheduler.commands import Cancel, Close, Command, Decide, Drop, End, Open, Skip
from onready.engine.scheduler.finding import forget
from onready.engine.scheduler.rules import (
    illegal,
    is_cleanup,
    is_rescued,
    is_stopped,
    may_go_on,
    reason_of,
    status_of,
)
from onready.engine.scheduler.state import (
    BACKING_OFF,
    CANCELLED,
    CANCELLING,
    FAILED,
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

BUDGET: Final = 500
"""Rows opened or swept per call, so that a fan-out of 100,000 never holds the loop for long."""

_LIVE = frozenset({RUNNING, CANCELLING})


class Ends:
    """The rows and scopes of one run, and the work lists of what is to be done about them.

    `past` are attempts made before the run was continued by a retry, by key. `deferred`: nothing
    is swept yet, because a log is being replayed that says itself what was. `stopping`: in some
    scope nothing new starts any more; `stops` counts how often that was said of one.
    """

    def __init__(self, plan: Plan, on_error: OnError) -> None:
        self.plan = plan
        self.on_error: OnError = on_error
        self.late = 0
        self.ended = False
        self.stopping = False
        self.stops = 0
        self.deferred = False
        self.past: Mapping[NodeKey, int] = {}
        self.root = Scope(None, None, plan.root, len(plan.root.nodes), len(plan.root.nodes))
        self._commands: list[Command] = []
        self._starts: list[Row] = []
        self._failed: list[Row] = []
        self._opening: deque[Scope] = deque()
        self._sweeping: deque[tuple[Scope, int]] = deque()
        self._closing: list[Scope] = []
        self._cleaning: list[Row] = []
        self._rescued: list[Scope] = []
        """Bodies whose rows go with the next facts: there are commands about them yet."""
        self._cleaners: dict[int, bool] = {}

    @property
    def busy(self) -> bool:
        """Whether rows remain to be opened or swept: call `handle(())` again."""
        return bool(self._opening or (self._sweeping and not self.deferred))

    # --- joins --------------------------------------------------------------------------------

    def _move(self, row: Row, what: What) -> None:
        after = NEXT[what].get(row.state)
        if after is None:
            raise illegal(row, what)
        row.state = after

    def _feed(self, row: Row) -> None:
        """`row` ended well: count down what waits for it."""
        scope = row.scope
        scope.left -= 1
        if scope.fragment is not None:
            if not (scope.doomed or scope.cancelling):
                rows = scope.rows
                opened = len(rows)
                for position in row.node.feeds:
                    if position < opened:
                        target = rows[position]
                        target.pending -= 1
                        if not target.pending and target.state is WAITING:
                            self._ready(target)
            elif row.node.cleans:
                self._cleaning.append(row)
        if not scope.left:
            self._closing.append(scope)

    def _ready(self, row: Row) -> None:
        row.state = READY
        if row.kind == "task":
            self._starts.append(row)
        else:
            self._commands.append(Open(row))

    def _clean(self, row: Row) -> None:
        """`row` ended, well or not: count down the clean-up nodes that wait for it."""
        rows = row.scope.rows
        for position in row.node.cleans:
            if position >= len(rows) or (target := rows[position]).state is not WAITING:
                continue
            if row.state is not SUCCEEDED and row.node.position in target.node.needs:
                self._skip_one(target, f"needs {row.key}")
                if self.on_error == "continue":
                    self._skip_dependents(target)
                continue
            target.pending -= 1
            if not target.pending:
                self._ready(target)

    # --- scopes -------------------------------------------------------------------------------

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
        if self.past:
            self._recall(scope, begin)

    def _open_nodes(self, scope: Scope, fragment: Fragment, begin: int, end: int) -> None:
        rows = scope.rows
        key = scope.key
        for node in fragment.nodes[begin:end]:
            row = Row(node, scope, NodeKey(node.name, key), node.kind, len(node.waits))
            rows.append(row)
        if self.past:
            self._recall(scope, begin)
        for position in range(begin, end):
            row = rows[position]
            if scope.left < scope.total and row.pending and row.state is WAITING:
                # Some rows ended before this one was opened: their count-down missed it.
                self._catch_up(row, begin)
            if not row.pending and row.state is WAITING:
                self._ready(row)

    def _recall(self, scope: Scope, begin: int) -> None:
        """Attempts are numbered on from those before a retry."""
        for row in scope.rows[begin:]:
            row.attempt = row.past = self.past.get(row.key, 0)

    def _catch_up(self, row: Row, begin: int) -> None:
        """Count the ends of rows before `begin`; those made with this one feed it themselves."""
        rows = row.scope.rows
        for position in row.node.waits:
            if position < begin:
                upstream = rows[position]
                if upstream.state is SUCCEEDED:
                    row.pending -= 1
                elif upstream.state in TERMINAL:
                    if row.node.always and position not in row.node.needs:
                        row.pending -= 1
                        continue
                    self._skip(row, f"needs {upstream.key}")
                    return

    def _close(self, scope: Scope) -> None:
        """Every row of `scope` ended: end its owner, or the run; or go on in its owner."""
        status = status_of(scope, self.on_error)
        owner = scope.owner
        if owner is not None and owner.kind == "repeat" and not self._repeat_ends(scope, status):
            return
        scope.closed = True
        if owner is None:
            self.ended = True
            self._commands.append(End(status, self._failed))
        elif status == "failed" and is_rescued(scope) and may_go_on(owner):
            self._rescue(owner, scope)
        else:
            self._commands.append(Close(owner, status))
            self._end_owner(owner, status)

    def _end_owner(self, owner: Row, status: ScopeStatus) -> None:
        if status != "failed" and owner.node.tolerant and owner.item < 0:
            self._forgive(owner.body)
        if status == "succeeded":
            owner.state = SUCCEEDED
            self._feed(owner)
        elif status == "cancelled":
            owner.state = CANCELLED
            self._ended_cancelled(owner)
        else:
            owner.state = FAILED
            self._bad_end(owner)

    def _repeat_ends(self, scope: Scope, status: ScopeStatus) -> bool:
        """Whether the repeat whose iterations these are is over; else somebody must decide."""
        if scope.decided or status != "succeeded":
            return True
        assert scope.owner is not None
        self._commands.append(Decide(scope.owner))
        return False

    def _rescue(self, row: Row, scope: Scope) -> None:
        """The body failed: its failures are no longer the run's, and the handler takes over."""
        row.failure = self._forgive(scope)
        self._move(row, What.RESCUED)
        row.body = None
        self._rescued.append(scope)
        self._commands.append(Open(row))

    def _forget_rescued(self) -> None:
        scopes, self._rescued = self._rescued, []
        for scope in scopes:
            forget(scope)

    def _forgive(self, scope: Scope | None) -> Failure | None:
        """Take what failed in `scope` from the run's failures; the first of them."""
        inside = [row for row in self._failed if is_inside(row, scope)]
        if not inside:
            return None
        gone = {id(row) for row in inside}
        self._failed = [row for row in self._failed if id(row) not in gone]
        return inside[0].failure

    def _last_failure(self, scope: Scope | None) -> Failure | None:
        inside = (row.failure for row in reversed(self._failed) if is_inside(row, scope))
        return next(inside, None)

    # --- failure ------------------------------------------------------------------------------

    def _bad_end(self, row: Row) -> None:
        """`row` failed for good, or nobody knows: its scope fails."""
        scope = row.scope
        scope.left -= 1
        scope.failed += 1
        if row.kind == "task" or row.body is None:
            self._failed.append(row)
        elif row.item >= 0 and row.node.tolerant:
            row.failure = self._last_failure(row.body)
        if row.node.cleans:
            self._cleaning.append(row)
        if self.on_error == "continue":
            self._skip_dependents(row)
        else:
            self._doom(row)
        if not scope.left:
            self._closing.append(scope)

    def _doom(self, row: Row) -> None:
        """Nothing new starts in the failed row's scope, nor in scopes around it up to a rescue."""
        cancel = self.on_error == "cancel"
        scope = row.scope
        top: Scope | None = None
        while not scope.doomed:
            scope.doomed = True
            scope.cancelling = scope.cancelling or cancel
            scope.culprit = row.key
            top = scope
            owner = scope.owner
            if owner is None or (row.state is not CANCELLED and is_rescued(scope)):
                break
            if is_cleanup(owner):
                # The sweep from above passes it by.
                self._stop(scope)
            scope = owner.scope
        if top is not None:
            self._stop(top)

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
                    if target.state is WAITING and not target.node.always:
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
        self._ended_badly(row)

    def _ended_badly(self, row: Row) -> None:
        """After the counting: clean-up nodes and the scope hear of it."""
        if row.node.cleans:
            self._cleaning.append(row)
        if not row.scope.left:
            self._closing.append(row.scope)

    # --- cancellation and sweeping ------------------------------------------------------------

    def _cancel_run(self) -> None:
        if not self.root.cancelling and not self.ended:
            self.root.cancelling = True
            self._stop(self.root)

    def _stop(self, scope: Scope) -> None:
        """Nothing new starts in `scope`: sweep it."""
        self.stopping = True
        self.stops += 1
        self._sweeping.append((scope, 0))

    def _force(self) -> None:
        """The grace is over: clean-up nodes in what is being cancelled are cancelled too."""
        todo = [self.root]
        while todo:
            scope = todo.pop()
            if not scope.cancelling:
                todo.extend(row.body for row in scope.rows if row.body is not None)
            elif not (scope.forced or scope.closed):
                # The sweep takes it to all that is inside.
                scope.forced = True
                self._stop(scope)

    def _ended_cancelled(self, row: Row) -> None:
        scope = row.scope
        scope.left -= 1
        scope.cancelled += 1
        if self.on_error == "continue" and not scope.cancelling:
            self._skip_dependents(row)
        elif not is_stopped(scope):
            self._doom(row)
        self._ended_badly(row)

    def _sweep_some(self, scope: Scope, begin: int, budget: int) -> int:
        """Sweep up to `budget` rows of `scope` from `begin`; where to go on."""
        end = min(len(scope.rows), begin + budget)
        for position in range(begin, end):
            self._sweep_row(scope, scope.rows[position])
        if end == len(scope.rows) and end < scope.total:
            # Rows that were never opened never will be.
            scope.left -= scope.total - end
            self._give_up(scope, scope.total - end)
            scope.total = end
            if not scope.left and not scope.closed:
                self._closing.append(scope)
        return end

    @staticmethod
    def _give_up(scope: Scope, count: int) -> None:
        """So many rows of `scope` will never be opened."""
        scope.unopened += count
        if scope.cancelling:
            scope.cancelled += count
        else:
            scope.skipped += count

    def _sweep_row(self, scope: Scope, row: Row) -> None:
        if is_cleanup(row) and not scope.forced:
            return
        state = row.state
        if state is WAITING or state is READY or state is BACKING_OFF:
            # One that has had an attempt cannot be said to have been skipped.
            if scope.cancelling or row.attempt > row.past:
                self._drop(row, "cancelled" if scope.cancelling else "stopped")
            else:
                self._skip_one(row, reason_of(row))
        elif state is PLANNED or (scope.cancelling and state in _LIVE and row.kind == "task"):
            # Also where it was asked before: then it was planned, and may have begun meanwhile.
            row.state = CANCELLING
            self._commands.append(Cancel(row))
        elif row.body is not None and not row.body.closed:
            self._hand_down(scope, row.body)

    def _hand_down(self, scope: Scope, body: Scope) -> None:
        """What stops `scope` stops a body in it."""
        body.doomed = body.doomed or scope.doomed
        body.cancelling = body.cancelling or scope.cancelling
        body.forced = body.forced or scope.forced
        body.culprit = body.culprit or scope.culprit
        self._stop(body)

    def _drop(self, row: Row, reason: str) -> None:
        """A row without a live attempt is cancelled."""
        self._move(row, What.DROP)
        self._commands.append(Drop(row, reason))
        scope = row.scope
        scope.left -= 1
        scope.cancelled += 1
        self._ended_badly(row)

    # --- work lists ---------------------------------------------------------------------------

    def _drain(self) -> None:
        budget = BUDGET
        while True:
            self._drain_ends()
            if budget > 0 and self._sweeping and not self.deferred:
                budget -= self._sweep_next(budget)
            elif budget > 0 and self._opening:
                budget -= self._open_next(budget)
            else:
                return

    def _drain_ends(self) -> None:
        while True:
            while self._closing:
                scope = self._closing.pop()
                if not scope.closed:
                    self._close(scope)
            if not self._cleaning:
                return
            self._clean(self._cleaning.pop())

    def _sweep_next(self, budget: int) -> int:
        """A piece of the first sweep; what it cost."""
        scope, begin = self._sweeping.popleft()
        if scope.closed:
            return 0  # and forgotten by now, maybe
        if len(scope.rows) < scope.total and self._has_cleaners(scope.fragment):
            # Its clean-up nodes run whatever happens, so they must be there.
            self._sweeping.append((scope, begin))
            return self._open_some(scope, budget)
        end = self._sweep_some(scope, begin, budget)
        if end < len(scope.rows):
            self._sweeping.appendleft((scope, end))
        return end - begin + 1

    def _has_cleaners(self, fragment: Fragment | None) -> bool:
        if fragment is None:
            return False
        known = self._cleaners.get(id(fragment))
        if known is None:
            known = any(node.always for node in fragment.nodes)
            self._cleaners[id(fragment)] = known
        return known

    def _open_next(self, budget: int) -> int:
        """A piece of the first scope that is not wholly open; what it cost."""
        scope = self._opening[0]
        if is_stopped(scope) and not self.deferred:
            self._opening.popleft()
            self._sweeping.append((scope, len(scope.rows)))
            return 0
        made = self._open_some(scope, budget)
        if len(scope.rows) >= scope.total:
            self._opening.popleft()
        return made


def is_inside(row: Row, scope: Scope | None) -> bool:
    """Whether the row is in `scope`, or in one that is open in it."""
    return row.scope is scope or scope_is_inside(row.scope, scope)


def scope_is_inside(inner: Scope, outer: Scope | None) -> bool:
    """Whether `outer` is around `inner`."""
    owner = inner.owner
    while owner is not None:
        if owner.scope is outer:
            return True
        owner = owner.scope.owner
    return False
