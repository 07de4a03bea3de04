"""Appending: events of one run, fenced and checked by the transaction that writes them.

Rule of this room: runs in the writer's thread only. No check is made before the transaction:
other processes write to the same file.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Final, cast
from zlib import crc32

from onready.engine.errors import OnreadyError, StaleEpoch, StoreError
from onready.engine.events import AnyEvent, RunStarted
from onready.engine.wire import encode_events
from onready.storage.index import gapless, run_changes
from onready.storage.threads.servant import Request

CHUNK: Final = 1_000
"""Events encoded at once: the interpreter's lock is held for about a quarter of a millisecond."""

_FENCE: Final = "NOT EXISTS (SELECT 1 FROM leases WHERE run = ? AND epoch > ?)"
_START: Final = (
    "INSERT INTO runs (run, last_seq, status, ended, name, graph, created, target, fingerprint) "
    f"SELECT ?, ?, ?, ?, ?, ?, ?, ?, ? WHERE {_FENCE} ON CONFLICT DO NOTHING"
)
_ADVANCE: Final = (
    "UPDATE runs SET last_seq = ? "  # noqa: S608 - put together from a constant
    f"WHERE run = ? AND last_seq = ? AND {_FENCE}"
)
_CHANGE: Final = (
    "UPDATE runs SET last_seq = ?, status = ?, ended = ? "  # noqa: S608 - as above
    f"WHERE run = ? AND last_seq = ? AND {_FENCE}"
)
_INSERT: Final = (
    "INSERT INTO events (run, first_seq, last_seq, epoch, checksum, batch) "
    "VALUES (?, ?, ?, ?, ?, ?)"
)


class Append(Request[sqlite3.Connection]):
    """Events of one run."""

    __slots__ = ("_advance", "_rows", "epoch", "events", "run")

    def __init__(self, run: str, epoch: int, events: Sequence[AnyEvent]) -> None:
        super().__init__()
        self.run = run
        self.epoch = epoch
        self.events = events
        self._rows: list[tuple[str, int, int, int, int, bytes]] = []
        self._advance: tuple[str, tuple[object, ...]] = ("", ())

    def prepare(self) -> bool:
        """Encode, outside of the transaction."""
        events = self.events
        first = events[0].seq
        last = first + len(events) - 1
        if not gapless(events):
            self.error = StoreError(f"run {self.run}: the events after {first} have gaps")
            return False
        try:
            if len(events) <= CHUNK:
                self._row(events)
            else:
                for start in range(0, len(events), CHUNK):
                    self._row(events[start : start + CHUNK])
        except OnreadyError as error:
            self.error = error
            return False
        status, ended = run_changes(events)
        fence = (self.run, self.epoch)
        if first == 1:
            begun = (self.run, last, status, ended, *_described(cast("RunStarted", events[0])))
            self._advance = (_START, begun + fence)
        elif status is None:
            self._advance = (_ADVANCE, (last, self.run, first - 1, *fence))
        else:
            self._advance = (_CHANGE, (last, status, ended, self.run, first - 1, *fence))
        return True

    def apply(self, connection: sqlite3.Connection) -> None:
        """Fence, check and advance in one statement; then the events."""
        statement, values = self._advance
        if connection.execute(statement, values).rowcount != 1:
            raise self._refusal(connection)
        for row in self._rows:
            connection.execute(_INSERT, row)

    def _row(self, events: Sequence[AnyEvent]) -> None:
        batch = encode_events(events)
        first, last = events[0].seq, events[-1].seq
        check = checksum(self.run, first, last, batch)
        self._rows.append((self.run, first, last, self.epoch, check, batch))

    def _refusal(self, connection: sqlite3.Connection) -> StoreError:
        lease = connection.execute("SELECT epoch FROM leases WHERE run = ?", (self.run,)).fetchone()
        if lease is not None and lease[0] > self.epoch:
            return StaleEpoch(
                f"run {self.run}: epoch {self.epoch} is over, a driver has taken epoch {lease[0]}"
            )
        row = connection.execute("SELECT last_seq FROM runs WHERE run = ?", (self.run,)).fetchone()
        last = 0 if row is None else row[0]
        return StoreError(
            f"run {self.run}: events from {self.events[0].seq} do not follow {last}, the last one"
        )


def _described(event: RunStarted) -> tuple[object, ...]:
    return (event.name, event.graph, event.at, event.target, event.fingerprint)


def checksum(run: str, first: int, last: int, batch: bytes) -> int:
    """What is kept beside a batch, so that damage is seen: SQLite itself would hand it out."""
    return crc32(batch, crc32(f"{run}\0{first}\0{last}".encode()))
