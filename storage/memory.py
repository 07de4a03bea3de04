"""Stores that live and die with this process: for tests, notebooks and embedding.

Rule of this room: no files, no threads, no waiting; appending stays a list's `extend`.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

import anyio.to_thread
from blake3 import blake3

from onready.engine.errors import RunLeaseHeld, StaleEpoch, StoreError
from onready.engine.events import AnyEvent, RunStarted, RunStatus
from onready.engine.spi import Access, Lease, RunFilter, RunRecord
from onready.storage.index import BATCH, Reading, check_first, check_run, matches, run_changes
from onready.storage.names import check_digest, check_name, check_prefix
from onready.storage.private import create_file, open_regular

if TYPE_CHECKING:
    from onready.storage.catalog_config import MemoryCatalogConfig
    from onready.storage.run_log_config import MemoryRunLogConfig

__all__ = ["MemoryCatalog", "MemoryCatalogConfig", "MemoryRunLog", "MemoryRunLogConfig"]

HASH_INLINE = 1024 * 1024
"""Bytes up to which hashing is done in the event loop: well under a millisecond."""


class _Run:
    """All that is known of one run. `seen` is how far the index fields below have read."""

    __slots__ = ("ended", "epoch", "events", "expires", "owner", "seen", "status")

    def __init__(self) -> None:
        self.events: list[AnyEvent] = []
        self.epoch = 0
        self.owner = ""
        self.expires = 0.0
        self.status: RunStatus = "running"
        self.ended: float | None = None
        self.seen = 0


class MemoryRunLog:
    """A run log in a dict. Keeps the event objects that it is given; they may hold live values.

    `clock` gives seconds that only rise; leases are measured with it.
    """

    durable: bool = False

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._runs: dict[str, _Run] = {}
        self._clock = clock

    async def append(self, run: str, epoch: int, events: Sequence[AnyEvent]) -> None:
        """See `RunLog`. Does not wait, so it is no point of cancellation."""
        if not events:
            return
        row = self._runs.get(run) or self._new(run)
        if not row.events:
            check_first(run, events[0])
        if epoch < row.epoch:
            message = f"run {run}: epoch {epoch} is over, a driver has taken epoch {row.epoch}"
            raise StaleEpoch(message)
        last = len(row.events)
        if events[0].seq != last + 1 or events[-1].seq != last + len(events):
            message = (
                f"run {run}: events {events[0].seq} to {events[-1].seq} ({len(events)} of them) "
                f"do not follow {last}"
            )
            raise StoreError(message)
        row.events.extend(events)

    def read(self, run: str, after: int = 0) -> AsyncIterator[Sequence[AnyEvent]]:
        """See `RunLog`."""

        async def batch(position: int) -> Sequence[AnyEvent]:
            row = self._runs.get(run)
            return row.events[position : position + BATCH] if row is not None else ()

        return Reading(batch, after)

    async def runs(self, query: RunFilter) -> Sequence[RunRecord]:
        """See `RunLog`."""
        records = [self._record(run, row) for run, row in self._runs.items() if row.events]
        found = [record for record in records if matches(record, query)]
        found.sort(key=lambda record: (record.created, record.run), reverse=True)
        return found[: max(query.limit, 0)]

    async def lease(self, run: str, owner: str, duration: float, dead: str = "") -> Lease:
        """See `RunLog`."""
        row = self._runs.get(run) or self._new(run)
        now = self._clock()
        if row.owner not in {"", owner, dead} and row.expires > now:
            message = f"run {run} is driven by {row.owner} (epoch {row.epoch})"
            raise RunLeaseHeld(message, row.owner)
        row.epoch += 1
        row.owner = owner
        row.expires = now + duration
        return Lease(run, row.epoch, duration, owner)

    async def renew(self, lease: Lease) -> None:
        """See `RunLog`."""
        row = self._runs.get(lease.run)
        if row is None or row.epoch != lease.epoch or row.owner != lease.owner:
            message = f"run {lease.run}: the lease of epoch {lease.epoch} is gone"
            raise StaleEpoch(message)
        row.expires = self._clock() + lease.duration

    async def release(self, lease: Lease) -> None:
        """See `RunLog`."""
        row = self._runs.get(lease.run)
        if row is not None and row.epoch == lease.epoch and row.owner == lease.owner:
            row.owner = ""

    def _new(self, run: str) -> _Run:
        check_run(run)
        row = self._runs[run] = _Run()
        return row

    def _record(self, run: str, row: _Run) -> RunRecord:
        status, ended = run_changes(row.events[row.seen :])
        row.seen = len(row.events)
        if status is not None:
            row.status, row.ended = status, ended
        status = row.status
        lapsed = row.epoch > 0 and (not row.owner or row.expires <= self._clock())
        if status == "running" and lapsed:
            status = "interrupted"
        first = cast("RunStarted", row.events[0])  # `append` holds that it is
        last_seq = len(row.events)
        return RunRecord(
            run,
            first.name,
            first.graph,
            status,
            first.at,
            row.ended,
            last_seq,
            first.target,
            first.fingerprint,
            row.owner,
        )


class MemoryCatalog:
    """A catalog in two dicts: reachable from this process only."""

    durable: bool = False

    def __init__(self) -> None:
        self._blobs: dict[str, bytes] = {}
        self._records: dict[str, bytes] = {}

    async def put(self, content: bytes | Path) -> str:
        """See `Catalog`."""
        if isinstance(content, Path):
            content = await anyio.to_thread.run_sync(_read_file, content)
        if len(content) <= HASH_INLINE:
            digest = blake3(content).hexdigest()
        else:
            digest = await anyio.to_thread.run_sync(_hash, content)
        self._blobs.setdefault(digest, bytes(content))
        return digest

    async def get(self, digest: str) -> bytes:
        """See `Catalog`."""
        check_digest(digest)
        return self._blobs[digest]

    async def fetch(self, digest: str, target: Path) -> None:
        """See `Catalog`."""
        content = await self.get(digest)
        await anyio.to_thread.run_sync(_write_file, target, content)

    async def put_if_absent(self, name: str, content: bytes) -> bool:
        """See `Catalog`."""
        check_name(name)
        if name in self._records:
            return False
        self._records[name] = bytes(content)
        return True

    async def read(self, name: str) -> bytes:
        """See `Catalog`."""
        check_name(name)
        return self._records[name]

    async def remove(self, name: str) -> bool:
        """See `Catalog`."""
        check_name(name)
        return self._records.pop(name, None) is not None

    async def list(self, prefix: str) -> Sequence[str]:
        """See `Catalog`."""
        check_prefix(prefix)
        return sorted(name for name in self._records if name.startswith(prefix))

    def access(self, where: Literal["host", "container", "cluster"]) -> Access:
        """Refuses: no other process can reach it."""
        message = (
            f"the memory catalog cannot be reached from another process ({where}): "
            "use a directory catalog, for example catalog='file:.onready/catalog'"
        )
        raise StoreError(message)


def _hash(content: bytes) -> str:
    return blake3(content).hexdigest()


def _read_file(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            return file.read()
    except OSError as error:
        message = f"cannot read {path}: {error.strerror}"
        raise StoreError(message) from error


def _write_file(target: Path, content: bytes) -> None:
    try:
        with os.fdopen(create_file(target), "wb") as file:
            file.write(content)
    except OSError as error:
        message = f"cannot write {target}: {error.strerror}"
        raise StoreError(message) from error


def __getattr__(name: str) -> object:
    # The plug-in classes need pydantic, which whoever uses the stores directly need not load.
    if name == "MemoryCatalogConfig":
        from onready.storage.catalog_config import MemoryCatalogConfig

        return MemoryCatalogConfig
    if name == "MemoryRunLogConfig":
        from onready.storage.run_log_config import MemoryRunLogConfig

        return MemoryRunLogConfig
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
