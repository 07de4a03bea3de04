"""From ready rows to live attempts: which executor, which lane, in what order.

What may not live here: how attempts run, what limits are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

from onready.engine.dispatcher.bulk import BulkFeed
from onready.engine.dispatcher.inline import InlinePool
from onready.engine.dispatcher.lanes import Demand, Lane, Limit, Ticket
from onready.engine.dispatcher.remote import RemoteFeed
from onready.engine.dispatcher.tasks import LiveTask
from onready.engine.errors import Failure
from onready.engine.plan.model import Fragment, FromProvided, Plan
from onready.engine.scheduler.rules import may_start
from onready.engine.scheduler.state import CANCELLING, READY, Row
from onready.engine.spi import Backend, BulkBackend

if TYPE_CHECKING:
    from onready.engine.dispatcher.core import Dispatcher

INLINE = "inline"


class Limits:
    """The limits that all runs of an engine share, and those of one run."""

    def __init__(
        self,
        *,
        parallel: Sequence[Limit],
        backends: Mapping[str, Limit],
        pools: Mapping[str, Limit],
        resources: Mapping[str, Limit],
    ) -> None:
        self.parallel = parallel
        self.backends = backends
        self.pools = pools
        self.resources = resources

    def of(self, task: LiveTask) -> list[Demand]:
        """What one attempt of `task` takes."""
        spec = task.spec
        demands: list[Demand] = [(limit, 1) for limit in self.parallel]
        if spec.backend in self.backends:
            demands.append((self.backends[spec.backend], 1))
        if spec.pool:
            demands.append((self.pools[spec.pool], 1))
        amounts = {
            "cpu": spec.resources.cpu,
            "memory": float(spec.resources.memory_bytes),
            "gpu": float(spec.resources.gpu),
        }
        demands += [
            (self.resources[name], amount)
            for name, amount in amounts.items()
            if amount and name in self.resources
        ]
        return demands


class Admission:
    """Queues of one run."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        backends: Mapping[str, Backend | BulkBackend],
        limits: Limits,
        plan: Plan,
    ) -> None:
        self._dispatcher = dispatcher
        self._limits = limits
        self.inline = InlinePool(dispatcher)
        self.bulk: dict[str, BulkFeed] = {}
        self.remote: dict[str, RemoteFeed] = {}
        for name, backend in backends.items():
            if isinstance(backend, BulkBackend):
                self.bulk[name] = BulkFeed(dispatcher, backend)
            else:
                self.remote[name] = RemoteFeed(dispatcher, name, backend)
        self._lanes: dict[tuple[int, int], Lane] = {}
        self._planned: list[tuple[Lane, list[Ticket]]] = []
        self.stalled: deque[Lane] = deque()
        limited = _mark_fast(plan, dispatcher.tasks, limits)
        self._all_fast = not limited and all(task.fast for task in dispatcher.tasks)
        self._relaxed = self._all_fast

    def be_careful(self) -> None:
        """Every attempt goes through a lane: none begins unlooked at (see `caution.py`)."""
        self._all_fast = False
        for feed in self.bulk.values():
            feed.be_careful()

    def relax(self) -> None:
        """The opposite again."""
        self._all_fast = self._relaxed
        for feed in self.bulk.values():
            feed.relax()

    def admit(self, rows: Sequence[Row]) -> None:
        """These rows are ready: queue them, start what the limits allow."""
        queue = self.inline.queue
        if self._all_fast:
            queue.extend(rows)
            return
        tasks = self._dispatcher.tasks
        cached = self._dispatcher.cached
        touched: dict[int, Lane] = {}
        for row in rows:
            task = tasks[row.node.task]  # type: ignore[index] # a task row has a task
            if task.fast and not row.node.limit:
                queue.append(row)
            elif task.spec.cache and cached is not None and cached.takes(row):
                continue
            else:
                lane = self._lane(row, task)
                lane.backlog.append(row)
                touched[id(lane)] = lane
        for lane in touched.values():
            self.pump(lane)
        for feed in self.bulk.values():
            feed.flush()

    def enter(self, row: Row) -> None:
        """Queue a row of a cached task whose value is not in the cache."""
        lane = self._lane(row, self._dispatcher.tasks[row.node.task])  # type: ignore[index] # as above
        lane.backlog.append(row)
        self._wake(lane)

    def _lane(self, row: Row, task: LiveTask) -> Lane:
        # A map with a limit of its own has a lane of its own, for as long as it is open.
        limit = row.node.limit if row.item >= 0 else 0
        key = (task.position, id(row.scope) if limit else 0)
        lane = self._lanes.get(key)
        if lane is None:
            demands = self._limits.of(task)
            if limit:
                demands.append((Limit(f"map {row.node.name}", limit), 1))
            backend = task.spec.backend
            feed = self.inline if backend == INLINE else self.bulk.get(backend)
            submit = feed.submit if feed is not None else self.remote[backend].submit
            lane = self._lanes[key] = Lane(task, demands, submit, self._wake)
        return lane

    def recover(self, row: Row, name: str) -> None:
        """Go on with an attempt that an earlier driver had planned under the dispatch name."""
        task = self._dispatcher.tasks[row.node.task]  # type: ignore[index] # a task row has a task
        feed = self.remote.get(task.spec.backend)
        if feed is None:
            self._dispatcher.outcomes.driver_lost(row, row.attempt)
            return
        cause = self._dispatcher.reason or "its scope was stopped"
        feed.recover(row, self._lane(row, task), name, cause if row.state is CANCELLING else "")

    def forget_map(self, row: Row) -> None:
        """The map `row` is closed: so is its lane."""
        if row.node.limit and row.node.task is not None:
            self._lanes.pop((row.node.task, id(row.body)), None)

    def pump(self, lane: Lane) -> None:
        """Start what the lane's limits allow."""
        too_much = lane.impossible()
        if too_much is not None:
            self._refuse(lane, too_much)
            return
        feed = self.remote.get(lane.task.spec.backend)
        if feed is not None:
            self._launch(lane, ())
            planned = feed.plan(lane)
            if planned:
                self._planned.append((lane, planned))
            return
        backlog = lane.backlog
        while backlog:
            row = backlog[0]
            if row.state is not READY or not may_start(row):
                backlog.popleft()
            elif lane.take():
                backlog.popleft()
                ticket = Ticket(row, lane, row.attempt + 1)
                ticket.holds = True
                lane.submit(ticket)
            else:
                return

    def _refuse(self, lane: Lane, limit: Limit) -> None:
        message = f"needs more {limit.name} than there is ({limit.capacity:g})"
        for row in lane.backlog:
            if row.state is READY:  # pragma: no branch - only in a scope that is stopped
                failure = Failure("unschedulable", message)
                self._dispatcher.outcomes.failed(row, 0, failure)
        lane.backlog.clear()

    def launch_planned(self) -> None:
        """What was planned in this turn is in the journal: launch it once that is durable."""
        if not self._planned:
            return
        planned, self._planned = self._planned, []
        dispatcher = self._dispatcher
        careful = dispatcher.caution is not None
        for lane, tickets in planned:
            launch = partial(self._launch_soon, lane, tickets)
            barrier = careful or self.remote[lane.task.spec.backend].barrier
            if barrier and dispatcher.durable:
                dispatcher.journal.when_durable(launch)
            else:
                launch()

    def _launch_soon(self, lane: Lane, tickets: Sequence[Ticket]) -> None:
        lane.queue.extend(tickets)
        self._wake(lane)

    def _launch(self, lane: Lane, tickets: Sequence[Ticket]) -> None:
        lane.queue.extend(tickets)
        queue = lane.queue
        while queue:
            ticket = queue[0]
            if ticket.done or not may_start(ticket.row):
                # Its feed knows it, and ends it when the scheduler comes to it.
                queue.popleft()
            elif lane.take():
                queue.popleft()
                ticket.holds = True
                lane.submit(ticket)
            else:
                return

    def _wake(self, lane: Lane) -> None:
        if not lane.stalled:
            lane.stalled = True
            self.stalled.append(lane)
            self._dispatcher.tick_soon()

    async def leave(self, *, fenced: bool) -> None:
        """The run cannot go on: wait until its attempts elsewhere are stopped.

        `fenced`: another driver has the run, and goes on with attempts that outlive theirs.
        """
        for feed in self.remote.values():
            feed.stop_all(fenced=fenced)
        for feed in self.remote.values():
            await feed.left()

    def close(self) -> None:
        """The run is over: what its attempts held goes back to other runs."""
        self.inline.close()
        for bulk in self.bulk.values():
            bulk.close()
        for feed in self.remote.values():
            feed.close()

    def pump_stalled(self) -> None:
        """Try the lanes again whose limits had something given back."""
        for _ in range(len(self.stalled)):
            lane = self.stalled.popleft()
            lane.stalled = False
            self.pump(lane)
        for feed in self.bulk.values():
            feed.flush()


def _mark_fast(plan: Plan, tasks: Sequence[LiveTask], limits: Limits) -> bool:
    """Find the tasks whose attempts are nothing but a coroutine call; whether maps have limits."""
    careful: set[int] = set()
    limited = False
    todo: list[Fragment] = [plan.root]
    while todo:
        for node in todo.pop().nodes:
            limited = limited or bool(node.limit)
            if node.body is not None:
                todo.append(node.body)
            if node.task is not None and any(type(arg.value) is FromProvided for arg in node.args):
                careful.add(node.task)
    for task in tasks:
        spec = task.spec
        task.careful_inputs = task.position in careful
        task.fast = (
            spec.backend == INLINE
            and spec.is_async
            and spec.timeout is None
            and spec.node_timeout is None
            and not spec.cache
            and not task.careful_inputs
            and not limits.of(task)
        )
    return limited
