"""The `docker` backend: an attempt is a container.

Rule of this room: puts the parts together; each part says in its own file what it does.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import anyio
from pydantic import Field, field_validator

from onready.backends.docker.body import MARK, identity, log_driver, read_labels
from onready.backends.docker.client import Client, Refused, open_client
from onready.backends.docker.command import run_command
from onready.backends.docker.images import Images
from onready.backends.docker.node import run_node
from onready.backends.docker.options import NAMES, NodeOptions
from onready.backends.docker.removals import Removals
from onready.backends.docker.running import Desk
from onready.backends.results import config_failure, recorded
from onready.backends.threads import thread_limits
from onready.engine.errors import BackendError, SecretError
from onready.engine.failure import failure_from
from onready.engine.names import is_name
from onready.engine.plugin import PluginConfig
from onready.engine.spi import (
    Attempt,
    Call,
    Capabilities,
    Failed,
    Labels,
    Outcome,
    Reporter,
    Work,
)


class _Live:
    """An attempt that runs here: who asks for it again gets the same outcome."""

    def __init__(self, whose: Mapping[str, str]) -> None:
        self.whose = whose
        self.done = asyncio.Event()
        self.outcome: Outcome | None = None


class DockerBackend:
    """A `Backend`. Open it with `DockerConfig.open`."""

    def __init__(self, desk: Desk, client: Client, options: NodeOptions, limit: int) -> None:
        self.capabilities: Capabilities = Capabilities(
            shell=True,
            image=True,
            gpu=True,
            adopt=True,
            logs=True,
            concurrency=limit,
            options=NAMES,
            check=self.check,
        )
        self._desk = desk
        self._client = client
        self._options = options
        self._live: dict[str, _Live] = {}

    def check(self, own: Mapping[str, object], work: Work) -> str:
        """What is wrong with a node's options, or with what it lacks; "" for nothing."""
        try:
            options = self._options.changed(own)
        except ValueError as error:
            return f"cannot take its options: {error}"
        image = options.image if isinstance(work, Call) else work.image or options.image
        return (
            "" if image else "is given no image: say image=..., or image in the backend's settings"
        )

    async def execute(self, attempt: Attempt, report: Reporter) -> Outcome:
        """See `Backend`."""
        outcome = await self._once(attempt, report, rejoin=False)
        assert outcome is not None  # None is the word of `recover` alone
        return outcome

    async def recover(self, attempt: Attempt, report: Reporter) -> Outcome | None:
        """See `Backend`: its record, or its container, whatever that does."""
        return await self._once(attempt, report, rejoin=True)

    async def _once(self, attempt: Attempt, report: Reporter, *, rejoin: bool) -> Outcome | None:
        whose = identity(attempt)
        while (other := self._live.get(attempt.name)) is not None:
            if other.whose != whose:
                message = (
                    f"the name {attempt.name} is in use for another attempt: {dict(other.whose)} "
                    f"runs under it, and {whose} cannot"
                )
                raise BackendError(message)
            await other.done.wait()
            if other.outcome is not None:
                return other.outcome
        live = self._live[attempt.name] = _Live(whose)
        try:
            live.outcome = await self._run(attempt, report, rejoin=rejoin)
        finally:
            del self._live[attempt.name]
            live.done.set()
        return live.outcome

    async def _run(self, attempt: Attempt, report: Reporter, *, rejoin: bool) -> Outcome | None:
        problem = self.check(attempt.options, attempt.work)
        if problem:
            return Failed(config_failure(attempt, f"docker {problem}"))
        options = self._options.changed(attempt.options)
        try:
            work = attempt.work
            if isinstance(work, Call):
                outcome = await run_node(self._desk, work, options, attempt, report, rejoin=rejoin)
            else:
                outcome = await run_command(
                    self._desk, work, options, attempt, report, rejoin=rejoin
                )
        except SecretError as error:
            return Failed(failure_from(error, node=str(attempt.key), attempt=attempt.number))
        if outcome is None:
            # Its container has been removed already, or never was: the record says which.
            return await recorded(attempt, attempt.catalog, report)
        return outcome

    async def sweep(self, keep: Callable[[Labels], bool]) -> int:
        """See `Backend`: by label, whatever state they are in."""
        count = 0
        for found in await self._client.labelled(MARK):
            labels = read_labels(cast("Mapping[str, object]", found.get("Labels") or {}))
            if labels is None or keep(labels):
                continue
            try:
                await self._client.remove(str(found["Id"]), force=True)
            except Refused:
                continue  # it is going by itself, or cannot go: the next sweep sees it again
            count += 1
        return count


def cpu_count() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) or 1


class DockerConfig(PluginConfig, NodeOptions):
    """Containers of a Docker engine on this machine. Options of nodes set here hold for all."""

    host: str = ""
    """The daemon's socket, `unix:///run/docker.sock`; by default as the `docker` command finds
    it."""
    limit: int | None = Field(default=None, ge=1)
    """Containers at once at most; the default is twice the number of processors."""
    deadline: float = Field(default=10.0, gt=0)
    """Seconds that the daemon may take for a short answer."""
    start_deadline: float = Field(default=60.0, gt=0)
    """Seconds that it may take to create a container, and to start it."""
    patience: float = Field(default=60.0, ge=0)
    """Seconds for which a daemon that is away is waited for."""
    pull_silence: float = Field(default=120.0, gt=0)
    """Seconds without news after which a pull has failed."""
    login: dict[str, str] = Field(default_factory=dict)
    """Credentials of registries: by the registry's host (`default` for images without one) the
    name of a secret, whose value is a text `USER:PASSWORD`."""

    @field_validator("login")
    @classmethod
    def _login(cls, values: dict[str, str]) -> dict[str, str]:
        for host, name in values.items():
            if not is_name(name):
                message = f"{host}: {name[:80]!r} cannot name a secret"
                raise ValueError(message)
        return values

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[DockerBackend]:
        """The backend; BackendError where no daemon answers."""
        options = NodeOptions(**self.model_dump(include=set(NAMES)))
        folder = await anyio.to_thread.run_sync(lambda: str(Path.cwd()))
        async with open_client(self.host, self.deadline) as client:
            images = Images(client, self.login, self.pull_silence)
            cpus = cpu_count()
            limit = self.limit or 2 * cpus
            threads = thread_limits(cpus, limit)
            # Docker has the driver that we want since 2018, and is slow to say all of itself.
            docker = client.server.startswith("Docker/")
            log = log_driver({} if docker else await client.info())
            removals = Removals(limit, 3 * self.deadline)
            desk = Desk(
                client,
                images,
                removals,
                folder,
                self.start_deadline,
                self.patience,
                log,
                threads,
            )
            try:
                yield DockerBackend(desk, client, options, limit)
            finally:
                await removals.close()
