"""The plug-in classes of the built-in run logs: settings, and how to open what they describe.

Rule of this room: pydantic at the border only. The stores themselves import nothing from here.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from pydantic import Field

from onready.engine.plugin import PluginConfig
from onready.engine.spi import RunLog
from onready.storage.addresses import nothing, path_of
from onready.storage.files.log import SEGMENT_SIZE, FilesRunLog
from onready.storage.memory import MemoryRunLog
from onready.storage.sqlite import SqliteRunLog


class MemoryRunLogConfig(PluginConfig):
    """Run log in memory (`memory:`): gone when the process ends."""

    @classmethod
    def from_address(cls, rest: str) -> Self:
        """The settings for the address `memory:`."""
        nothing(rest)
        return cls()

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[RunLog]:
        """A new, empty run log."""
        yield MemoryRunLog()


class SqliteConfig(PluginConfig):
    """Run log in one SQLite file (`sqlite:.onready/runs.db`), for any number of processes."""

    path: Path = Field(description="The database file; it and its folders are made if missing.")
    busy_timeout: float = Field(
        default=30.0,
        gt=0,
        le=3600,
        description="Seconds to wait for another process that writes to the same file.",
    )

    @classmethod
    def from_address(cls, rest: str) -> Self:
        """The settings for the address `sqlite:PATH`."""
        return cls(path=path_of("sqlite", rest))

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[RunLog]:
        """The run log, opened; closed (and all that was appended durable) on the way out."""
        async with SqliteRunLog(self.path.expanduser(), busy_timeout=self.busy_timeout) as log:
            yield log


class FilesConfig(PluginConfig):
    """Run log in a folder of append-only files (`files:.onready/runs`), shared folders included."""

    path: Path = Field(description="The folder; it is made, for its owner only, if missing.")
    segment_size: int = Field(
        default=SEGMENT_SIZE,
        ge=4096,
        le=2**40,
        description="Bytes after which a run goes on in a new file.",
    )

    @classmethod
    def from_address(cls, rest: str) -> Self:
        """The settings for the address `files:PATH`."""
        return cls(path=path_of("files", rest))

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[RunLog]:
        """The run log, opened; closed (and all that was appended durable) on the way out."""
        async with FilesRunLog(self.path.expanduser(), segment_size=self.segment_size) as log:
            yield log
