"""Run log in one SQLite file: `SqliteRunLog`, and its plug-in class `SqliteConfig`.

Rule of this room: the standard library's sqlite3, two threads, no ORM; `log.py` is the way in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onready.storage.sqlite.log import SqliteRunLog

if TYPE_CHECKING:
    from onready.storage.run_log_config import SqliteConfig

__all__ = ["SqliteConfig", "SqliteRunLog"]


def __getattr__(name: str) -> object:
    # The plug-in class needs pydantic, which whoever uses the store directly need not load.
    if name == "SqliteConfig":
        from onready.storage.run_log_config import SqliteConfig

        return SqliteConfig
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
