"""A run log and a backend in the simulated world: right in what they do, unlucky in how.

Rule of this room: no decision of its own; luck and time are the world's.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import anyio

from onready.engine.errors import BackendError, Failure, StoreError
from onready.engine.events import AnyEvent, NodeCached, NodeSucceeded
from onready.engine.names import NodeKey
from onready.engine.spi import (
    Attempt,
    Call,
    Capabilities,
    Failed,
    Labels,
    Lease,
    Lost,
    Outcome,
    Reporter,
    RunFilter,
    RunLog,
    RunRecord,
)
from onready.engine.testing.simulation_world import Work, World
from onready.engine.wire import decode_events, encode_events
from onready.engine.worker.calling import run_call
from onready.engine.worker.speaking import WorkerSource

SUBMITS = 5
"""How often a submission is tried before the platform counts as away."""


class SimulatedRunLog:
    """A durable run log over one in memory. It keeps what it would have written: bytes."""

    durable: bool = True

    def __init__(self, world: World, inner: RunLog) -> None:
        self._world = world
        self._inner = inner
        self.written = b""
        self.committed: set[NodeKey] = set()
        """Nodes whose success is durable."""

    async def append(self, run: str, epoch: int, events: Sequence[AnyEvent]) -> None:
        """See `RunLog`; a driver that died writes nothing any more."""
        world = self._world
        faults = world.faults
        await world.step(epoch)
        if world.strikes(faults.store_waits, "store waits"):
            await anyio.sleep(world.luck("wait", len(self.written)).uniform(0.0, 1.0))
            await world.step(epoch)
        if world.strikes(faults.store_refuses, "store refuses"):
            message = "the disk is full"
            raise StoreError(message)
        content = encode_events(events)
        await self._inner.append(run, epoch, decode_events(content))
        self.written += content
        good = [event for event in events if isinstance(event, NodeSucceeded | NodeCached)]
        self.committed.update(event.node for event in good)
        await world.step(epoch)
        if world.strikes(faults.store_hides, "store hides"):
            message = "no answer"
            raise StoreError(message)

    def read(self, run: str, after: int = 0) -> AsyncIterator[Sequence[AnyEvent]]:
        """See `RunLog`."""
        return self._inner.read(run, after)

    async def runs(self, query: RunFilter) -> Sequence[RunRecord]:
        """See `RunLog`."""
        return await self._inner.runs(query)

    async def lease(self, run: str, owner: str, duration: float, dead: str = "") -> Lease:
        """See `RunLog`."""
        return await self._inner.lease(run, owner, duration, dead)

    async def renew(self, lease: Lease) -> None:
        """See `RunLog`."""
        await self._inner.renew(lease)

    async def release(self, lease: Lease) -> None:
        """See `RunLog`; a driver that died gives nothing back."""
        if not self._world.is_dead(lease.epoch):
            await self._inner.release(lease)


class SimulatedBackend:
    """A backend whose attempts outlive their driver. They call their function when they begin."""

    def __init__(self, world: World, log: SimulatedRunLog) -> None:
        self.capabilities: Capabilities = Capabilities(adopt=True, logs=True)
        self._world = world
        self._log = log

    async def execute(self, attempt: Attempt, report: Reporter) -> Outcome:
        """See `Backend`."""
        world = self._world
        world.live.add(attempt.name)
        if len(world.live) > world.limit:
            world.wrong.append(f"{len(world.live)} attempts are live, the limit is {world.limit}")
        try:
            work = await self._submit(attempt)
            await self._tell(report, attempt.name)
            if world.strikes(world.faults.backend_gives_up, "backend gives up", attempt.name):
                work.stopped = True
                message = "the platform is away"
                raise BackendError(message, retryable=True)
            return await self._watch(work, attempt, report)
        finally:
            world.live.discard(attempt.name)

    async def recover(self, attempt: Attempt, report: Reporter) -> Outcome | None:
        """See `Backend`."""
        world = self._world
        await world.step(attempt.epoch)
        work = world.works.get(attempt.name)
        if work is None or work.stopped:
            return None
        world.live.add(attempt.name)
        try:
            await self._tell(report, attempt.name)
            return await self._watch(work, attempt, report)
        finally:
            world.live.discard(attempt.name)

    async def sweep(self, keep: Callable[[Labels], bool]) -> int:
        """See `Backend`."""
        now = self._world.monotonic()
        works = self._world.works.values()
        left = [work for work in works if not work.stopped and work.ends > now]
        unwanted = [work for work in left if not keep(work.labels)]
        for work in unwanted:
            work.stopped = True
        return len(unwanted)

    # --- one attempt --------------------------------------------------------------------------

    async def _submit(self, attempt: Attempt) -> Work:
        """As a backend has to: again under the same name, until the platform has it or says no."""
        world = self._world
        faults = world.faults
        for _ in range(SUBMITS):
            await world.step(attempt.epoch)
            if world.strikes(faults.submit_fails, "submit fails", attempt.name):
                continue
            if attempt.name not in world.works:
                world.works[attempt.name] = self._begin(attempt)
            await world.step(attempt.epoch)
            if world.strikes(faults.submit_hides, "submit hides", attempt.name):
                await anyio.sleep(0.1)
                continue
            return world.works[attempt.name]
        started = world.works.get(attempt.name)
        if started is not None:
            started.stopped = True
        message = "the platform does not take it"
        raise BackendError(message, retryable=True)

    def _begin(self, attempt: Attempt) -> Work:
        world = self._world
        world.begun[attempt.name] += 1
        if attempt.key in self._log.committed:
            world.wrong.append(f"{attempt.key} begins again though its success is durable")
        luck = world.luck("work", attempt.name)
        duration = luck.expovariate(1.0)
        if world.strikes(world.faults.slow, "slow", attempt.name):
            duration += 100.0
        labels = Labels(attempt.run, str(attempt.key), attempt.number, attempt.epoch)
        return Work(labels, world.monotonic() + duration, self._outcome(attempt))

    def _outcome(self, attempt: Attempt) -> Outcome:
        world = self._world
        faults = world.faults
        if world.strikes(faults.evicted, "evicted", attempt.name):
            return Failed(_failure("evicted", attempt))
        if world.strikes(faults.lost, "lost", attempt.name):
            return Lost(_failure("lost", attempt))
        if world.strikes(faults.failed, "failed", attempt.name):
            return Failed(_failure("error", attempt))
        assert isinstance(attempt.work, Call)
        source = WorkerSource(attempt.run, Path(attempt.folder), lambda *_: None)
        return run_call(attempt.work, attempt.inputs, source, attempt.key, attempt.number)

    async def _tell(self, report: Reporter, name: str) -> None:
        report.started(name)
        if self._world.strikes(self._world.faults.repeats, "repeats", name):
            report.started(name)
            report.progress(0.5, "half")

    async def _watch(self, work: Work, attempt: Attempt, report: Reporter) -> Outcome:
        world = self._world
        try:
            await anyio.sleep(max(0.0, work.ends - world.monotonic()))
        except anyio.get_cancelled_exc_class():
            world.live.discard(attempt.name)
            if not world.is_dead(attempt.epoch):
                await self._stop(work, attempt)
            raise
        await world.step(attempt.epoch)
        if work.stopped:
            # Somebody removed it from the platform while it ran.
            return Lost(_failure("lost", attempt))
        if world.strikes(world.faults.repeats, "repeats late", attempt.name):
            report.started(attempt.name)
            report.warning("late", "news from yesterday")
        return work.outcome

    async def _stop(self, work: Work, attempt: Attempt) -> None:
        world = self._world
        if world.strikes(world.faults.stubborn, "stubborn", attempt.name):
            with anyio.move_on_after(30.0, shield=True):
                await anyio.sleep_forever()
        work.stopped = True


def _failure(kind: str, attempt: Attempt) -> Failure:
    return Failure(
        "evicted" if kind == "evicted" else "lost" if kind == "lost" else "error",
        f"simulated: {kind}",
        "Simulated",
        node=str(attempt.key),
        attempt=attempt.number,
    )
