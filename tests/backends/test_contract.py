"""The local process backends under the contract that every backend keeps."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from onready.backends.local.process import ProcessConfig
from onready.backends.local.subprocess import SubprocessConfig
from onready.engine.spi import Backend, Catalog
from onready.engine.testing.backend_suite import BackendSuite
from onready.storage.directory import DirectoryConfig

# The suite is part of onready and looks at files and processes by itself, in the loop. That the
# backends do not block it is held by the other files of this folder.
pytestmark = pytest.mark.may_block("the suite's own looks at files")


class Local(BackendSuite):
    def open_catalog(self, folder: Path) -> AbstractAsyncContextManager[Catalog]:
        # Not through the registry: it reads the installed packages' files, in the loop.
        return DirectoryConfig.from_address(str(folder / "catalog")).open()


class TestSubprocess(Local):
    def open_backend(self, folder: Path) -> AbstractAsyncContextManager[Backend]:
        return SubprocessConfig(limit=4).open()


class TestProcess(Local):
    def open_backend(self, folder: Path) -> AbstractAsyncContextManager[Backend]:
        return ProcessConfig(limit=2).open()
