"""What several verbs share: their options, the configuration, the engine.

Rule of this room: nothing here prints.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from onready.config import Config, load_config

if TYPE_CHECKING:
    from onready import Engine

Format = Literal["text", "json"]

FormatOption = Annotated[
    Format, Parameter(name="--format", help="Text for people, or JSON for programs.")
]


TargetArgument = Annotated[
    str, Parameter(help="file.py, file.py:graph, package.module:graph, or hello.")
]
RunArgument = Annotated[str, Parameter(help="Id of the run, the beginning of one, name, or last.")]
FollowOption = Annotated[
    bool, Parameter(name=["--follow", "-f"], negative=(), help="Wait for more until the end.")
]
SELECT_HELP = (
    "Only these nodes: a name, a glob, +name with what it needs, name+ with what needs it."
)


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class Stores:
    """Where runs are kept."""

    run_log: Annotated[
        str | None, Parameter(name="--run-log", help="Address of the run log: `sqlite:PATH`.")
    ] = None
    catalog: Annotated[
        str | None, Parameter(name="--catalog", help="Address of the catalog: `file:FOLDER`.")
    ] = None
    profile: Annotated[
        str | None, Parameter(name="--profile", help="Profile of the configuration file.")
    ] = None

    def config(self, max_parallel: int | None = None) -> Config:
        """The configuration, these flags over everything else."""
        flags = {
            "run_log": self.run_log,
            "catalog": self.catalog,
            "max_parallel": max_parallel,
        }
        return load_config(flags, profile=self.profile)


def engine_for(config: Config, *, memory: bool = False) -> Engine:
    """An engine, not yet open, with the settings of `config`."""
    from onready import Engine

    return Engine(
        run_log="memory" if memory else config.run_log,
        catalog="memory" if memory else config.catalog,
        backends=config.backends or None,
        max_parallel=config.max_parallel,
        pools=config.pools or None,
        folder=config.folder,
        grace=config.grace,
    )


@asynccontextmanager
async def open_for_reading(stores: Stores) -> AsyncIterator[Engine]:
    """An open engine to look at runs with."""
    async with engine_for(stores.config()) as engine:
        yield engine
