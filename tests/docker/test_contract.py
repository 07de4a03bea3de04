"""The docker backend, on a real engine and on the fake one, under the contract that all keep.

What passes here on both makes the fake a legitimate one.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import ClassVar

import anyio
import pytest

from onready.backends.docker.backend import DockerConfig
from onready.backends.docker.code import mounts
from onready.engine.spi import Backend, Catalog
from onready.engine.testing import work
from onready.engine.testing.backend_suite import BackendSuite
from onready.storage.directory import DirectoryConfig
from tests.docker import engines, raw

pytestmark = [
    pytest.mark.may_block("the suite's own looks at files"),
    pytest.mark.timeout(180),
]


class _Containers(BackendSuite):
    """What both have in common: `host` is the daemon's address."""

    __test__ = False

    host: ClassVar[str]
    many = 8
    patience = 150.0

    def open_catalog(self, folder: Path) -> AbstractAsyncContextManager[Catalog]:
        return DirectoryConfig.from_address(str(folder / "catalog")).open()

    def open_backend(self, folder: Path) -> AbstractAsyncContextManager[Backend]:
        # Programs of the suite are Python too: what they need is mounted for all.
        machine = [f"{one.source}:{one.target}:ro" for one in mounts(str(Path.cwd()))]
        return DockerConfig(
            host=self.host,
            image=engines.PYTHON,
            code="mount",
            mounts=[*machine, f"{folder}:{folder}"],
            environment={"PYTHONPATH": ":".join(entry for entry in sys.path if entry)},
        ).open()

    def foreign_job(self) -> AbstractAsyncContextManager[Callable[[], Awaitable[bool]]]:
        return _foreign(self.host)

    async def test_cancel_kills_the_whole_group(self, tmp_path: Path) -> None:
        # As the suite's, but process ids inside are not those outside.
        async with self.stage(tmp_path) as stage:
            pids = tmp_path / "pids"
            attempt = await self.attempt(stage, work.hang, inputs={"pids": str(pids)})
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stage.run, attempt)
                await self._until(lambda: pids.exists() and len(pids.read_text().split()) == 2)
                assert _processes_with(str(pids))
                tasks.cancel_scope.cancel()
            assert not _processes_with(str(pids))
            assert not raw.names(self.host, name=[attempt.name])


class TestDocker(_Containers):
    """A real engine."""

    __test__ = True

    @pytest.fixture(autouse=True)
    def _engine(self, engine: str) -> None:
        type(self).host = engine


class TestFake(_Containers):
    """The fake: what holds here holds there."""

    __test__ = True

    @pytest.fixture(autouse=True)
    def _engine(self, fake: str) -> None:
        type(self).host = fake


def _processes_with(text: str) -> list[str]:
    found: list[str] = []
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if text.encode() in place.read_bytes():
                found.append(place.parent.name)
        except OSError:
            continue
    return found


@asynccontextmanager
async def _foreign(host: str) -> AsyncGenerator[Callable[[], Awaitable[bool]]]:
    def make() -> None:
        made = raw.create(host, "foreign", "sleep", "600", image=engines.SHELL)
        assert made.status == 201, made
        raw.call(host, "POST", "containers/foreign/start")

    def remove() -> None:
        raw.call(host, "DELETE", "containers/foreign", force=1)

    async def is_there() -> bool:
        found = await anyio.to_thread.run_sync(lambda: raw.state(host, "foreign"))
        return found["Running"] is True

    await anyio.to_thread.run_sync(make)
    try:
        yield is_there
    finally:
        await anyio.to_thread.run_sync(remove)
