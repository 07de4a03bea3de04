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
from onready.engine.names import NodeKey
from onready.engine.options import OnError
from onready.engine.plan.model import Plan
from onready.engine.scheduler import ends
from onready.engine.scheduler.commands import (
    Cancel,
    Close,
    Command,
    Decide,
    Decided,
    Drop,
    End,
    GraceOver,
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
from onready.engine.scheduler.rules import may_start
from onready.engine.scheduler.state import (
    BACKING_OFF,
    CANCELLING,
    PLANNED,
    READY,
    RUNNING,
    TERMINAL,
    WAITING,
    Row,
    State,
)
from onready.engine.scheduler.transitions import TRANSITIONS
from tests.scheduler.model import CANCELLING as CANCELLED_TOO
from tests.scheduler.model import Model, Unit
from tests.scheduler.plans import past_of

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
MOODS: Final = 16 * 4**7
LIVE: Final = frozenset({PLANNED, RUNNING, CANCELLING})


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


class Past(dict[NodeKey, int]):
    """What a history knows of attempts before a retry."""

    def get(self, key: NodeKey, default: int = 0) -> int:  # type: ignore[override] # one form of it
        return past_of(str(key)) or default


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
        self.forget = forget
        self.weights: list[int] = []
        for _ in range(7):
            mood, digit = divmod(mood, 4)
            self.weights.append(4**digit)
        mood, self.plans_ahead = divmod(mood, 2)
        mood, self.impatient = divmod(mood, 2)
        mood, self.hard = divmod(mood, 2)
        retried = mood % 2
        self.model = Model(plan, on_error, past_of if retried else lambda _: 0)
        if retried:
            self.scheduler.past = Past({NodeKey("any"): 1})
        self.end: End | None = None
        self.inbox: list[tuple[Row | None, Input, Callable[[], None]]] = []
        self.stale = 0
        self.units: dict[int, tuple[Row, Unit]] = {}
        self.states: dict[int, State] = {}
        self.queue: dict[int, Row] = {}
        self.opens: dict[int, Row] = {}
        self.decides: dict[int, Row] = {}
        self.planned: dict[int, Row] = {}
        self.live: dict[int, Row] = {}
        self.pausing: dict[int, Row] = {}
        self.asked: dict[int, bool] = {}
        self.told: Counter[int] = Counter()
        self.known = self.model.known
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
            self.model.settle()
        assert self.scheduler.late >= late + self.stale
        self.stale = 0
        self._take(commands)

    def _take(self, commands: list[Command]) -> None:
        quiet = not self.scheduler.busy
        known = len(self.units)
        self._find_rows()
        assert len(self.units) - known <= ends.BUDGET
        assert (broken := check(self.scheduler)) == [], broken
        for command in commands:
            assert self.end is None, "a command after the end"
            if isinstance(command, Start):
                assert command.rows
                for row in command.rows:
                    self._started(row)
            elif isinstance(command, Open):
                self._told_to_open(command.row)
            elif isinstance(command, Decide):
                self.model.said("decide", self._unit(command.row))
                self.decides[id(command.row)] = command.row
            elif isinstance(command, Cancel):
                assert command.row.state is CANCELLING
                # Asked again where it was asked before the run was cancelled.
                self.asked[id(command.row)] = self._unit(command.row).stop == CANCELLED_TOO
            elif isinstance(command, End):
                self._told_all_ended(self.model.root)
                self.model.said("close", self.model.root)
                self.end = command
            else:
                self._told_end(command)
        self._see_what_was_given_up()
        self._compare(quiet=quiet)

    def _see_what_was_given_up(self) -> None:
        """Rows that were not opened yet when their scope was swept: nothing is said of them."""
        todo = [self.scheduler.root]
        while todo:
            scope = todo.pop()
            todo += [row.body for row in scope.rows if row.body is not None]
            if scope.unopened:
                owner = scope.owner
                self._told_all_ended(self.model.root if owner is None else self._unit(owner))

    def _started(self, row: Row) -> None:
        assert row.state is READY
        assert row.kind == "task"
        assert self.commanded.get(id(row), 0) < row.attempt + 1, "started twice"
        self.commanded[id(row)] = row.attempt + 1
        self.queue[id(row)] = row

    def _told_to_open(self, row: Row) -> None:
        assert row.state is READY
        assert row.kind != "task"
        unit = self._unit(row)
        if row.failure is not None:
            if not unit.rescued:
                self._told_all_ended(unit)
            self.model.said("open again", unit)
        self.opens[id(row)] = row

    def _told_end(self, command: Close | Skip | Drop) -> None:
        row = command.row
        unit = self._unit(row)
        self.told[id(row)] += 1
        assert self.told[id(row)] == 1, "ended twice"
        if isinstance(command, Close):
            assert row.state.value == command.status
            self._told_all_ended(unit)
            self.model.said("close", unit)
        else:
            word = "skipped" if isinstance(command, Skip) else "cancelled"
            assert row.state.value == word
            self.model.withdrawn(unit, word)
        if isinstance(command, Close) and self.forget and row.body is not None:
            self._compare_body(row)
            forget(row.body)
            row.body = None

    def _told_all_ended(self, unit: Unit) -> None:
        """What has no row by the end of its body never got one."""
        for child in unit.children or ():
            if child.phase != "ended" and child.key not in self.known:
                self.model.never_opened(child)

    def _compare_body(self, row: Row) -> None:
        """Everything in a body that closed has ended, and been told of."""
        assert row.body is not None
        for inner in row.body.rows:
            assert inner.state in TERMINAL
            assert id(inner) in self.units

    def _find_rows(self) -> None:
        """Match the scheduler's rows with the model's units, by their keys."""
        todo = [self.scheduler.root, *self.scheduler._rescued]
        while todo:
            for row in todo.pop().rows:
                if id(row) not in self.units:
                    key = str(row.key)
                    assert key not in self.known, "two rows of one key"
                    self.known.add(key)
                    self.units[id(row)] = (row, self.model.by_key[key])
                if row.body is not None:
                    todo.append(row.body)

    # --- comparing ----------------------------------------------------------------------------

    def _compare(self, *, quiet: bool) -> None:
        assert not self.model.unsaid(), "not said"
        startable = self.model.startable()
        ready: set[str] = set()
        for row, unit in self.units.values():
            before = self.states.get(id(row), WAITING)
            assert row.state in REACHABLE[before], f"{row.key} from {before}"
            self.states[id(row)] = row.state
            if row.state is READY:
                ready.add(unit.key)
                if row.kind == "task" and not unit.stop:
                    assert self.commanded[id(row)] == row.attempt + 1, f"{row.key} is not started"
            self._compare_row(row, unit, quiet=quiet)
        if quiet:
            assert ready == startable
            assert self.known.isdisjoint(self.model.overdue())
        assert self.scheduler.ended is (self.model.root.phase == "ended")
        assert (self.end is not None) is self.scheduler.ended
        if self.end is not None:
            assert self.end.status == self.model.root.outcome
            assert [str(row.key) for row in self.end.failed] == self.model.failed
            assert bool(self.end.failed) is (self.end.status == "failed")

    def _compare_row(self, row: Row, unit: Unit, *, quiet: bool) -> None:
        state = row.state
        if unit.phase == "ended" or state in TERMINAL:
            assert state.value == unit.outcome, f"{row.key}: {state.value}, not {unit.outcome}"
            return
        assert row.attempt == unit.attempt
        assert state is not READY or unit.ready
        if row.kind == "task" and unit.live:
            assert state in LIVE
            if quiet:
                assert state is CANCELLING or unit.stop < CANCELLED_TOO
                assert self.asked.get(id(row)) or unit.stop < CANCELLED_TOO
                assert state is not PLANNED or not unit.stop
            assert state is not CANCELLING or unit.stop
            assert (state is CANCELLING) <= (id(row) in self.asked)
        if state is BACKING_OFF:
            assert unit.phase == "pausing"

    # --- moves --------------------------------------------------------------------------------

    def moves(self) -> list[Callable[[int], None]]:
        """What could happen now."""
        begin, start, succeed, end_badly, opening, due, decide = self.weights
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
        if self.decides:
            found += [self.decide] * decide
        return found

    def move(self, choice: int) -> None:
        """Let one of the things happen that could."""
        if self.impatient and choice % 2 and not self.model.cancel_asked and self.model.stopped:
            # Something failed: somebody does not wait for the rest.
            self.cancel()
        if self.hard and not choice % 5 and self.model.stopped:
            self.grace_over()
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
        if (not may_start(row) and not hasty) or row.state is CANCELLING:
            return None
        assert row.node.task is not None
        policy = self.plan.tasks[row.node.task].retry
        delay = retry_delay(row, policy, why)
        if delay is not None:
            assert row.attempt - row.past <= policy.limit + INFRASTRUCTURE_RETRIES, (
                "retried for ever"
            )
        return delay

    def due(self, choice: int) -> None:
        row = self._pick(self.pausing, choice)
        unit = self._unit(row)
        number = self._number(row)
        self._post(row, RetryDue(number), lambda: self.model.due_again(unit, number))

    def open(self, choice: int) -> None:
        """A composite's body becomes known, or it turns out that there is none."""
        choice, which = divmod(choice, len(self.opens))
        row = self._pick(self.opens, which)
        if row.state is not READY:
            return
        unit = self._unit(row)
        choice, way = divmod(choice, 8)
        if not way and row.kind in {"map", "branch", "switch"}:
            event = NodeFailed(0, 0.0, row.key, 0, failure())
            self._post(row, event, lambda: self.model.ended(unit, 0, "failed"))
            return
        most = 1 if len(self.units) > MOST_UNITS else 6
        counts = {"map": choice % (most + 1), "repeat": 1}
        count = counts.get(row.kind)
        arm = ""
        if row.node.arms and row.item < 0:
            again = row.failure is not None
            arm = row.node.arms[again if row.kind == "rescue" else choice % len(row.node.arms)].name
        opened = ScopeOpened(0, 0.0, row.key, count, arm or None)
        self._post(row, opened, lambda: self.model.opened(unit, count or 0, arm))

    def decide(self, choice: int) -> None:
        """An iteration ended well: the next, or no more, or its limit is reached."""
        choice, which = divmod(choice, len(self.decides))
        row = self._pick(self.decides, which)
        unit = self._unit(row)
        assert row.body is not None
        choice, way = divmod(choice, 6)
        if way == 1:
            event = NodeFailed(0, 0.0, row.key, 0, failure())
            self._post(row, event, lambda: self.model.ended(unit, 0, "failed"))
        elif way > 3 and len(self.units) <= MOST_UNITS:
            count = row.body.total + 1
            opened = ScopeOpened(0, 0.0, row.key, count)
            self._post(row, opened, lambda: self.model.opened(unit, count, ""))
        else:
            self._post(row, Decided(), lambda: self.model.decide(unit))

    def grace_over(self) -> None:
        if self.model.on_error == "continue":
            # What failed has its consequences first; the model waits to be told of them.
            self.flush()
        self._post(None, GraceOver(), self.model.grace_over)

    def cancel(self) -> None:
        if self.model.on_error == "continue":
            # What failed has its consequences first; the model waits to be told of them.
            self.flush()
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
            return row.state is RUNNING and not unit.asks
        return row.attempt + (row.state in {READY, BACKING_OFF}) > 1

    def _old(self, row: Row, number: int, choice: int) -> Input:
        key = row.key
        if row.kind != "task":
            choices: tuple[Input, ...] = (
                ScopeOpened(0, 0.0, key, 2),
                NodeFailed(0, 0.0, key, 0, failure()),
                Decided(),
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
        elif self.decides:
            self.decide(len(self.decides) * 6)
        else:
            self.begin(3 * len(self.queue))
