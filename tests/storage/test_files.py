"""The run log in files keeps the contract, also with segments of a few records."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from onready.engine.spi import RunLog
from onready.engine.testing.run_log_suite import RunLogSuite
from onready.storage.files import FilesConfig


class TestFilesRunLog(RunLogSuite):
    def open_run_log(self, folder: Path) -> AbstractAsyncContextManager[RunLog]:
        return FilesConfig(path=folder / "runs").open()


class TestManySegments(RunLogSuite):
    def open_run_log(self, folder: Path) -> AbstractAsyncContextManager[RunLog]:
        return FilesConfig(path=folder / "runs", segment_size=4096).open()
