"""The run log itself: what an event loop sees of it.

Rule of this room: no blocking call; requests go to the two threads.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypeVar, cast

from onready.engine.crashpoints import crash_point
from onready.engine.errors import StoreError
from onready.engine.events import AnyEvent
from onready.engine.spi import Lease, RunFilter, RunRecord
from onready.storage.clock import LeaseClock
from onready.storage.files.reading import Library, ListRuns, Reader, ReadEvents
from onready.storage.files.requests import Append, ReleaseLease, RenewLease, TakeLease
from onready.storage.files.writer import Store, Writer
from onready.storage.index import Reading, check_first, check_run
from onready.storage.threads.delivery import here
from onready.storage.threads.servant import Closable, Servant

SEGMENT_SIZE: Final = 16 * 1024 * 1024
"""Bytes after which a run's next record begins a new segment."""

C = TypeVar("C", bound=Closable)


class FilesRunLog:
    """A run log in a folder: `async with FilesRunLog(path) as log`; network folders will do.

    It belongs to the event loop that opened it. One thread writes: each append is one record,
    written and fsynced before it is reported. Another thread reads. Any number of processes may
    share the folder. An `append` that is cancelled while it waits may still become durable.
    """

    durable: bool = True

    def __init__(self, path: Path | str, *, segment_size: int = SEGMENT_SIZE) -> None:
        self.path = Path(path)
        self._segment_size = segment_size
        self._clock = LeaseClock()
        self._writer: Servant[Store] | None = None
        self._reader: Servant[Library] | None = None

    async def __aenter__(self) -> Self:
        """Open or create the folder; `StoreError` where it cannot serve."""
        delivery = here()
        writer = Writer(self.path, self._segment_size)
        self._writer = Servant("onready-writer", delivery, writer.connect, writer.serve)
        await self._writer.start()
        self.path = writer.path
        reader = Reader(writer.path, self._clock)
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
        """Make durable what was asked, close the files, join the threads."""
        if self._reader is not None:
            await self._reader.close()
        if self._writer is not None:
            await self._writer.close()

    async def append(self, run: str, epoch: int, events: Sequence[AnyEvent]) -> None:
        """See `RunLog`. `events` must not change before this returns."""
        if not events:
            return
        check_run(run)
        if events[0].seq == 1:
            check_first(run, events[0])
        crash_point("append.before")
        await _opened(self._writer).ask(Append(run, epoch, events))
        crash_point("append.after")

    def read(self, run: str, after: int = 0) -> AsyncIterator[Sequence[AnyEvent]]:
        """See `RunLog`. Damage in a file is a `StoreError` that names the file and the byte."""

        async def batch(position: int) -> Sequence[AnyEvent]:
            request = ReadEvents(run, position)
            return cast("list[AnyEvent]", await _opened(self._reader).ask(request))

        return Reading(batch, after)

    async def runs(self, query: RunFilter) -> Sequence[RunRecord]:
        """See `RunLog`. A damaged run is listed as far as it can be read, with a warning."""
        return cast("list[RunRecord]", await _opened(self._reader).ask(ListRuns(query)))

    async def lease(self, run: str, owner: str, duration: float, dead: str = "") -> Lease:
        """See `RunLog`. Which clocks count is told in `storage/clock.py`."""
        check_run(run)
        request = TakeLease(run, owner, duration, self._clock, dead)
        crash_point("lease.take.before")
        lease = cast("Lease", await _opened(self._writer).ask(request))
        crash_point("lease.take.after")
        return lease

    async def renew(self, lease: Lease) -> None:
        """See `RunLog`."""
        crash_point("lease.renew.before")
        await _opened(self._writer).ask(RenewLease(lease, self._clock))
        crash_point("lease.renew.after")

    async def release(self, lease: Lease) -> None:
        """See `RunLog`."""
        crash_point("lease.release.before")
        await _opened(self._writer).ask(ReleaseLease(lease))
        crash_point("lease.release.after")


def _opened(servant: Servant[C] | None) -> Servant[C]:
    if servant is None:
        message = "the run log is not open: use it as 'async with FilesRunLog(path) as log'"
        raise StoreError(message)
    return servant
