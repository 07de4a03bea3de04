"""A docker backend on a fake daemon that does wrong, for the tests of its faults.

Rule of this room: what those tests share; the faults are in `tests/docker/fake/faults.py`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import anyio

from onready.backends.docker.backend import DockerBackend, DockerConfig
from onready.engine.spi import Attempt, Outcome, Shell
from onready.engine.testing.fakes import RecordingReporter
from onready.engine.values.codec import load_plugins
from tests.backends.kit import Bench, directory
from tests.docker.engines import SHELL
from tests.docker.fake.api import Daemon
from tests.docker.fake.containers import Container
from tests.docker.fake.server import served

load_plugins()  # as an engine does, before there is an event loop


class Room(Bench):
    """A bench with a fake daemon, and with a backend on it."""

    daemon: Daemon
    backend: DockerBackend

    def script(self, text: str, **options: object) -> Attempt:
        """An attempt whose container runs this shell script."""
        made = self.attempt(Shell(("sh", "-c", text), image=SHELL))
        return replace(made, options=options) if options else made

    async def run(self, attempt: Attempt, report: RecordingReporter | None = None) -> Outcome:
        """The outcome of an attempt."""
        return await self.backend.execute(attempt, report or RecordingReporter())

    def plant(self, name: str, labels: Mapping[str, str]) -> Container:
        """A container that somebody else has made and not started."""
        body = {"Image": SHELL, "Entrypoint": ["true"], "Labels": labels}
        made = Container(name, body, self.daemon.folder, forgetful=True)
        self.daemon.containers[made.id] = made
        return made

    async def gone(self) -> None:
        """Wait until no container is there: they are removed while the backend goes on."""
        with anyio.fail_after(60):
            while self.daemon.containers:
                await anyio.sleep(0.02)

    def check(self) -> None:
        """Whatever went wrong: nothing is left, and nothing was started twice."""
        assert not self.daemon.containers
        assert max(self.daemon.starts.values(), default=1) == 1, self.daemon.starts


@asynccontextmanager
async def make_room(
    folder: Path, *, api: str = "1.41", least: str = "1.12", **settings: object
) -> AsyncGenerator[Room]:
    """A room that is checked at a good end; who wants short deadlines says so.

    Daemon and client share one loop: on a busy machine a short deadline is over before the daemon
    had its turn.

    Not a fixture: the tasks of its connections must end within the test.
    """
    given = {"deadline": 10.0, "start_deadline": 20.0, "patience": 30.0, **settings}
    config = DockerConfig.model_validate({"image": SHELL, **given})
    async with (
        served(folder / "fake", api=api, least=least) as daemon,
        directory(folder) as catalog,
    ):
        room = Room(catalog, folder)
        room.daemon = daemon
        async with config.model_copy(update={"host": daemon.host}).open() as room.backend:
            yield room
        room.check()
