"""Run logs that go wrong on purpose: real ones, with a fault at a chosen moment."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace

import anyio
import anyio.lowlevel

from onready.engine.errors import StoreError
from onready.engine.events import AnyEvent
from onready.engine.spi import Lease, RunFilter, RunLog, RunRecord
from onready.storage.clock import LeaseClock, Moment
from onready.storage.memory import MemoryRunLog


class LaterClock(LeaseClock):
    """The clock of somebody who comes so many seconds later: to whom a lease has run out."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    def __call__(self) -> Moment:
        now = super().__call__()
        return replace(now, since_boot=now.since_boot + self.seconds, wall=now.wall + self.seconds)


class FaultyRunLog:
    """A run log over another one, whose appends fail after `good` of them.

    So do those with an event of the kind `refused`. `appended` are the events that were stored,
    `tried` those that were not.
    """

    def __init__(
        self,
        good: int = 10**6,
        error: Callable[[], BaseException] | None = None,
        refused: type[AnyEvent] | None = None,
    ) -> None:
        self.inner: RunLog = MemoryRunLog()
        self.durable = False
        self.appended: list[AnyEvent] = []
        self.tried: list[AnyEvent] = []
        self.renewed = 0
        self.good = good
        self._refused = refused
        self._error = error

    async def append(self, run: str, epoch: int, events: Sequence[AnyEvent]) -> None:
        await anyio.lowlevel.checkpoint()
        refused = self._refused is not None and any(type(e) is self._refused for e in events)
        if self.good <= 0 or refused:
            self.tried.extend(events)
            raise self._error() if self._error is not None else StoreError("the disk is full")
        self.good -= 1
        await self.inner.append(run, epoch, events)
        self.appended.extend(events)

    def read(self, run: str, after: int = 0) -> AsyncIterator[Sequence[AnyEvent]]:
        return self.inner.read(run, after)

    async def runs(self, query: RunFilter) -> Sequence[RunRecord]:
        return await self.inner.runs(query)

    async def lease(self, run: str, owner: str, duration: float, dead: str = "") -> Lease:
        return await self.inner.lease(run, owner, duration, dead)

    async def renew(self, lease: Lease) -> None:
        self.renewed += 1
        await self.inner.renew(lease)

    async def release(self, lease: Lease) -> None:
        await self.inner.release(lease)
