"""The plug-in classes of the built-in catalogs: settings, and how to open what they describe.

Rule of this room: as that of the run logs, from which it is apart because a worker opens a catalog
and no run log, and starts the sooner.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from pydantic import Field

from onready.engine.plugin import PluginConfig
from onready.engine.spi import Catalog
from onready.storage.addresses import nothing, path_of
from onready.storage.directory import DirectoryCatalog
from onready.storage.memory import MemoryCatalog


class MemoryCatalogConfig(PluginConfig):
    """Catalog in memory (`memory:`): gone when the process ends, reachable from it alone."""

    @classmethod
    def from_address(cls, rest: str) -> Self:
        """The settings for the address `memory:`."""
        nothing(rest)
        return cls()

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Catalog]:
        """A new, empty catalog."""
        yield MemoryCatalog()


class DirectoryConfig(PluginConfig):
    """Catalog in a folder (`file:.onready/catalog`)."""

    path: Path = Field(description="The folder; it is made, for its owner only, if missing.")

    @classmethod
    def from_address(cls, rest: str) -> Self:
        """The settings for the address `file:PATH`."""
        return cls(path=path_of("file", rest))

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[Catalog]:
        """The catalog, opened."""
        async with DirectoryCatalog(self.path.expanduser()) as catalog:
            yield catalog
