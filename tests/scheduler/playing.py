"""Plays the dispatcher to a scheduler, and keeps the model beside it.

Moves are numbers: each chooses among what could happen now, so that a list of numbers is a whole
history. Facts gather in an inbox as they do in the dispatcher, and are handed over together.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Final

from onready.engine.errors import Failure, FailureKind
from onready.engine.events import (
    AttemptPlanned,
    BackendWarning,
    NodeCached,
    NodeCancelled,
    NodeFailed,
    NodeLog,
    NodeLost,
    NodeProgress,
    NodeRetrying,
    NodeStarted,
    NodeSucceeded,
    RunCancelling,
    ScopeOpened,
)
from onready.engine.options import OnError
from onready.engine.plan.model import Plan
from onready.engine.scheduler import ends
from onready.engine.scheduler.commands import (
    Cancel,
    Close,
    Command,
    Decide,
    Drop,
    End,
    Input,
    Open,
    RetryDue,
    Skip,
    Start,
    Submitted,
)
from onready.engine.scheduler.core import Scheduler
from onready.engine.scheduler.finding import forget
from onready.engine.scheduler.invariants import check
from onready.engine.scheduler.retry import INFRASTRUCTURE_RETRIES, retry_delay
from onready.engine.scheduler.state import (
    BACKING_OFF,
    CANCELLING,
    PLANNED,
    READY,
    RUNNING,
    TERMINAL,
    WAITING,
    Row,
    Scope,
    State,
)
from onready.engine.scheduler.transitions import TRANSITIONS
from tests.scheduler.model import Model, Unit

KINDS: Final[tuple[FailureKind, ...]] = (
    "error",
    "evicted",
    "timeout",
    "evicted",
    "lost",
    "error",
    "config",
)
MOST_UNITS: Final = 120
MOODS: Final = 4 * 4**6
LIVE: Final = frozenset({PLANNED, RUNNING, CANCELLING})
WITHDRAWABLE: Final = frozenset({"idle", "pausing"})


def failure(kind: FailureKind = "error", *bases: str) -> Failure:
    return Failure(kind, "no", bases=bases)


def _reachable() -> dict[State, set[State]]:
    """Where the transition table can lead to from a state, in any number of steps."""
    found = {state: {state} for state in State}
    for _ in State:
        for before, _, after in TRANSITIONS:
            for ways in found.values():
                if before in ways:
                    ways.add(after)
    return found


REACHABLE: Final = _reachable()


class Playing:
    """One run of a plan. Every `flush` compares the scheduler with the model.

    `mood` is a number whose digits say what happens often, and what seldom. `forget`: closed
    bodies go, as in the dispatcher.
    """

    def __init__(
        self, plan: Plan, on_error: OnError, *, forget: bool = False, mood: int = 0
    ) -> None:
        self.plan = plan
        self.scheduler = Scheduler(plan, on_error)
        self.model = Model(plan, on_error)
        self.forget = forget
        self.weights: list[int] = []
        for _ in range(6):
            mood, digit = divmod(mood, 4)
            self.weights.append(4**digit)
        mood, self.plans_ahead = divmod(mood, 2)
        self.impatient = mood % 2
        self.end: End | None = None
        self.inbox: list[tuple[Row | None, Input, Callable[[], None]]] = []
        self.stale = 0
        self.units: dict[int, tuple[Row, Unit]] = {}
        self.states: dict[int, State] = {}
        self.queue: dict[int, Row] = {}
        self.opens: dict[int, Row] = {}
        self.planned: dict[int, Row] = {}
        self.live: dict[int, Row] = {}
        self.pausing: dict[int, Row] = {}
        self.asked: dict[int, bool] = {}
        self.told: Counter[int] = Counter()
        self.commanded: dict[int, int] = {}
        self._take(self.scheduler.begin())

    # --- handing over -------------------------------------------------------------------------

    def flush(self) -> None:
        """One call of `handle` with all that happened since the last, and a look at everything."""
        facts, self.inbox = self.inbox, []
        late = self.scheduler.late
        commands = self.scheduler.handle([(row, event) for row, event, _ in facts])
        for _, _, tell_model in facts:
            tell_model()
            self.model.settle(quiet=False)
        assert self.scheduler.late >= late + self.stale
        self.stale = 0
        self._take(commands)

    def _take(self, commands: list[Command]) -> None:
        quiet = not self.scheduler.busy
        stopped = self.model.stopped
        self.model.settle(quiet=quiet)
        known = len(self.units)
        self._find_rows(self.scheduler.root, self.model.root)
        assert len(self.units) - known <= ends.BUDGET
        assert check(self.scheduler) == []
        for command in commands:
            assert self.end is None, "a command after the end"
            if isinstance(command, Start):
                assert command.rows
                assert not (quiet and stopped), "started after the stop"
                for row in command.rows:
                    self._started(row)
            elif isinstance(command, Open):
                assert command.row.state is READY
                self.opens[id(command.row)] = command.row
            elif isinstance(command, Cancel):
                assert command.row.state is CANCELLING
                # Asked again where it was asked before the run was cancelled.
                self.asked[id(command.row)] = self.model.cancelling
            elif isinstance(command, End):
                self.end = command
            else:
                self._told_end(command)
        self._compare(quiet=quiet)

    def _started(self, row: Row) -> None:
        assert row.state is READY
        assert row.kind == "task"
        assert self.commanded.get(id(row), 0) < row.attempt + 1, "started twice"
        self.commanded[id(row)] = row.attempt + 1
        self.queue[id(row)] = row

    def _told_end(self, command: Close | Decide | Skip | Drop) -> None:
        assert not isinstance(command, Decide), "no repeats in these plans"
        row = command.row
        self.told[id(row)] += 1
        assert self.told[id(row)] == 1, "ended twice"
        if isinstance(command, Close):
            assert row.state.value == command.status
        else:
            assert row.state.value == ("skipped" if isinstance(command, Skip) else "cancelled")
        if isinstance(command, Close) and self.forget and row.body is not None:
            self._compare_body(row)
            forget(row.body)
            row.body = None

    def _compare_body(self, row: Row) -> None:
        """Everything in a body that closed has ended, and been told of."""
        assert row.body is not None
        for inner in row.body.rows:
            assert inner.state in TERMINAL
            assert id(inner) in self.units

    def _find_rows(self, scope: Scope, unit: Unit) -> None:
        """Match the scheduler's rows with the model's units, by position."""
        todo = [(scope, unit)]
        while todo:
            scope, unit = todo.pop()
            for row, child in zip(scope.rows, unit.children or (), strict=False):
                if id(row) not in self.units:
                    assert str(row.key) == child.key
                    self.units[id(row)] = (row, child)
                if row.body is not None:
                    todo.append((row.body, child))

    # --- comparing ----------------------------------------------------------------------------

    def _compare(self, *, quiet: bool) -> None:
        stopped = self.model.stopped
        startable = self.model.startable()
        ready: set[str] = set()
        for row, unit in self.units.values():
            before = self.states.get(id(row), WAITING)
            assert row.state in REACHABLE[before], f"{row.key} from {before}"
            self.states[id(row)] = row.state
            if row.state is READY:
                ready.add(unit.key)
                if row.kind == "task" and not stopped:
                    assert self.commanded[id(row)] == row.attempt + 1, f"{row.key} is not started"
            self._compare_row(row, unit, quiet=quiet, stopped=stopped)
        if quiet:
            assert ready == startable
            assert self.scheduler.ended is (self.model.root.phase == "ended")
            ended = [key for key, unit in self._by_key().items() if unit.outcome in unit.words]
            assert len(ended) == sum(row.state in TERMINAL for row, _ in self.units.values())
        assert stopped or ready <= startable
        assert (self.end is not None) is self.scheduler.ended
        if self.end is not None:
            assert self.end.status == self.model.root.outcome or not quiet
            assert [str(row.key) for row in self.end.failed] == self.model.failed

    def _by_key(self) -> dict[str, Unit]:
        return {unit.key: unit for _, unit in self.units.values()}

    def _compare_row(self, row: Row, unit: Unit, *, quiet: bool, stopped: bool) -> None:
        state = row.state
        if unit.phase == "ended":
            if state in TERMINAL or quiet:
                assert state.value in unit.words, f"{row.key}: {state.value}, not {unit.words}"
        elif state in TERMINAL:
            # The scheduler may be ahead while it withdraws what a stop leaves no time for.
            assert stopped, f"{row.key} ended"
            assert not quiet, f"{row.key} ended"
            assert unit.phase in WITHDRAWABLE or unit.children is not None, f"{row.key} ended"
        else:
            assert row.attempt == unit.attempt
        if row.kind == "task" and unit.live:
            assert state in LIVE
            if quiet:
                assert state is CANCELLING or not self.model.cancelling
                assert self.asked.get(id(row)) or not self.model.cancelling
                assert state is not PLANNED or not stopped
            assert state is not CANCELLING or stopped
            assert (state is CANCELLING) <= (id(row) in self.asked)
        if state is BACKING_OFF:
            assert unit.phase == "pausing"

    # --- moves --------------------------------------------------------------------------------

    def moves(self) -> list[Callable[[int], None]]:
        """What could happen now."""
        begin, start, succeed, end_badly, opening, due = self.weights
        found: list[Callable[[int], None]] = []
        if any(row.state is READY for row in self.queue.values()):
            found += [self.begin] * begin
        if self.planned:
            found += [self.start_planned] * start
        if self.live or self.planned:
            found += [self.succeed] * succeed + [self.end_badly] * end_badly
        if self.opens:
            found += [self.open] * opening
        if self.pausing:
            found += [self.due] * due
        return found

    def move(self, choice: int) -> None:
        """Let one of the things happen that could."""
        if self.impatient and choice % 2 and not self.model.cancel_asked and self.model.stopped:
            # Something failed: somebody does not wait for the rest.
            self.cancel()
        possible = self.moves()
        if possible:
            choice, which = divmod(choice, len(possible))
            possible[which](choice)
        else:
            self.flush()

    def _post(self, row: Row | None, event: Input, tell_model: Callable[[], None]) -> None:
        self.inbox.append((row, event, tell_model))

    def _unit(self, row: Row) -> Unit:
        return self.units[id(row)][1]

    def begin(self, choice: int) -> None:
        """A backend takes a row that the scheduler asked to start."""
        rows = [row for row in self.queue.values() if row.state is READY]
        choice, which = divmod(choice, len(rows))
        row = rows[which]
        del self.queue[id(row)]
        number = row.attempt + 1
        unit = self._unit(row)
        way = choice % (2 if self.plans_ahead else 4)
        if way == 0:
            event = AttemptPlanned(0, 0.0, row.key, number, "remote", "name")
            self._post(row, event, lambda: self.model.planned(unit, number))
            self.planned[id(row)] = row
        elif way == 1:
            self._post(row, Submitted(number), lambda: self.model.planned(unit, number))
            self.planned[id(row)] = row
        elif way == 2 and not choice % 5:
            # It asks for more than there is.
            none = NodeFailed(0, 0.0, row.key, 0, failure("unschedulable"))
            self._post(row, none, lambda: self.model.ended(unit, 0, "failed"))
        elif way == 3 and choice % 5 == 1:
            # Its value is in the cache, also where it has had attempts.
            kept = NodeCached(0, 0.0, row.key, 0, "other")
            self._post(row, kept, lambda: self.model.ended(unit, 0, "succeeded"))
        else:
            self._start(row, number)

    def _start(self, row: Row, number: int) -> None:
        unit = self._unit(row)
        event = NodeStarted(0, 0.0, row.key, number)
        self._post(row, event, lambda: self.model.started(unit, number))
        self.live[id(row)] = row

    def start_planned(self, choice: int) -> None:
        row = self._pick(self.planned, choice)
        self._start(row, self._number(row))

    @staticmethod
    def _pick(rows: dict[int, Row], choice: int) -> Row:
        return rows.pop(list(rows)[choice % len(rows)])

    def _number(self, row: Row) -> int:
        """The number of the live attempt, whose beginning may still be in the inbox."""
        return row.attempt + (row.state is READY)

    def _pick_live(self, choice: int) -> tuple[Row, Unit, int]:
        row = self._pick(self.live or self.planned, choice)
        return row, self._unit(row), self._number(row)

    def succeed(self, choice: int) -> None:
        row, unit, number = self._pick_live(choice)
        event = NodeSucceeded(0, 0.0, row.key, number)
        self._post(row, event, lambda: self.model.ended(unit, number, "succeeded"))

    def end_badly(self, choice: int) -> None:
        """An attempt fails, is lost or is cancelled; whether to retry is asked as always."""
        choice, which = divmod(choice, len(self.live or self.planned))
        row, unit, number = self._pick_live(which)
        choice, way = divmod(choice, 8)
        if id(row) in self.asked and way < 4:
            event = NodeCancelled(0, 0.0, row.key, number)
            self._post(row, event, lambda: self.model.ended(unit, number, "cancelled"))
            return
        if not way:
            # Nobody asked for it: a backend or the node itself did that.
            event = NodeCancelled(0, 0.0, row.key, number)
            self._post(row, event, lambda: self.model.ended(unit, number, "cancelled"))
            return
        why = failure(KINDS[choice % len(KINDS)], *(["builtins.OSError"] * (way == 1)))
        delay = self._delay(row, why, hasty=not choice % 7)
        if delay is not None:
            retrying = NodeRetrying(0, 0.0, row.key, number, delay, why)
            self._post(row, retrying, lambda: self.model.retrying(unit, number))
            self.pausing[id(row)] = row
        elif why.kind == "lost":
            lost = NodeLost(0, 0.0, row.key, number, why)
            self._post(row, lost, lambda: self.model.ended(unit, number, "lost"))
        else:
            failed = NodeFailed(0, 0.0, row.key, number, why)
            self._post(row, failed, lambda: self.model.ended(unit, number, "failed"))

    def _delay(self, row: Row, why: Failure, *, hasty: bool) -> float | None:
        """As the dispatcher decides it; a hasty one does not look at the row's scope."""
        stopped = row.scope.doomed or row.scope.cancelling
        if (stopped and not hasty) or row.state is CANCELLING:
            return None
        assert row.node.task is not None
        policy = self.plan.tasks[row.node.task].retry
        delay = retry_delay(row, policy, why)
        if delay is not None:
            assert row.attempt <= policy.limit + INFRASTRUCTURE_RETRIES, "retried for ever"
        return delay

    def due(self, choice: int) -> None:
        row = self._pick(self.pausing, choice)
        unit = self._unit(row)
        number = self._number(row)
        self._post(row, RetryDue(number), lambda: self.model.due(unit, number))

    def open(self, choice: int) -> None:
        """A composite's body becomes known, or it turns out that there is none."""
        choice, which = divmod(choice, len(self.opens))
        row = self._pick(self.opens, which)
        if row.state is not READY:
            return
        unit = self._unit(row)
        choice, way = divmod(choice, 8)
        if not way and row.kind == "map":
            event = NodeFailed(0, 0.0, row.key, 0, failure())
            self._post(row, event, lambda: self.model.ended(unit, 0, "failed"))
            return
        most = 1 if len(self.units) > MOST_UNITS else 6
        count = choice % (most + 1) if row.kind == "map" else None
        opened = ScopeOpened(0, 0.0, row.key, count)
        self._post(row, opened, lambda: self.model.opened(unit, count or 0))

    def cancel(self) -> None:
        self._post(None, RunCancelling(0, 0.0, "enough", 1.0), self.model.cancel)

    def say(self, choice: int) -> None:
        """Events from which nothing follows."""
        rows = [row for row, _ in self.units.values()]
        if rows:
            row = rows[choice % len(rows)]
            events = (
                NodeProgress(0, 0.0, row.key, 1, 0.5),
                NodeLog(0, 0.0, row.key, 1, "stdout", 3),
                BackendWarning(0, 0.0, row.key, 1, "slow", "slow"),
            )
            self._post(row, events[choice % 3], lambda: None)

    # --- old news -----------------------------------------------------------------------------

    def say_again(self, choice: int) -> None:
        """News of an attempt that is over, as duplicates and as contradictions."""
        rows = [row for row, unit in self.units.values() if self._has_old(row, unit)]
        if self.inbox or not rows:
            self.flush()
            return
        choice, which = divmod(choice, len(rows))
        row = rows[which]
        if row.kind != "task":
            number = 0
        else:
            over = row.state in TERMINAL or row.state in {READY, BACKING_OFF}
            most = max(1, row.attempt + over - 1) if row.state not in TERMINAL else row.attempt + 1
            choice, less = divmod(choice, most)
            number = most - less
        self._post(row, self._old(row, number, choice), lambda: None)
        self.stale += 1
        self.flush()

    @staticmethod
    def _has_old(row: Row, unit: Unit) -> bool:
        if row.state in TERMINAL:
            return unit.phase == "ended"
        if row.kind != "task":
            return row.state is RUNNING
        return row.attempt + (row.state in {READY, BACKING_OFF}) > 1

    def _old(self, row: Row, number: int, choice: int) -> Input:
        key = row.key
        if row.kind != "task":
            choices: tuple[Input, ...] = (
                ScopeOpened(0, 0.0, key, 2),
                NodeFailed(0, 0.0, key, 0, failure()),
            )
            return choices[choice % len(choices)]
        events: tuple[Input, ...] = (
            AttemptPlanned(0, 0.0, key, number, "remote", "name"),
            Submitted(number),
            NodeStarted(0, 0.0, key, number),
            NodeSucceeded(0, 0.0, key, number),
            NodeFailed(0, 0.0, key, number, failure()),
            NodeRetrying(0, 0.0, key, number, 1.0, failure()),
            NodeLost(0, 0.0, key, number, failure("lost")),
            NodeCancelled(0, 0.0, key, number),
            RetryDue(number),
        )
        # The wait before a retry is over once, and that may be yet to come.
        waits = row.state is BACKING_OFF and number == row.attempt
        return events[choice % (len(events) - waits)]

    # --- to the end ---------------------------------------------------------------------------

    def finish(self) -> None:
        """Let everything end, well where it may, and see that it does."""
        for turn in range(10_000):
            if self.end is not None and not self.scheduler.busy and not self.inbox:
                forget(self.scheduler.root)
                return
            self.flush()
            for _ in range(len(self.units)):
                if not self.moves():
                    break
                self._go_on(turn)
        raise AssertionError(f"does not end: {[str(row.key) for row, _ in self.units.values()]}")

    def _go_on(self, turn: int) -> None:
        if self.live or self.planned:
            self.succeed(turn)
        elif self.opens:
            # Ways 1 and up: no failures on the way out.
            self.open(len(self.opens) * 9 + turn % len(self.opens))
        elif self.pausing:
            self.due(turn)
        else:
            self.begin(3 * len(self.queue))
