"""SQLite's errors as ours.

Rule of this room: tables and words.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Final

from onready.engine.errors import StoreError

_AGAIN: Final = frozenset(
    {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT}
)
_WORDS: Final = {
    sqlite3.SQLITE_BUSY: "another process holds the lock for too long",
    sqlite3.SQLITE_LOCKED: "another process holds the lock for too long",
    sqlite3.SQLITE_FULL: "no space is left",
    sqlite3.SQLITE_IOERR: "the disk reports an error",
    sqlite3.SQLITE_READONLY: "the file or its folder is read-only",
    sqlite3.SQLITE_CANTOPEN: "the file cannot be opened, or its folder is read-only",
    sqlite3.SQLITE_CORRUPT: "the file is damaged",
    sqlite3.SQLITE_NOTADB: "the file is no SQLite database",
    sqlite3.SQLITE_PERM: "access is denied",
}


UNREADABLE: Final = (UnicodeError, TypeError, ValueError, OverflowError)
"""What Python's side of SQLite, or we, raise over rows that are not what was written."""


def unreadable(error: Exception, path: Path) -> StoreError:
    """The error for rows, or words of SQLite's own, that make no sense."""
    fault = StoreError(f"run log {path}: the file is damaged ({error})")
    fault.__cause__ = error
    return fault


def translate(error: sqlite3.Error, path: Path) -> StoreError:
    """What `error` means, in our words; `retryable` where trying again soon may help."""
    code = getattr(error, "sqlite_errorcode", None)
    primary = code & 0xFF if isinstance(code, int) else None
    words = _WORDS.get(primary, "") if primary is not None else ""
    text = f"run log {path}: {words} ({error})" if words else f"run log {path}: {error}"
    fault = StoreError(text, retryable=primary in _AGAIN)
    fault.__cause__ = error
    return fault
