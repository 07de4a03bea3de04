"""What several verbs share: their options, the configuration, the engine.

Rule of this room: nothing here prints.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from onready.config import Config, load_config

if TYPE_CHECKING:
    from onready import Engine
    from onready.cli.target import Target
    from onready.engine.engine import EngineOptions
    from onready.engine.plan.model import Plan

Format = Literal["text", "json"]

FormatOption = Annotated[
    Format, Parameter(name="--format", help="Text for people, or JSON for programs.")
]


TargetArgument = Annotated[
    str, Parameter(help="file.py, file.py:graph, package.module:graph, or hello.")
]
RunArgument = Annotated[str, Parameter(help="Id of the run, the beginning of one, name, or last.")]
FollowOption = Annotated[
    bool,
    Parameter(
        name=["--follow", "-f"],
        negative=(),
        show_default=False,
        help="Wait for more until the end.",
    ),
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
    """An engine, not yet open, with the settings of `config`; `memory` leaves nothing behind."""
    from onready import Engine

    options: EngineOptions = {
        "backends": config.backends,
        "max_parallel": config.max_parallel,
        "pools": config.pools,
        "grace": config.grace,
        "secrets": config.secrets,
    }
    if memory:
        return Engine.memory(**options)
    options["run_log"] = config.run_log
    options["catalog"] = config.catalog
    options["folder"] = config.folder
    return Engine(**options)


@asynccontextmanager
async def open_for_reading(stores: Stores) -> AsyncGenerator[Engine]:
    """An open engine to look at runs with. Where nothing has run yet, nothing is made either."""
    config = stores.config()
    async with engine_for(config, memory=_is_unused(config)) as engine:
        yield engine


def _is_unused(config: Config) -> bool:
    return config.run_log is None and not Path(config.folder, "runs.db").exists()


def compile_target(
    target: Target, config: Config, *, backend: str | None = None, select: Sequence[str] = ()
) -> Plan:
    """The plan of a target, checked against the configured backends; nothing runs."""
    from onready.engine.host import Host
    from onready.engine.plan.select import select_nodes

    async def compiled() -> Plan:
        host = Host(config.backends, config.max_parallel, config.pools, {})
        async with host.stack:
            return await host.compile(target.bind({}), backend, None, None)

    return select_nodes(asyncio.run(compiled()), select)
