"""The local process backends under the contract that every backend keeps."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from onready.backends.local.process import ProcessConfig
from onready.backends.local.subprocess import SubprocessConfig
from onready.engine.spi import Backend
from onready.engine.testing.backend_suite import BackendSuite


class TestSubprocess(BackendSuite):
    def open_backend(self, folder: Path) -> AbstractAsyncContextManager[Backend]:
        return SubprocessConfig(limit=4).open()


class TestProcess(BackendSuite):
    def open_backend(self, folder: Path) -> AbstractAsyncContextManager[Backend]:
        return ProcessConfig(limit=2).open()
