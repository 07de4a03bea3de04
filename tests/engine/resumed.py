"""Runs that are cut off and continued: stores that outlive their engines, and nodes that are counted.

A run is interrupted by its log: what came after an event is taken away, as a crash takes what was
not committed. (`tests/faults` kills real processes.)

Rule of this room: nothing is judged here.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio

from onready import Engine, File, NodeContext, Provided, Retry, each, graph, task
from onready.engine.events import AnyEvent
from onready.engine.spi import RunLog
from onready.storage.memory import MemoryCatalog, MemoryRunLog
from onready.storage.sqlite import SqliteRunLog
from tests.engine.work import calls

RUN: Final = "r"
"""The id of the run."""
LARGE: Final = 40_000
"""Characters of a text that goes to the catalog."""


class World:
    """The stores of one run: in memory, or in a folder. Each cut makes a new log."""

    def __init__(self, folder: Path, *, durable: bool) -> None:
        self.folder = folder
        self.durable = durable
        self._memory = MemoryRunLog()
        self._catalog = MemoryCatalog()
        self._cuts = 0

    @property
    def _path(self) -> Path:
        return self.folder / f"runs{self._cuts}.db"

    @asynccontextmanager
    async def engine(self, provided: Mapping[str, object] | None = None) -> AsyncGenerator[Engine]:
        """An engine over the stores as they are now, with live objects."""
        engine = (
            Engine(
                folder=self.folder,
                run_log=f"sqlite:{self._path}",
                provided=provided,
                grace=0.5,
            )
            if self.durable
            else Engine.memory(
                run_log=self._memory, catalog=self._catalog, provided=provided, grace=0.5
            )
        )
        async with engine:
            yield engine

    @asynccontextmanager
    async def _log(self) -> AsyncGenerator[RunLog]:
        if self.durable:
            async with SqliteRunLog(self._path) as log:
                yield log
        else:
            yield self._memory

    async def events(self) -> list[AnyEvent]:
        """What is recorded of the run."""
        async with self._log() as log:
            return [event async for batch in log.read(RUN) for event in batch]

    async def cut(self, after: Callable[[AnyEvent], object], *, first: bool = True) -> int:
        """Take away what came after the first (or last) such event; how many are left."""
        events = await self.events()
        found = [place for place, event in enumerate(events) if after(event)]
        assert found, "there is no such event"
        kept = events[: found[0 if first else -1] + 1]
        self._cuts += 1
        self._memory = MemoryRunLog()
        async with self._log() as log:
            epoch = max(getattr(event, "epoch", 1) for event in kept)
            lease = await log.lease(RUN, "dead", 0.0)
            while lease.epoch < epoch:
                # Each driver so far had one.
                lease = await log.lease(RUN, "dead", 0.0)
            await log.append(RUN, lease.epoch, kept)
        return len(kept)


def is_event(kind: type[AnyEvent], node: str = "", attempt: int = 0) -> Callable[[AnyEvent], bool]:
    """Whether an event is of that kind, of that node and attempt where they are given."""

    def found(event: AnyEvent) -> bool:
        return (
            type(event) is kind
            and (not node or str(getattr(event, "node", "")) == node)
            and (not attempt or getattr(event, "attempt", 0) == attempt)
        )

    return found


# --- nodes in the driver: they count in `calls` ---------------------------------------------------


@task
async def one(x: int) -> int:
    calls.append("one")
    return x + 1


@task
def two(x: int) -> int:
    calls.append("two")
    return x * 2


@task
async def three(x: int) -> int:
    calls.append("three")
    return x - 1


@task
async def square(x: int, bad: bool = False) -> int:
    calls.append(f"square {x}")
    if x in BAD:
        message = f"not {x}"
        raise ValueError(message)
    return x * x


@task
async def total(xs: list[int]) -> int:
    calls.append("total")
    return sum(xs)


BAD: set[int] = set()
"""What `square` fails for."""


@graph
def chain(x: int) -> int:
    """Three nodes, one in a thread."""
    return three(two(one(x)))


@graph
def longer(x: int) -> int:
    """The same, and one more."""
    return three.with_options(name="four")(three(two(one(x))))


@graph
def squares(xs: list[int]) -> int:
    """A map, and what needs all of it."""
    one.with_options(name="beside")(0)
    return total(square.map(each(xs)))


@task(retry=Retry(2, backoff=0.2, jitter=False))
async def unlucky(x: int) -> int:
    calls.append("unlucky")
    if len(calls) < 2:
        message = "no luck"
        raise OSError(message)
    return x


# --- nodes elsewhere: they count in a file --------------------------------------------------------


def mark(ledger: str, context: NodeContext) -> None:
    """One line: key and attempt."""
    file = os.open(ledger, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, f"{context.node} {context.attempt}\n".encode())
    finally:
        os.close(file)


@task(backend="subprocess")
def apart(ledger: str, x: int, context: NodeContext = Provided(NodeContext)) -> int:
    mark(ledger, context)
    return x + 1


@task(backend="process")
def warm(ledger: str, x: int, context: NodeContext = Provided(NodeContext)) -> int:
    mark(ledger, context)
    return x + 1


@graph
def away(ledger: str) -> int:
    """One node in a process of its own, one in a warm worker."""
    return warm(ledger, apart(ledger, 1))


@task
def rich(ledger: str, context: NodeContext = Provided(NodeContext)) -> dict[str, list[str]]:
    """Large, and looked into."""
    mark(ledger, context)
    return {"texts": ["x" * LARGE, "y" * LARGE]}


@task
def written(ledger: str, context: NodeContext = Provided(NodeContext)) -> File:
    mark(ledger, context)
    path = context.folder / "kept.txt"
    path.write_text("z" * LARGE)
    return File(path)


@task
def pair(ledger: str, context: NodeContext = Provided(NodeContext)) -> tuple[int, str]:
    mark(ledger, context)
    return 3, "three"


@task(backend="subprocess")
def lengths(
    ledger: str, text: str, kept: File, context: NodeContext = Provided(NodeContext)
) -> int:
    mark(ledger, context)
    return len(text) + len(kept.path.read_text())


@graph
def values(ledger: str) -> list[object]:
    """Blobs, files and projections, read by nodes of several backends."""
    texts = rich(ledger)["texts"]
    kept = written(ledger)
    number, word = pair(ledger)
    return [lengths(ledger, texts[1], kept), number, word, kept]


@task
async def asks(db: str = Provided("db")) -> str:
    return f"{db}!"


@graph
def provided(x: int) -> list[object]:
    """A node that takes a live object."""
    first = one(x)
    return [first, asks.with_options(after=[first])()]


@graph
def napping() -> None:
    """Never ends by itself."""
    first = one(0)
    sleep.with_options(after=[first])()


@task
async def sleep() -> None:
    calls.append("sleep")
    await anyio.sleep_forever()
