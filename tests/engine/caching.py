"""Cached tasks for the tests, and catalogs that go wrong on purpose."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Literal

import anyio

from onready import File, NodeContext, Provided, each, graph, task
from onready.engine.events import AnyEvent, BackendWarning, NodeCached
from onready.engine.run import Run
from onready.engine.spi import Access, Catalog
from onready.storage.memory import MemoryCatalog
from tests.engine import work

BIG = 60_000


@task(cache=True)
async def square(x: int) -> int:
    work.calls.append(f"square {x}")
    return x * x


@task(cache=True)
async def slow_square(x: int) -> int:
    work.calls.append(f"begin {x}")
    await anyio.sleep(0.05)
    work.calls.append(f"end {x}")
    return x * x


@task(cache=True)
async def stuck(x: int) -> int:
    """The first one waits to be cancelled."""
    work.calls.append("stuck")
    if len(work.calls) == 1:
        await anyio.sleep_forever()
    return x


@task(cache=True)
async def fails_first(x: int) -> int:
    work.calls.append("tried")
    await anyio.sleep(0.02)
    if len(work.calls) == 1:
        message = "the first one fails"
        raise OSError(message)
    return x


@task(cache=True)
async def counted(name: str) -> int:
    """Says how often it ran."""
    work.calls.append(name)
    return len(work.calls)


@task(cache=True)
def mark(path: str, x: int) -> int:
    """Leaves a mark wherever it runs."""
    with Path(path).open("a") as file:
        file.write(f"{x}\n")
    return x + 1


@task(cache=True)
def large(x: int) -> bytes:
    work.calls.append("large")
    return bytes([x]) * BIG


@task(cache=True)
def written(x: int, context: NodeContext = Provided(NodeContext)) -> File:
    work.calls.append("written")
    file = context.folder / "out.txt"
    file.write_text(str(x))
    return File(file)


@task(cache=True)
async def with_default(x: int, add: int = 10) -> int:
    work.calls.append("default")
    return x + add


@task
async def pair(x: int) -> dict[str, list[int]]:
    return {"a": [x, x], "b": [0]}


class Handle:
    """A live object: no codec has a form for it."""


@task
async def opened() -> object:
    return Handle()


@task(cache=True)
async def uses(handle: object) -> int:
    work.calls.append("uses")
    return 1


@task(cache=True)
async def makes(x: int) -> object:
    work.calls.append("makes")
    return Handle()


@graph
def squares(xs: list[int]) -> list[int]:
    return square.map(each(xs))


@graph
def slow_squares(xs: list[int]) -> list[int]:
    return slow_square.map(each(xs))


@graph
def of_a_part(x: int) -> int:
    """Its input is a part of another node's value."""
    return square(pair(x)["a"][1])


@graph
def of_a_live_object() -> int:
    return uses(opened())


async def events_of(run: Run[object]) -> list[AnyEvent]:
    return [event async for event in run.events()]


async def origins(run: Run[object]) -> dict[str, str]:
    """The nodes that came from the cache, and the runs that they are of."""
    events = await events_of(run)
    return {str(e.node): e.origin for e in events if isinstance(e, NodeCached)}


async def warnings(run: Run[object]) -> list[str]:
    events = await events_of(run)
    return [e.message for e in events if isinstance(e, BackendWarning) and e.code == "cache"]


Hook = Callable[[str], Awaitable[None]]


async def _nothing(name: str) -> None:
    """Let it be."""


class HookedCatalog:
    """A catalog over another one that asks a hook before it reads or creates a record."""

    def __init__(
        self,
        inner: Catalog | None = None,
        *,
        reading: Hook = _nothing,
        creating: Hook = _nothing,
    ) -> None:
        self.inner: Catalog = inner or MemoryCatalog()
        self.durable = self.inner.durable
        self.reading = reading
        self.creating = creating

    async def put(self, content: bytes | Path) -> str:
        return await self.inner.put(content)

    async def get(self, digest: str) -> bytes:
        return await self.inner.get(digest)

    async def fetch(self, digest: str, target: Path) -> None:
        await self.inner.fetch(digest, target)

    async def put_if_absent(self, name: str, content: bytes) -> bool:
        await self.creating(name)
        return await self.inner.put_if_absent(name, content)

    async def read(self, name: str) -> bytes:
        await self.reading(name)
        return await self.inner.read(name)

    async def remove(self, name: str) -> bool:
        return await self.inner.remove(name)

    async def list(self, prefix: str) -> Sequence[str]:
        return await self.inner.list(prefix)

    def access(self, where: Literal["host", "container", "cluster"]) -> Access:
        return self.inner.access(where)
