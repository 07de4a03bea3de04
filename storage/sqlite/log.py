"""The run log itself: what an event loop sees of it.

Rule of this room: no SQL and no blocking call; requests go to the two threads.
"""

from __future__ import annotations

import sqlite3
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self, cast

from onready.engine.crashpoints import crash_point
from onready.engine.errors import StoreError
from onready.engine.events import AnyEvent
from onready.engine.spi import Lease, RunFilter, RunRecord
from onready.storage.clock import LeaseClock
from onready.storage.index import Reading, check_first, check_run
from onready.storage.sqlite.appends import Append
from onready.storage.sqlite.leases import ReleaseLease, RenewLease, TakeLease
from onready.storage.sqlite.reading import ListRuns, Reader, ReadEvents
from onready.storage.sqlite.writer import Writer
from onready.storage.threads.delivery import here
from onready.storage.threads.servant import Servant


class SqliteRunLog:
    """A run log in one SQLite file: `async with SqliteRunLog(path) as log`.

    It belongs to the event loop that opened it. One thread writes: it commits everything that
    was asked at that moment, of whatever runs, in one transaction (`synchronous=FULL`). Another
    thread reads. Several processes may use one file on one machine; `busy_timeout` (seconds) is
    how long one waits for another's transaction. An `append` that is cancelled while it waits
    may still become durable.
    """

    durable: bool = True

    def __init__(self, path: Path | str, *, busy_timeout: float = 30.0) -> None:
        self.path = Path(path)
        self._busy_timeout = busy_timeout
        self._clock = LeaseClock()
        self._writer: Servant[sqlite3.Connection] | None = None
        self._reader: Servant[sqlite3.Connection] | None = None

    async def __aenter__(self) -> Self:
        """Open or create the file; `StoreError` where it cannot serve."""
        delivery = here()
        writer = Writer(self.path, self._busy_timeout)
        self._writer = Servant("onready-writer", delivery, writer.connect, writer.serve)
        await self._writer.start()
        self.path = writer.path
        reader = Reader(writer.path, self._busy_timeout)
        self._reader = Servant("onready-reader", delivery, reader.connect, reader.serve)
        try:
            await self._reader.start()
        except BaseException:
            await self._writer.close()
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Commit what was asked, close the file, join the threads."""
        for servant in (self._reader, self._writer):
            if servant is not None:
                await servant.close()

    async def append(self, run: str, epoch: int, events: Sequence[AnyEvent]) -> None:
        """See `RunLog`. `events` must not change before this returns."""
        if not events:
            return
        if events[0].seq == 1:
            check_run(run)
            check_first(run, events[0])
        crash_point("append.before")
        await self._writing().ask(Append(run, epoch, events))
        crash_point("append.after")

    def read(self, run: str, after: int = 0) -> AsyncIterator[Sequence[AnyEvent]]:
        """See `RunLog`. Damage in the file is a `StoreError` that names the place."""

        async def batch(position: int) -> Sequence[AnyEvent]:
            request = ReadEvents(run, position, self.path)
            return cast("list[AnyEvent]", await self._reading().ask(request))

        return Reading(batch, after)

    async def runs(self, query: RunFilter) -> Sequence[RunRecord]:
        """See `RunLog`."""
        request = ListRuns(query, self._clock)
        return cast("list[RunRecord]", await self._reading().ask(request))

    async def lease(self, run: str, owner: str, duration: float, dead: str = "") -> Lease:
        """See `RunLog`. Which clocks count is told in `clock.py`."""
        check_run(run)
        request = TakeLease(run, owner, duration, self._clock, dead)
        crash_point("lease.take.before")
        lease = cast("Lease", await self._writing().ask(request))
        crash_point("lease.take.after")
        return lease

    async def renew(self, lease: Lease) -> None:
        """See `RunLog`."""
        crash_point("lease.renew.before")
        await self._writing().ask(RenewLease(lease, self._clock))
        crash_point("lease.renew.after")

    async def release(self, lease: Lease) -> None:
        """See `RunLog`."""
        crash_point("lease.release.before")
        await self._writing().ask(ReleaseLease(lease))
        crash_point("lease.release.after")

    def _writing(self) -> Servant[sqlite3.Connection]:
        return _opened(self._writer)

    def _reading(self) -> Servant[sqlite3.Connection]:
        return _opened(self._reader)


def _opened(servant: Servant[sqlite3.Connection] | None) -> Servant[sqlite3.Connection]:
    if servant is None:
        message = "the run log is not open: use it as 'async with SqliteRunLog(path) as log'"
        raise StoreError(message)
    return servant
