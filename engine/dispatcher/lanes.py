"""Limits: who may start now, and who waits for what.

A lane is a queue of rows that share the same limits. A row starts when every limit of its lane has
room; a lane that is held up is tried again when one of its limits gives something back.

What may not live here: how an attempt runs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from functools import partial

from onready.engine.dispatcher.loop import Handle
from onready.engine.dispatcher.report import AttemptReporter
from onready.engine.dispatcher.tasks import LiveTask
from onready.engine.scheduler.state import Row
from onready.engine.spi import Attempt


class Limit:
    """So much of something at once, engine-wide, per run or per map. `capacity` is at least 1.

    Amounts are numbers of attempts, or cores, or bytes: whatever `capacity` counts.
    """

    __slots__ = ("_waiting", "capacity", "name", "used")

    def __init__(self, name: str, capacity: float) -> None:
        self.name = name
        self.capacity = capacity
        self.used = 0.0
        # In order of arrival, each once: who comes first is asked first.
        self._waiting: dict[Callable[[], None], None] = {}

    def has_room(self, amount: float) -> bool:
        """Whether `amount` more fits now."""
        return self.used + amount <= self.capacity

    def wait(self, wake: Callable[[], None]) -> None:
        """Call `wake` once, when something is given back."""
        self._waiting[wake] = None

    def give_back(self, amount: float) -> None:
        """Free `amount` and wake whoever waits."""
        self.used -= amount
        if self._waiting:
            waiting, self._waiting = self._waiting, {}
            for wake in waiting:
                wake()


Demand = tuple[Limit, float]


class Lane:
    """Rows of one task (of one map, where the map has a limit) that are ready to start.

    `demands` are what each attempt takes; `window` bounds how many rows are planned ahead.
    """

    __slots__ = ("ahead", "backlog", "demands", "queue", "stalled", "submit", "task", "wake")

    def __init__(
        self,
        task: LiveTask,
        demands: Sequence[Demand],
        submit: Callable[[Ticket], None],
        wake: Callable[[Lane], None],
    ) -> None:
        self.task = task
        # One object for good: limits know by it that this lane waits already.
        self.wake = partial(wake, self)
        self.stalled = False
        self.demands = tuple(demands)
        self.submit = submit
        self.backlog: deque[Row] = deque()
        self.queue: deque[Ticket] = deque()
        self.ahead = 0

    def impossible(self) -> Limit | None:
        """The limit that this lane's rows can never meet, if there is one."""
        for limit, amount in self.demands:
            if amount > limit.capacity:
                return limit
        return None

    def take(self) -> bool:
        """Take one attempt's share of every limit, or of none: then `wake` is called later."""
        for limit, amount in self.demands:
            if not limit.has_room(amount):
                limit.wait(self.wake)
                return False
        for limit, amount in self.demands:
            limit.used += amount
        return True

    def take_anyway(self) -> None:
        """Take the share of an attempt that runs already, room or not: others wait for it."""
        for limit, amount in self.demands:
            limit.used += amount

    def give_back(self) -> None:
        """One attempt ended."""
        for limit, amount in self.demands:
            limit.give_back(amount)


class Ticket:
    """One attempt on its way through a lane.

    `holds`: it has its share of the lane's limits. `done`: its outcome is known, what comes later
    is dropped. `stop` stops it while it runs. `cause` says why it was stopped. `name` is its
    dispatch name, where it has one, `attempt` what its backend was given. `recovers`: it was begun
    under an earlier driver.
    """

    __slots__ = (
        "attempt",
        "cause",
        "done",
        "handle",
        "holds",
        "lane",
        "name",
        "number",
        "recovers",
        "reporter",
        "row",
        "started",
        "stop",
        "timer",
    )

    def __init__(self, row: Row, lane: Lane, number: int) -> None:
        self.row = row
        self.lane = lane
        self.number = number
        self.name = ""
        self.holds = False
        self.done = False
        self.started = False
        self.recovers = False
        self.cause = ""
        self.attempt: Attempt | None = None
        self.handle: Handle | None = None
        self.reporter: AttemptReporter | None = None
        self.stop: Callable[[], object] | None = None
        self.timer: Callable[[], object] | None = None

    def release(self) -> None:
        """Give the share back, once."""
        if self.holds:
            self.holds = False
            self.lane.give_back()
