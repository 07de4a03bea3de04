"""A program that runs cached nodes until it is killed."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio

from onready import Engine, each, graph, task
from onready.engine.events import NodeSucceeded
from onready.engine.values.codec import load_plugins
from onready.storage.directory import DirectoryCatalog
from tests.engine.caching import HookedCatalog

WIDTH = 40

# A catalog that is given open, and not by its address, leaves this to whoever opened it.
load_plugins()


@task(cache=True)
async def step(x: int) -> str:
    """Large enough, now and then, to be a blob."""
    await anyio.sleep(0.001 * (x % 3))
    return str(x) * (20_000 if x % 10 == 0 else 1)


@task(cache=True)
async def lengths(texts: list[str]) -> int:
    return sum(map(len, texts))


@graph
def flow(width: int = WIDTH) -> int:
    return lengths(step.map(each(list(range(WIDTH)))))


@asynccontextmanager
async def open_engine(folder: Path, *, stuck: bool = False) -> AsyncGenerator[Engine]:
    """An engine on the stores in `folder`; where `stuck`, no record of the cache is ever made."""

    async def never(name: str) -> None:
        if stuck and name.startswith("cache/"):
            await anyio.sleep_forever()

    async with (
        DirectoryCatalog(folder / "catalog") as inner,
        Engine(folder=folder, catalog=HookedCatalog(inner, creating=never)) as engine,
    ):
        yield engine


async def main(folder: str, run: str, how: str) -> None:
    """Run the graph, say a word for each success that is durable; then wait, to be killed."""
    async with open_engine(Path(folder), stuck=how == "stuck") as engine:
        started = await engine.start(flow.bind(), id=run)
        async for event in started.events():
            if isinstance(event, NodeSucceeded):
                sys.stdout.write(f"{event.node}\n")
                sys.stdout.flush()
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2], sys.argv[3])
