"""The stores in memory keep the contracts."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from onready.engine.spi import Catalog, RunLog
from onready.engine.testing.catalog_suite import CatalogSuite
from onready.engine.testing.run_log_suite import RunLogSuite
from onready.storage.memory import MemoryCatalogConfig, MemoryRunLogConfig


class TestMemoryRunLog(RunLogSuite):
    def open_run_log(self, folder: Path) -> AbstractAsyncContextManager[RunLog]:
        del folder
        return MemoryRunLogConfig().open()


class TestMemoryCatalog(CatalogSuite):
    def open_catalog(self, folder: Path) -> AbstractAsyncContextManager[Catalog]:
        del folder
        return MemoryCatalogConfig().open()
