"""The SQLite run log keeps the contract."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from onready.engine.spi import RunLog
from onready.engine.testing.run_log_suite import RunLogSuite
from onready.storage.sqlite import SqliteConfig


class TestSqliteRunLog(RunLogSuite):
    def open_run_log(self, folder: Path) -> AbstractAsyncContextManager[RunLog]:
        return SqliteConfig(path=folder / "runs.db").open()
