"""The contract suites of the kit on what the kit and the built-ins have for them."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from onready.backends.local.thread import ThreadConfig
from onready.engine.spi import BulkBackend
from onready.engine.testing.bulk_suite import BulkBackendSuite


class TestThreads(BulkBackendSuite):
    def open_backend(self, folder: Path) -> AbstractAsyncContextManager[BulkBackend]:
        return ThreadConfig(limit=4).open()
