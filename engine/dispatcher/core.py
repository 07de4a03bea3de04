"""One run: the inbox, the turn, the commands.

Facts are put into `inbox`; `turn` numbers and queues them for the log, hands them to the scheduler
and performs the commands that come back. A turn never waits. Whoever puts a fact into the inbox
sees to it that a turn follows: by making one, or with `tick_soon`.

A node becomes ready in `scheduler/core.py`, is dispatched in `admission.py`, and its success
becomes durable in `journal.py`.

What may not live here: concrete backends and stores, readiness, limits, values.
"""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import anyio

from onready.engine.context import NodeContext
from onready.engine.dispatcher.admission import Admission, Limits
from onready.engine.dispatcher.cached import Cached, Flights
from onready.engine.dispatcher.caution import caution_of
from onready.engine.dispatcher.composites import Composites
from onready.engine.dispatcher.flow import Flow
from onready.engine.dispatcher.journal import Journal
from onready.engine.dispatcher.loop import Handle, Loop, open_loop
from onready.engine.dispatcher.outcomes import Outcomes
from onready.engine.dispatcher.replay import Replay
from onready.engine.dispatcher.report import Reporters
from onready.engine.dispatcher.tasks import LiveTask, live_tasks
from onready.engine.errors import Failure, StaleEpoch, StoreError
from onready.engine.events import (
    AnyEvent,
    NodeCancelled,
    NodeSkipped,
    RunCancelled,
    RunCancelling,
    RunFailed,
    RunResumed,
    RunStarted,
    RunStatus,
    RunSucceeded,
    ScopeClosed,
)
from onready.engine.fold import History
from onready.engine.logs import LogStore
from onready.engine.names import NodeKey
from onready.engine.plan.model import Plan
from onready.engine.scheduler.commands import (
    Cancel,
    Close,
    Command,
    Decide,
    Decided,
    Drop,
    End,
    Fact,
    GraceOver,
    Open,
    RetryDue,
    Skip,
    Start,
    Submitted,
)
from onready.engine.scheduler.core import Scheduler
from onready.engine.scheduler.finding import forget
from onready.engine.scheduler.state import Row
from onready.engine.spi import Backend, BulkBackend, Catalog, Secrets
from onready.engine.values.stored import Live, Stored

GIVE_UP: Final = 5.0
"""Seconds after the grace for a backend that keeps no deadline of its own."""

CLEANING: Final = 5.0
"""Seconds for removing what a run left in its scratch folders."""

UNRECORDED: Final = frozenset({RetryDue, Submitted, Decided, GraceOver})
"""Inputs of the scheduler that are no history."""


@dataclass(slots=True, eq=False)
class Services:
    """What the runs of one engine share. `now` is UTC seconds, `monotonic` never jumps."""

    catalog: Catalog
    logs: LogStore
    folder: Path
    durable: bool
    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    draw: Callable[[], float] = random.random
    secrets: Secrets | None = None
    flights: Flights = field(default_factory=Flights)


@dataclass(slots=True, eq=False)
class RunOptions:
    """One run: its first event, its inputs and live objects, its limits in seconds."""

    started: RunStarted
    inputs: Mapping[str, Stored]
    provided: Mapping[str, object] = field(default_factory=dict)
    timeout: float | None = None
    grace: float = 10.0
    resumed: RunResumed | None = None
    """First event of a driver that goes on with a run, and `history` what it goes on with."""
    history: History | None = None


class HeldLease(Protocol):
    """The lease that a run is driven under."""

    @property
    def sure(self) -> bool:
        """Whether nobody else can have the run by now; it costs a look at the clock."""
        ...

    async def confirm(self) -> bool:
        """Ask the run log; where it is another's, this driver is fenced by then."""
        ...


class Dispatcher:
    """Performs one run. `drive` once; everything else is called on the loop's thread."""

    def __init__(
        self,
        run: str,
        epoch: int,
        plan: Plan,
        options: RunOptions,
        services: Services,
        journal: Journal,
        backends: Mapping[str, Backend | BulkBackend],
        limits: Limits,
    ) -> None:
        self.run = run
        self.epoch = epoch
        self.plan = plan
        self.services = services
        self.options = options
        self.journal = journal
        self.durable = services.durable
        self.now = services.now
        self.monotonic = services.monotonic
        self.draw = services.draw
        self.grace = options.grace
        self.inbox: list[Fact] = []
        # Until `drive` begins there is no loop to tick in: what comes meanwhile waits in the inbox.
        self.ticking = True
        self.closing = False
        self.result: Stored = None
        self.status: RunStatus = "running"
        self.failures: list[Failure] = []
        self.tasks: list[LiveTask] = live_tasks(plan)
        self.scheduler = Scheduler(plan, options.started.on_error)
        self.scheduler.root.values = dict(options.inputs)
        self.flow = Flow(
            plan,
            self.tasks,
            options.provided,
            services.catalog,
            durable=services.durable,
            secrets=services.secrets,
        )
        self.outcomes = Outcomes(self)
        self.reporters = Reporters(self, services.logs, services.folder / "work" / run)
        self.composites = Composites(self)
        used = options.started.cache and any(spec.cache for spec in plan.tasks)
        self.cached = Cached(self, services.flights) if used else None
        self.admission = Admission(self, backends, limits, plan)
        self.caution = caution_of(self)
        self.lease: HeldLease | None = None
        self.loop: Loop
        self._thread = threading.get_ident()
        # By the rows' `id`, in the order of asking: a set's order would be another in each process.
        self._stop_rows: dict[int, None] = {}
        self._end: End | None = None
        self._ended = anyio.Event()
        self._fault: BaseException | None = None
        self.reason = ""
        self._timed_out = ""
        self._forcing = False
        self._cancel_asked = False
        self._purged = 0

    # --- the turn -----------------------------------------------------------------------------

    def turn(self) -> None:
        """Take everything in the inbox to the log and to the scheduler, and do what it says."""
        if self.closing:
            return
        admission = self.admission
        if admission.stalled:
            admission.pump_stalled()
        handle = self.scheduler.handle
        extend = self.journal.extend
        busy = self.scheduler.busy
        while self.inbox or busy:
            facts = self.inbox
            if facts:
                # A new list, and not a cleared one: facts that the commands below lead to come
                # after these.
                self.inbox = []
                extend([event for _, event in facts if type(event) not in UNRECORDED])  # type: ignore[misc] # as looked up
            commands = handle(facts)
            self._perform(commands)
            if self.cached is not None:
                self.cached.see(facts, commands)
            if self.scheduler.busy:
                # More rows are to be opened or swept: in the next tick, others come first.
                self.tick_soon()
            busy = False
        if self.scheduler.stopping:
            self._halt()
        admission.launch_planned()

    def _halt(self) -> None:
        """In some scope nothing new starts: stop what is to be stopped, and what is queued."""
        if self._stop_rows:
            self._stop_attempts()
        if self._cancel_asked:
            self._cancel_asked = False
            self._force_later()
        if self._purged != self.scheduler.stops:
            # Sweeping a wide scope takes several turns: none of its rows starts meanwhile.
            self._purged = self.scheduler.stops
            self.admission.inline.purge()

    def tick(self) -> None:
        """A turn, and a worker for what it made ready while the others wait in their nodes."""
        self.ticking = False
        try:
            self.turn_and_wake()
        except Exception as error:  # noqa: BLE001 - a loop only logs what its callbacks raise
            self.crash(error)

    def tick_soon(self) -> None:
        """Have a tick follow once the loop gets round to it."""
        if not self.ticking and not self.closing:
            self.ticking = True
            self.loop.soon(self.tick)

    def later(self, delay: float, action: Callable[[], None]) -> Handle:
        """Call `action` in `delay` seconds; where it raises, the run ends."""
        return self.loop.later(delay, partial(self._guarded, action))

    def soon_threadsafe(self, action: Callable[[], None]) -> None:
        """As `later`, at once, from any thread. No effect once the loop is closed."""
        with contextlib.suppress(RuntimeError):
            self.loop.soon_threadsafe(partial(self._guarded, action))

    def _guarded(self, action: Callable[[], None]) -> None:
        if self.closing:
            return
        try:
            action()
        except Exception as error:  # noqa: BLE001 - a loop only logs what its callbacks raise
            self.crash(error)

    def post(self, fact: Fact) -> None:
        """Put a fact into the inbox, from any thread."""
        self.on_loop(partial(self._accept, fact))

    def on_loop(self, action: Callable[[], None]) -> None:
        """Call `action` on the loop's thread: now where that is this one, else soon."""
        if threading.get_ident() == self._thread:
            action()
        else:
            self.soon_threadsafe(action)

    def _accept(self, fact: Fact) -> None:
        self.inbox.append(fact)
        self.tick_soon()

    def find(self, key: NodeKey) -> Row | None:
        """The row with that key, while its scope is open."""
        return self.scheduler.find(key)

    def start_task(self, body: Callable[[], Coroutine[object, object, None]]) -> None:
        """Run a coroutine of ours beside the nodes."""
        if not self.closing:  # pragma: no branch - it ended between a crash and the run's end
            self.loop.spawn(body)

    def node_context(self, key: NodeKey, attempt: int) -> NodeContext:
        """The context of a live attempt, made when somebody looks (see `context.current`)."""
        return self.reporters.context(key, attempt)

    # --- commands -----------------------------------------------------------------------------

    def _perform(self, commands: list[Command]) -> None:
        record: list[AnyEvent] = []
        now = self.now()
        for command in commands:
            if isinstance(command, Start):
                self.admission.admit(command.rows)
            elif isinstance(command, Open):
                self.composites.open(command.row)
            elif isinstance(command, Decide):
                self.composites.decide(command.row)
            elif isinstance(command, Close):
                row = command.row
                record.append(ScopeClosed(0, now, row.key, command.status))
                self.composites.close(row, command.status)
            elif isinstance(command, Skip):
                record.append(NodeSkipped(0, now, command.row.key, reason=command.reason))
            elif isinstance(command, Drop):
                row = command.row
                record.append(NodeCancelled(0, now, row.key, row.attempt, command.reason))
            elif isinstance(command, Cancel):
                self._stop_rows[id(command.row)] = None
            else:
                self._end = command
                self._ended.set()
        if record:
            self.journal.extend(record)

    def turn_and_wake(self) -> None:
        """A turn made outside of a worker: somebody must work on what it made ready."""
        self.turn()
        if self.admission.inline.queue and not self.closing:
            self.admission.inline.wake()

    # --- stopping -----------------------------------------------------------------------------

    def cancel(self, reason: str, grace: float) -> None:
        """Start nothing new and stop what runs: `grace` seconds to end well, then by force.

        A second call can only make it shorter.
        """
        if self._end is None and self.reason:
            if grace < self.grace:
                self.grace = grace
                for feed in self.admission.remote.values():
                    feed.hurry()
                if self._forcing:
                    self.later(grace, self._force)
        elif self._end is None:
            self.grace = grace
            self.reason = reason or "cancelled"
            self.inbox.append((None, RunCancelling(0, self.now(), reason, grace)))
            self._cancel_asked = True
            self.tick_soon()

    def cancelled_before(self, reason: str, grace: float) -> None:
        """In a replay: cancellation was asked of an earlier driver."""
        self.reason = reason or "cancelled"
        self.grace = grace
        self._cancel_asked = True

    def ended_before(self, end: End) -> None:
        """In a replay: everything had ended, and only that was not recorded."""
        self._end = end
        self._ended.set()

    def _run_timed_out(self) -> None:
        self._timed_out = f"the run took longer than {self.options.timeout:g} s"
        self.cancel(self._timed_out, self.grace)

    def _stop_attempts(self) -> None:
        rows, self._stop_rows = self._stop_rows, {}
        cause = self.reason or "another node failed"
        admission = self.admission
        admission.inline.cancel(rows, cause)
        for feed in admission.remote.values():
            feed.stop(rows, cause)
        for bulk in admission.bulk.values():
            bulk.withdraw(rows, cause)
        if self.inbox:
            self.tick_soon()
        self._force_later()

    def _force_later(self) -> None:
        if not self._forcing:
            self._forcing = True
            self.later(self.grace, self._force)

    def _force(self) -> None:
        """The grace is over: clean-up nodes end too, coroutines are asked again."""
        if self._end is not None:  # pragma: no cover - its end is being recorded
            return
        self.inbox.append((None, GraceOver()))
        self.turn()
        self._forcing = False
        admission = self.admission
        for bulk in admission.bulk.values():
            bulk.abandon_cancelled()
        admission.inline.cancel_again()
        self.later(GIVE_UP, self._give_up)
        self.turn_and_wake()

    def _give_up(self) -> None:
        if self._end is not None:  # pragma: no cover - its end is being recorded
            return
        self.admission.inline.give_up()
        for feed in self.admission.remote.values():
            feed.give_up()
        self.turn_and_wake()

    # --- the run's life -----------------------------------------------------------------------

    async def drive(self) -> None:
        """The whole run. Returns when its end is durable; raises what kept it from ending.

        Where the caller is cancelled, the run is cancelled, given its grace, and the
        cancellation goes on.
        """
        async with open_loop(self.crash) as loop:
            self.loop = loop
            self.ticking = False
            try:
                loop.spawn(self._record)
                self.journal.extend([self.options.resumed or self.options.started])
                if self.options.timeout is not None:
                    self.later(self.options.timeout, self._run_timed_out)
                if self.options.history is None:
                    self._perform(self.scheduler.begin())
                else:
                    # No turns meanwhile: what is asked of us waits in the inbox.
                    self.ticking = True
                    await Replay(self, self.options.history).run()
                    self.ticking = False
                self.turn_and_wake()
                await self._until_end()
                await self._conclude()
            except BaseException as error:
                self.journal.close(error)
                raise
            finally:
                self.closing = True
                self.outcomes.close()
                self.reporters.close_all()
                # Also where that is not known: what is left running is found by who resumes it.
                fenced = isinstance(self._fault, StaleEpoch) or not self.sure
                if self._end is None:
                    with anyio.move_on_after(self.grace + GIVE_UP, shield=True):
                        await self.admission.leave(fenced=fenced)
                self.admission.close()
                if self.cached is not None:
                    self.cached.close()
                forget(self.scheduler.root)
                with anyio.move_on_after(CLEANING, shield=True):
                    # The run's work folder is the other driver's by now.
                    if (self.flow.brought or self.reporters.used) and not fenced:
                        await self.reporters.remove_work()

    async def _record(self) -> None:
        try:
            await self.journal.write(self.loop)
        except anyio.get_cancelled_exc_class():
            # Not by us, while the run goes on: asyncio closes the host's loop, and has cancelled
            # every task at once. No end can be recorded any more.
            if not self.closing and not self.journal.ended:
                self.crash(StoreError("the host's loop was closed before the run's end"))
            raise

    async def _until_end(self) -> None:
        try:
            await self._ended.wait()
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(self.grace + 6.0, shield=True):
                self.cancel("the host was cancelled", self.grace)
                await self._ended.wait()
                await self._conclude()
            raise
        if self._fault is not None:
            raise self._fault

    async def _conclude(self) -> None:
        end = self._end
        if end is None:
            return
        if self.cached is not None:
            await self.cached.finish(hasty=bool(self.reason))
        self.failures = [row.failure for row in end.failed if row.failure is not None]
        now = self.now()
        event: AnyEvent
        if end.status == "succeeded":
            self.result = await self.flow.final(
                self.scheduler.root, self.services.folder / "work" / self.run
            )
            value = None if self.durable and isinstance(self.result, Live) else self.result
            event = RunSucceeded(0, now, value)
            self.status = "succeeded"
        elif self._timed_out:
            event = RunFailed(0, now, (), self._timed_out)
            self.failures.append(Failure("timeout", self._timed_out))
            self.status = "failed"
        elif end.status == "failed":
            event = RunFailed(0, now, tuple(row.key for row in end.failed))
            self.status = "failed"
        else:
            event = RunCancelled(0, now, self.reason)
            self.status = "cancelled"
        # What the last attempts had to say comes before the end; nothing comes after it.
        self.turn()
        self.closing = True
        self.journal.extend([event])
        await self.journal.flushed()

    def when_sure(self, action: Callable[[], object]) -> None:
        """Call `action`, which would harm another driver's run, once it is certain that it is ours.

        A driver whose process was stopped for long wakes up with timers that are due: it must not
        stop what another has adopted meanwhile.
        """
        if self.lease is None or self.lease.sure:
            action()
        else:
            self.loop.spawn(partial(self._confirm, self.lease, action))

    @property
    def sure(self) -> bool:
        """Whether nobody else can drive this run by now."""
        return self.lease is None or self.lease.sure

    async def _confirm(self, lease: HeldLease, action: Callable[[], object]) -> None:
        if await lease.confirm():
            action()

    def fence(self, error: StaleEpoch) -> None:
        """Another driver has the run: act no more, and let go of what that one may go on with."""
        if self._end is None and not self.closing:
            self.crash(error)

    def crash(self, error: BaseException) -> None:
        """A coroutine of ours raised: the run cannot go on, whatever it was."""
        if self._fault is None:  # pragma: no branch - two crash in one round of the loop
            self._fault = error
        self.status = "interrupted"
        self.closing = True
        self._ended.set()
