"""What the writer is asked: appends, and leases taken, renewed and given back.

Rule of this room: runs in the writer's thread only.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress

from onready.engine.crashpoints import crash_point
from onready.engine.errors import OnreadyError, StaleEpoch, StoreError
from onready.engine.events import AnyEvent
from onready.engine.spi import Lease
from onready.engine.wire import encode_events
from onready.storage.clock import Clock
from onready.storage.files import leases
from onready.storage.files.format import LONGEST, Place, encode_record
from onready.storage.files.segments import write
from onready.storage.files.writer import Drive, FilesRequest, Store
from onready.storage.index import gapless


class Append(FilesRequest):
    """Events of one run: one record, so all of them or none."""

    __slots__ = ("_body", "_drive", "_size", "epoch", "events")

    def __init__(self, run: str, epoch: int, events: Sequence[AnyEvent]) -> None:
        super().__init__(run)
        self.epoch = epoch
        self.events = events
        self._body = b""
        self._size = 0
        self._drive: Drive | None = None

    def prepare(self) -> bool:
        """Encode."""
        first = self.events[0].seq
        if not gapless(self.events):
            self.error = StoreError(f"run {self.run}: the events after {first} have gaps")
            return False
        try:
            self._body = encode_events(self.events)
        except OnreadyError as error:
            self.error = error
            return False
        if len(self._body) > LONGEST:  # pragma: no cover - four gigabytes
            self.error = StoreError(f"run {self.run}: the events from {first} are too large")
            return False
        return True

    def apply(self, connection: Store) -> None:
        """Fence, check and write; not durable yet."""
        first, last = self.events[0].seq, self.events[-1].seq
        try:
            with connection.run(self.run, make=first == 1) as folder:
                drive = self._drive = connection.drive(folder, self.epoch, first)
        except FileNotFoundError:
            connection.forget(self.run)
            message = f"run {self.run}: events from {first} do not follow 0, the last one"
            raise StoreError(message) from None
        record = encode_record(self.run, drive.place, first, last, self._body)
        self._size = len(record)
        drive.broken = True  # until it is known to be durable
        write(_descriptor(drive), record)

    def finish(self, store: Store) -> None:
        """Make it durable, and look whether another driver has taken the run meanwhile."""
        drive = self._drive
        if drive is None:  # pragma: no cover - `apply` has set it
            return
        crash_point("commit.before")
        os.fsync(_descriptor(drive))
        crash_point("commit.after")
        with store.run(self.run) as folder:
            newest = store.newest(folder, self.epoch)
            if newest != drive.place:
                store.forget(self.run)
                message = f"run {self.run}: another process writes to it under the same epoch"
                raise StoreError(message)
            drive.broken = False
            drive.offset += self._size
            if drive.summary.add(self.events, drive.place, drive.offset):
                store.save(folder, drive)


class TakeLease(FilesRequest):
    """Take the lease of a run; the value is a `Lease`.

    The new epoch's first segment is begun at once: from then on nothing that an older driver
    writes becomes part of the history.
    """

    __slots__ = ("_clock", "dead", "duration", "owner")

    def __init__(self, run: str, owner: str, duration: float, clock: Clock, dead: str = "") -> None:
        super().__init__(run)
        self.dead = dead
        self.owner = owner
        self.duration = duration
        self._clock = clock

    def apply(self, connection: Store) -> None:
        """Compare and take, then begin."""
        with connection.run(self.run, make=True) as folder:
            places = folder.places()
            beyond = places[-1].epoch if places else 0
            lease = leases.take(
                self.run,
                folder.folder,
                folder.path,
                self.owner,
                self.duration,
                self._clock,
                dead=self.dead,
                beyond=beyond,
            )
            try:
                connection.begin(folder, Place(lease.epoch, 1))
                connection.newest(folder, lease.epoch)
            except BaseException:
                with suppress(OSError, StoreError):
                    leases.release(lease, folder.folder, folder.path)
                raise
        self.value = lease


class RenewLease(FilesRequest):
    """Extend a lease from now."""

    __slots__ = ("_clock", "lease")

    def __init__(self, lease: Lease, clock: Clock) -> None:
        super().__init__(lease.run)
        self.lease = lease
        self._clock = clock

    def apply(self, connection: Store) -> None:
        """Extend where it is still this holder's."""
        try:
            with connection.run(self.run) as folder:
                leases.renew(self.lease, folder.folder, folder.path, self._clock)
        except FileNotFoundError:
            message = f"run {self.run}: the lease of epoch {self.lease.epoch} is gone"
            raise StaleEpoch(message) from None


class ReleaseLease(FilesRequest):
    """Give a lease back."""

    __slots__ = ("lease",)

    def __init__(self, lease: Lease) -> None:
        super().__init__(lease.run)
        self.lease = lease

    def apply(self, connection: Store) -> None:
        """Forget the owner, where it is this holder, and let go of the run's segment."""
        with suppress(FileNotFoundError), connection.run(self.run) as folder:
            leases.release(self.lease, folder.folder, folder.path)
            drive = connection.drives.get(self.run)
            if drive is not None and drive.place.epoch == self.lease.epoch:
                connection.save(folder, drive)
                connection.forget(self.run)


def _descriptor(drive: Drive) -> int:
    if drive.descriptor is None:  # pragma: no cover - `Store.drive` has opened it
        message = "the segment is not open"
        raise StoreError(message)
    return drive.descriptor
