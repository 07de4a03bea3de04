"""The database file: making it, its schema and the migrations from older ones.

Rule of this room: a schema that was released is never edited; a change is a new step at the end.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from onready.engine.crashpoints import crash_point
from onready.engine.errors import StoreError
from onready.storage.private import create_file, make_folder, refuse_network

APPLICATION: Final = 0x6F6E7264
"""SQLite's `application_id` of our files ("onrd"), so that no foreign database is taken for one."""

STEPS: Final[tuple[tuple[str, ...], ...]] = (
    (  # 1
        """CREATE TABLE runs (
            run TEXT PRIMARY KEY,
            name TEXT NOT NULL,
            graph TEXT NOT NULL,
            status TEXT NOT NULL,
            created REAL NOT NULL,
            ended REAL,
            last_seq INTEGER NOT NULL,
            target TEXT NOT NULL,
            fingerprint TEXT NOT NULL
        ) WITHOUT ROWID""",
        """CREATE TABLE events (
            run TEXT NOT NULL,
            first_seq INTEGER NOT NULL,
            last_seq INTEGER NOT NULL,
            epoch INTEGER NOT NULL,
            checksum INTEGER NOT NULL,
            batch BLOB NOT NULL,
            PRIMARY KEY (run, first_seq)
        ) WITHOUT ROWID""",
        """CREATE TABLE leases (
            run TEXT PRIMARY KEY,
            epoch INTEGER NOT NULL,
            owner TEXT NOT NULL,
            boot TEXT NOT NULL,
            until_boot REAL NOT NULL,
            until_wall REAL NOT NULL
        ) WITHOUT ROWID""",
    ),
    (  # 2: listing the newest runs without sorting all of them; finding one by its name
        "CREATE INDEX runs_by_age ON runs (created DESC, run DESC)",
        "CREATE INDEX runs_by_name ON runs (name)",
    ),
)
"""Step n brings version n - 1 to version n; a new file gets them all."""

VERSION: Final = len(STEPS)


def create(path: Path) -> None:
    """Make the folders (0700) and the file (0600) where missing; refuse network file systems.

    SQLite gives its side files (`-wal`, `-shm`) the mode of the file.
    """
    make_folder(path.parent)
    refuse_network(path.parent)
    try:
        os.close(create_file(path))
    except FileExistsError:
        if not path.is_file():
            message = f"{path} is not a file"
            raise StoreError(message) from None


def connect(path: Path, busy_timeout: float, *, writes: bool) -> sqlite3.Connection:
    """A connection to the existing file, with our settings; transactions are begun by hand."""
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={'rw' if writes else 'ro'}",
        uri=True,
        timeout=busy_timeout,
        isolation_level=None,
        check_same_thread=True,
    )
    try:
        connection.execute("PRAGMA trusted_schema = OFF")
        if writes:
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA journal_size_limit = 67108864")
    except BaseException:
        connection.close()
        raise
    return connection


def prepare(connection: sqlite3.Connection, path: Path, busy_timeout: float) -> None:
    """Bring a file to our journal mode and newest schema, or refuse it."""
    _check(connection, path)
    _write_ahead(connection, path, busy_timeout)
    migrate(connection, path)


def migrate(
    connection: sqlite3.Connection, path: Path, steps: Sequence[Sequence[str]] = STEPS
) -> None:
    """Apply the steps that the file lacks: all in one transaction, or none."""
    if _version(connection) == len(steps):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        _check(connection, path)  # again, under the lock: another process may have been first
        for statements in steps[_version(connection) :]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute(f"PRAGMA user_version = {len(steps)}")
        crash_point("migrate.before")
        connection.execute("COMMIT")
        crash_point("migrate.after")
    finally:
        connection.rollback()


def _check(connection: sqlite3.Connection, path: Path) -> None:
    version = _version(connection)
    if version > VERSION:
        message = (
            f"{path} has schema {version}, this release of onready knows up to {VERSION}: "
            "upgrade onready, or use another file"
        )
        raise StoreError(message)
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application == APPLICATION:
        return
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if application or version or tables:
        message = f"{path} is a database of another program"
        raise StoreError(message)


def _version(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def _write_ahead(connection: sqlite3.Connection, path: Path, busy_timeout: float) -> None:
    """Switch to the write-ahead log. SQLite does not wait for locks here, so this does."""
    deadline = time.monotonic() + busy_timeout
    while True:
        try:
            (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
            continue
        if mode != "wal":
            message = f"{path}: SQLite cannot use its write-ahead log there (it uses {mode!r})"
            raise StoreError(message)
        return
