"""Making attempts by hand, for tests of backends."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import anyio

from onready.engine.errors import Failure
from onready.engine.names import NodeKey, dispatch_name
from onready.engine.options import Resources
from onready.engine.spi import Attempt, Call, Catalog, Failed, Outcome, Shell, Succeeded
from onready.engine.values import ValueType, bring, needs_bringing
from onready.engine.values.stored import Stored
from onready.storage.directory import DirectoryCatalog
from onready.storage.memory import MemoryCatalog

PATIENCE = 30.0
RUN = f"test-{os.environ['PYTEST_ONREADY_SESSION'][:8]}"
"""The run of all attempts: another one in each process that runs tests beside this one."""


class Bench:
    """Makes attempts with one catalog, in one folder."""

    def __init__(self, catalog: Catalog, folder: Path) -> None:
        self.catalog = catalog
        self.folder = folder
        self._count = 0

    def attempt(
        self,
        what: Callable[..., object] | Shell,
        inputs: Mapping[str, Stored] | None = None,
        *,
        grace: float = 0.2,
        codec: str = "",
    ) -> Attempt:
        self._count += 1
        key = NodeKey("node", None, self._count)
        work = (
            what
            if isinstance(what, Shell)
            else Call(f"{what.__module__}:{what.__qualname__}", codec)
        )
        name = dispatch_name(RUN, key, 1)
        return Attempt(
            run=RUN,
            key=key,
            number=1,
            epoch=1,
            name=name,
            backend="b",
            work=work,
            inputs=inputs or {},
            resources=Resources(),
            catalog=self.catalog,
            folder=self.folder / "work" / name,
            grace=grace,
            function=None if isinstance(what, Shell) else what,
        )

    async def value(self, outcome: Outcome | None) -> object:
        assert isinstance(outcome, Succeeded), outcome
        stored = outcome.value
        if needs_bringing(stored):
            stored = await bring(stored, self.catalog, self.folder / "brought")
        return ValueType.any().decode(stored)


def failure(outcome: Outcome | None) -> Failure:
    assert isinstance(outcome, Failed), outcome
    return outcome.failure


def memory(folder: Path) -> Bench:
    return Bench(MemoryCatalog(), folder)


def directory(folder: Path) -> DirectoryCatalog:
    return DirectoryCatalog(folder / "catalog")


async def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not await anyio.to_thread.run_sync(condition):
        assert time.monotonic() < end, "it did not come about"
        await anyio.sleep(0.005)


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b") ")[2][:1]
    except OSError:
        return False
    return state not in {b"Z", b"X"}
