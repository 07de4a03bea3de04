"""Reading: batches of events, and the index of runs.

Rule of this room: runs in the reader's thread only; each request is one short read transaction,
so that an abandoned reader holds nothing.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from onready.engine.errors import StoreError
from onready.engine.events import AnyEvent
from onready.engine.spi import RunFilter, RunRecord
from onready.engine.wire import decode_events
from onready.storage.clock import Clock
from onready.storage.index import BATCH, gapless
from onready.storage.sqlite import schema
from onready.storage.sqlite.appends import checksum
from onready.storage.sqlite.faults import UNREADABLE, translate, unreadable
from onready.storage.threads.servant import Request

_BATCHES: Final = (
    "SELECT first_seq, last_seq, checksum, batch FROM events "
    "WHERE run = ? AND first_seq >= coalesce("
    "(SELECT max(first_seq) FROM events WHERE run = ? AND first_seq <= ?), 0) "
    "ORDER BY first_seq"
)
_BEYOND: Final = "SELECT 1 FROM events WHERE run = ? AND first_seq > ? LIMIT 1"
_RUNS: Final = """
    SELECT run, name, graph, seen, created, ended, last_seq, target, fingerprint, owner FROM (
        SELECT runs.*, coalesce(leases.owner, '') AS owner,
            CASE WHEN runs.status = 'running' AND leases.run IS NOT NULL AND (
                leases.owner = '' OR CASE
                    WHEN leases.boot <> '' AND leases.boot = :boot
                    THEN leases.until_boot <= :since_boot
                    ELSE leases.until_wall <= :wall END)
            THEN 'interrupted' ELSE runs.status END AS seen
        FROM runs LEFT JOIN leases ON leases.run = runs.run)
"""


class ReadEvents(Request[sqlite3.Connection]):
    """The next batch of a run after `after`; the value is a list, empty at the end."""

    __slots__ = ("after", "path", "run")

    def __init__(self, run: str, after: int, path: Path) -> None:
        super().__init__()
        self.run = run
        self.after = after
        self.path = path

    def apply(self, connection: sqlite3.Connection) -> None:
        """Read rows until the batch is full, in one snapshot together with the last number."""
        row = connection.execute("SELECT last_seq FROM runs WHERE run = ?", (self.run,)).fetchone()
        last = 0 if row is None else int(row[0])
        events: list[AnyEvent] = []
        self.value = events
        position = self.after
        if position >= last:
            # An index that ends before the events do, or knows nothing of them, is damaged.
            if connection.execute(_BEYOND, (self.run, last)).fetchone() is not None:
                raise self._damaged(last + 1)
            return
        for first_seq, last_seq, check, batch in connection.execute(
            _BATCHES, (self.run, self.run, position + 1)
        ):
            events += self._decode(position, first_seq, last_seq, check, batch)
            position = last_seq
            if len(events) >= BATCH:
                return
        if position != last:
            raise self._damaged(position + 1)

    def _decode(
        self, position: int, first: int, last: int, check: int, batch: bytes
    ) -> list[AnyEvent]:
        if not first <= position + 1 <= last or check != checksum(self.run, first, last, batch):
            raise self._damaged(position + 1)
        try:
            events = decode_events(batch)
        except (ValueError, RecursionError) as error:
            message = f"run log {self.path}: run {self.run}, events {first} to {last}: {error}"
            raise StoreError(message) from error
        if len(events) != last - first + 1 or events[0].seq != first or not gapless(events):
            raise self._damaged(position + 1)
        return events[position + 1 - first :]

    def _damaged(self, seq: int) -> StoreError:
        return StoreError(
            f"run log {self.path}: run {self.run} is damaged at event {seq}: what is stored there "
            "is not what was written"
        )


class ListRuns(Request[sqlite3.Connection]):
    """Runs that a filter wants; the value is a list of records."""

    __slots__ = ("clock", "query")

    def __init__(self, query: RunFilter, clock: Clock) -> None:
        super().__init__()
        self.query = query
        self.clock = clock

    def apply(self, connection: sqlite3.Connection) -> None:
        """One statement."""
        query, now = self.query, self.clock()
        tests: list[str] = []
        if query.status is not None:
            tests.append("seen = :status")
        if query.graph:
            tests.append("graph = :graph")
        if query.prefix:
            tests.append("(name = :prefix OR (run >= :prefix AND run < :beyond))")
        where = f" WHERE {' AND '.join(tests)}" if tests else ""
        rows = connection.execute(
            _RUNS + where + " ORDER BY created DESC, run DESC LIMIT :limit",
            {
                "boot": now.boot,
                "since_boot": now.since_boot,
                "wall": now.wall,
                "status": query.status,
                "graph": query.graph,
                "prefix": query.prefix,
                "beyond": query.prefix + "\U0010ffff",
                "limit": max(query.limit, 0),
            },
        )
        self.value = [RunRecord(*row) for row in rows]


class Reader:
    """Owns a read connection; each request gets a snapshot of its own."""

    def __init__(self, path: Path, busy_timeout: float) -> None:
        self._path = path
        self._busy_timeout = busy_timeout

    def connect(self) -> sqlite3.Connection:
        """Open the file, which the writer has made."""
        try:
            return schema.connect(self._path, self._busy_timeout, writes=False)
        except sqlite3.Error as error:
            raise translate(error, self._path) from error

    def serve(
        self, connection: sqlite3.Connection, group: list[Request[sqlite3.Connection]]
    ) -> None:
        """Answer one after the other."""
        for request in group:
            try:
                connection.execute("BEGIN")
                try:
                    request.apply(connection)
                except StoreError as error:
                    request.error = error
                finally:
                    connection.execute("ROLLBACK")
            except sqlite3.Error as error:
                request.error = translate(error, self._path)
            except UNREADABLE as error:
                request.error = unreadable(error, self._path)
