"""The writer: a group of requests becomes one transaction.

Rule of this room: runs in the writer's thread only, and knows no statement of its own: what is
written is the requests' affair.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import suppress
from pathlib import Path

from onready.engine.crashpoints import crash_point
from onready.engine.errors import InternalError, OnreadyError, StoreError
from onready.storage.sqlite import schema
from onready.storage.sqlite.faults import translate, unreadable
from onready.storage.threads.servant import Request


class Writer:
    """Owns the file's write connection. A request that is refused leaves the others alone."""

    def __init__(self, path: Path, busy_timeout: float) -> None:
        self.path = path
        self._busy_timeout = busy_timeout
        self._identity = (0, 0)

    def connect(self) -> sqlite3.Connection:
        """Make the file and its schema where missing; `StoreError` where it cannot serve."""
        timeout = self._busy_timeout
        # Once, here in the thread: the host may change its working folder later.
        path = self.path = Path(os.path.abspath(self.path))  # noqa: PTH100 - keeps links
        try:
            schema.create(path)
            connection = schema.connect(path, timeout, writes=True)
            try:
                schema.prepare(connection, path, timeout)
                status = path.stat()
            except BaseException:
                connection.close()
                raise
        except sqlite3.Error as error:
            raise translate(error, path) from error
        except UnicodeError as error:
            raise unreadable(error, path) from error
        except OSError as error:
            message = f"run log {path}: {error.strerror}"
            raise StoreError(message) from error
        self._identity = (status.st_dev, status.st_ino)
        return connection

    def serve(
        self, connection: sqlite3.Connection, group: list[Request[sqlite3.Connection]]
    ) -> None:
        """Commit all of a group at once; one by one where the database itself refuses that."""
        ready = [request for request in group if _prepared(request)]
        if not ready:
            return
        fault = self._replaced() or self._transact(connection, ready)
        if fault is None:
            return
        if len(ready) == 1 or (isinstance(fault, StoreError) and fault.retryable):
            for request in ready:
                request.error = fault
            return
        # One request may have been too much for the disk, or for SQLite: only that one fails.
        for request in ready:
            fault = self._replaced() or self._transact(connection, [request])
            request.error = fault or request.error

    def _replaced(self) -> StoreError | None:
        # SQLite would go on writing to a file that was deleted, and nobody would ever read it.
        with suppress(OSError):
            status = self.path.stat()
            if (status.st_dev, status.st_ino) == self._identity:
                return None
        return StoreError(f"run log {self.path}: the file was removed or replaced while open")

    def _transact(
        self, connection: sqlite3.Connection, requests: list[Request[sqlite3.Connection]]
    ) -> OnreadyError | None:
        """One transaction; what went wrong with all of it, or None."""
        try:
            connection.execute("BEGIN IMMEDIATE")
            for request in requests:
                try:
                    request.error = None
                    request.apply(connection)
                except OnreadyError as error:
                    request.error = error
            crash_point("commit.before")
            connection.execute("COMMIT")
            crash_point("commit.after")
        except sqlite3.Error as error:
            return translate(error, self.path)
        except UnicodeError as error:
            return unreadable(error, self.path)
        except Exception as error:  # noqa: BLE001 - a bug must not take the other runs along
            return _bug(error)
        finally:
            if connection.in_transaction:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
        return None


def _prepared(request: Request[sqlite3.Connection]) -> bool:
    try:
        return request.prepare()
    except Exception as error:  # noqa: BLE001 - as in `_transact`
        request.error = _bug(error)
        return False


def _bug(error: Exception) -> InternalError:
    fault = InternalError(f"the run log's writer failed: {error!r}; please file a bug")
    fault.__cause__ = error
    return fault
