"""The stores in memory keep the contracts."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from onready.engine.spi import RunLog
from onready.engine.testing.run_log_suite import RunLogSuite
from onready.storage.memory import MemoryRunLogConfig


class TestMemoryRunLog(RunLogSuite):
    def open_run_log(self, folder: Path) -> AbstractAsyncContextManager[RunLog]:
        del folder
        return MemoryRunLogConfig().open()
