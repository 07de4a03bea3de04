"""Deterministic simulation: the real scheduler and dispatcher in a world made of a seed.

Time is trio's mock clock, which jumps to the next deadline when nothing can run; trio's own order
of tasks is the seed's too. Drivers die and others go on with the run, until it has ended. The
same seed gives the same bytes in the run log.

    result = simulate(7, plan, Faults(crashes=2, store_hides=0.01))
    assert result.wrong == []

Rule of this room: it drives and judges; what goes wrong is in `simulation_world.py`.
"""

from __future__ import annotations

import random
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio
import trio.testing

from onready.engine.dispatcher.admission import Limits
from onready.engine.dispatcher.core import Dispatcher, RunOptions, Services
from onready.engine.dispatcher.journal import Journal
from onready.engine.dispatcher.lanes import Limit
from onready.engine.errors import OnreadyError, RunLeaseHeld
from onready.engine.events import (
    AnyEvent,
    RunCancelled,
    RunFailed,
    RunResumed,
    RunStarted,
    RunSucceeded,
)
from onready.engine.fold import History, fold
from onready.engine.history import check_history
from onready.engine.logs import LogStore
from onready.engine.plan.model import Plan
from onready.engine.spi import Catalog, Lease, RunLog
from onready.engine.testing.simulation_parts import SimulatedBackend, SimulatedRunLog
from onready.engine.testing.simulation_world import Faults, World
from onready.engine.values.stored import Stored

RUN: Final = "simulated"
BACKEND: Final = "simulated"
"""The name under which plans find the simulated backend."""

DRIVERS: Final = 60
"""Drivers after which a run that has not ended never will."""

PATIENCE: Final = 5_000.0
"""Seconds of virtual time in which a run has to end: days would be a clock that was believed."""

LEASE: Final = 30.0
GRACE: Final = 2.0

ENDS: Final = (RunSucceeded, RunFailed, RunCancelled)


@dataclass(slots=True)
class Simulated:
    """What came of it. `wrong` is empty where every rule and invariant held."""

    events: list[AnyEvent]
    written: bytes
    wrong: list[str]
    world: World
    drivers: int
    seconds: float
    """Virtual seconds from the first start to the end."""

    @property
    def end(self) -> AnyEvent | None:
        """The terminal event, if it was reached."""
        last = self.events[-1] if self.events else None
        return last if isinstance(last, ENDS) else None


@dataclass(slots=True)
class _Simulation:
    plan: Plan
    inputs: Mapping[str, Stored]
    world: World
    run_log: RunLog
    catalog: Catalog
    timeout: float | None
    log: SimulatedRunLog = field(init=False)
    backend: SimulatedBackend = field(init=False)
    drivers: int = 0

    def __post_init__(self) -> None:
        self.log = SimulatedRunLog(self.world, self.run_log)
        self.backend = SimulatedBackend(self.world, self.log)

    async def run(self) -> Simulated:
        """Driver after driver, until the run has ended."""
        history = None
        with trio.move_on_after(PATIENCE):
            while self.drivers < DRIVERS and (history is None or history.end is None):
                self.drivers += 1
                await self._drive()
                history = await self._history()
                await trio.sleep(self.world.luck("pause", self.drivers).uniform(0.0, 10.0))
        return await self._judged(trio.current_time())

    async def _events(self) -> list[AnyEvent]:
        return [event async for batch in self.log.read(RUN) for event in batch]

    async def _history(self) -> History | None:
        events = await self._events()
        return fold(events) if events else None

    async def _lease(self) -> Lease:
        while True:
            try:
                return await self.log.lease(RUN, f"driver {self.drivers}", LEASE)
            except RunLeaseHeld:
                await trio.sleep(LEASE / 10)

    async def _drive(self) -> None:
        lease = await self._lease()
        dispatcher = self._dispatcher(lease, await self._history())
        with trio.CancelScope() as scope:
            self.world.kill = scope.cancel
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._cancel, dispatcher)
                try:
                    await dispatcher.drive()
                except OnreadyError:
                    pass  # the store failed: the run is interrupted, and the next one goes on
                finally:
                    nursery.cancel_scope.cancel()
        self.world.kill = None
        self.world.live.clear()
        await self.log.release(lease)

    async def _cancel(self, dispatcher: Dispatcher) -> None:
        world = self.world
        luck = world.luck("cancel", self.drivers)
        if world.strikes(world.faults.cancelled, "cancelled"):
            await trio.sleep(luck.uniform(0.0, 8.0))
            dispatcher.cancel("the user has seen enough", luck.uniform(0.0, GRACE))

    def _dispatcher(self, lease: Lease, history: History | None) -> Dispatcher:
        world = self.world
        plan = self.plan
        started = RunStarted(
            0, world.wall(), plan.name, RUN, plan.fingerprint, {**self.inputs}, plan.on_error
        )
        resumed = None
        if history is not None:
            started = history.first
            resumed = RunResumed(0, world.wall(), lease.epoch, lease.owner)
        nowhere = Path("/nonexistent")
        draw = world.luck("jitter", self.drivers)
        dispatcher = Dispatcher(
            RUN,
            lease.epoch,
            plan,
            RunOptions(started, self.inputs, {}, self.timeout, GRACE, resumed, history),
            Services(
                self.catalog,
                LogStore(nowhere),
                nowhere,
                True,
                world.wall,
                world.monotonic,
                draw.random,
            ),
            Journal(
                self.log,
                RUN,
                lease.epoch,
                history.last if history is not None else 0,
                relaxed=self.backend.capabilities.adopt,
            ),
            {BACKEND: self.backend},
            Limits(parallel=[Limit("parallel", world.limit)], backends={}, pools={}, resources={}),
        )
        # A thread takes real time, in which the virtual clock would go on.
        dispatcher.reporters.remove_work = _nothing  # type: ignore[method-assign] # there are no files
        return dispatcher

    async def _judged(self, seconds: float) -> Simulated:
        events = await self._events()
        wrong = [*self.world.wrong, *map(str, check_history(events, self.plan))]
        wrong += [f"{name} began {n} times" for name, n in self.world.begun.items() if n > 1]
        result = Simulated(events, self.log.written, wrong, self.world, self.drivers, seconds)
        if result.end is None:
            wrong.append(f"the run has not ended after {seconds:.0f} s and {self.drivers} drivers")
        return result


async def _nothing() -> None:
    """There is nothing to remove."""


def simulate(
    seed: int,
    plan: Plan,
    faults: Faults,
    *,
    run_log: RunLog,
    catalog: Catalog,
    inputs: Mapping[str, Stored] | None = None,
    limit: int = 4,
    timeout: float | None = None,
) -> Simulated:
    """Run `plan` once in the world of `seed`, and judge what came of it.

    All tasks of the plan have to be on the backend `BACKEND`, their functions importable.
    `run_log` and `catalog` are stores in memory, new ones. `limit` is how many attempts may be
    live at once, `timeout` the run's own in virtual seconds. Call it outside of event loops.
    """
    world = World(seed, faults, limit)
    simulation = _Simulation(plan, inputs or {}, world, run_log, catalog, timeout)
    with _seeded_trio(seed):
        clock = trio.testing.MockClock(autojump_threshold=0)
        return trio.run(simulation.run, clock=clock)


@contextmanager
def _seeded_trio(seed: int) -> Generator[None]:
    """Trio shuffles the tasks that can run: here in an order that the seed decides."""
    from trio._core import _run as scheduler

    random_before = scheduler._r
    ordered_before = scheduler._ALLOW_DETERMINISTIC_SCHEDULING
    scheduler._r = random.Random(seed)  # noqa: S311 - a simulation's luck
    scheduler._ALLOW_DETERMINISTIC_SCHEDULING = True  # type: ignore[misc] # hypothesis does it too
    try:
        yield
    finally:
        scheduler._r = random_before
        scheduler._ALLOW_DETERMINISTIC_SCHEDULING = ordered_before  # type: ignore[misc] # as above
