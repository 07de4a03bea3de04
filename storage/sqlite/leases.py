"""Leases: who may drive a run, and under which epoch.

Rule of this room: runs in the writer's thread only. Leases are compared, and the clock is read,
under the transaction's lock.
"""

from __future__ import annotations

import sqlite3

from onready.engine.errors import RunLeaseHeld, StaleEpoch
from onready.engine.spi import Lease
from onready.storage.clock import Clock, Moment
from onready.storage.threads.servant import Request


class TakeLease(Request[sqlite3.Connection]):
    """Take the lease of a run; the value is a `Lease`."""

    __slots__ = ("_clock", "dead", "duration", "owner", "run")

    def __init__(self, run: str, owner: str, duration: float, clock: Clock, dead: str = "") -> None:
        super().__init__()
        self.run = run
        self.owner = owner
        self.dead = dead
        self.duration = duration
        self._clock = clock

    def apply(self, connection: sqlite3.Connection) -> None:
        """Compare and take, under the transaction's lock; the clock is read under it too."""
        now = self._clock()
        row = connection.execute(
            "SELECT epoch, owner, boot, until_boot, until_wall FROM leases WHERE run = ?",
            (self.run,),
        ).fetchone()
        epoch = 1
        if row is not None:
            held, owner, *until = row
            if owner not in {"", self.owner, self.dead} and not _lapsed(now, *until):
                message = f"run {self.run} is driven by {owner} (epoch {held})"
                raise RunLeaseHeld(message, owner)
            epoch = held + 1
        connection.execute(
            "INSERT OR REPLACE INTO leases (run, epoch, owner, boot, until_boot, until_wall) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            (self.run, epoch, self.owner, *_until(now, self.duration)),
        )
        self.value = Lease(self.run, epoch, self.duration, self.owner)


class RenewLease(Request[sqlite3.Connection]):
    """Extend a lease from now."""

    __slots__ = ("_clock", "lease")

    def __init__(self, lease: Lease, clock: Clock) -> None:
        super().__init__()
        self.lease = lease
        self._clock = clock

    def apply(self, connection: sqlite3.Connection) -> None:
        """Extend where it is still this holder's, expired or not."""
        lease = self.lease
        done = connection.execute(
            "UPDATE leases SET boot = ?, until_boot = ?, until_wall = ? "
            "WHERE run = ? AND epoch = ? AND owner = ?",
            (*_until(self._clock(), lease.duration), lease.run, lease.epoch, lease.owner),
        )
        if done.rowcount != 1:
            message = f"run {lease.run}: the lease of epoch {lease.epoch} is gone"
            raise StaleEpoch(message)


class ReleaseLease(Request[sqlite3.Connection]):
    """Give a lease back; the epoch stays, so that it can only rise."""

    __slots__ = ("lease",)

    def __init__(self, lease: Lease) -> None:
        super().__init__()
        self.lease = lease

    def apply(self, connection: sqlite3.Connection) -> None:
        """Forget the owner, where it is this holder."""
        connection.execute(
            "UPDATE leases SET owner = '', until_boot = 0, until_wall = 0 "
            "WHERE run = ? AND epoch = ? AND owner = ?",
            (self.lease.run, self.lease.epoch, self.lease.owner),
        )


def _until(now: Moment, duration: float) -> tuple[str, float, float]:
    return now.boot, now.since_boot + duration, now.wall + duration


def _lapsed(now: Moment, boot: str, until_boot: float, until_wall: float) -> bool:
    if boot and boot == now.boot:
        return until_boot <= now.since_boot
    return until_wall <= now.wall
