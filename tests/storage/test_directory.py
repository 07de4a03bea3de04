"""The directory catalog keeps the contract."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

from onready.engine.spi import Catalog
from onready.engine.testing.catalog_suite import CatalogSuite
from onready.storage.directory import DirectoryConfig


class TestDirectoryCatalog(CatalogSuite):
    def open_catalog(self, folder: Path) -> AbstractAsyncContextManager[Catalog]:
        return DirectoryConfig(path=folder).open()
