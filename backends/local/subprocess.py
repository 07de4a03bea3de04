"""The `subprocess` backend: a process per attempt, for programs and for Python functions.

Rule of this room: puts the parts together; each part says in its own file what it does.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager

import anyio
from pydantic import Field

from onready.backends.local import leftovers
from onready.backends.local.host import Host, open_host
from onready.backends.local.machine import cpu_count
from onready.backends.local.node import run_node
from onready.backends.local.shell import run_shell
from onready.backends.results import recorded
from onready.engine.errors import BackendError, Failure
from onready.engine.plugin import PluginConfig
from onready.engine.spi import Attempt, Call, Capabilities, Labels, Lost, Outcome, Reporter


class SubprocessBackend:
    """A `Backend`. Programs run as they are; functions through the one-node command.

    What a driver that was killed leaves running is found again by marks in its environment, and
    ended: by `recover` the processes of one attempt, by `sweep` those of unwanted ones.
    """

    def __init__(self, host: Host, limit: int | None = None) -> None:
        self.capabilities: Capabilities = Capabilities(
            shell=True, logs=True, concurrency=limit if limit is not None else cpu_count()
        )
        self._host = host
        self._live: set[str] = set()

    async def execute(self, attempt: Attempt, report: Reporter) -> Outcome:
        """See `Backend`."""
        work = attempt.work
        if attempt.name in self._live:
            message = f"{attempt.name} runs already"
            raise BackendError(message)
        self._live.add(attempt.name)
        try:
            if isinstance(work, Call):
                return await run_node(self._host, work, attempt, report)
            return await run_shell(self._host, work, attempt, report)
        finally:
            self._live.discard(attempt.name)

    async def recover(self, attempt: Attempt, report: Reporter) -> Outcome | None:
        """End what is left of the attempt; the outcome that it has committed, or None."""
        gone = await anyio.to_thread.run_sync(
            lambda: leftovers.end(leftovers.of_attempt(attempt.name), attempt.grace)
        )
        if isinstance(attempt.work, Call):
            committed = await recorded(attempt, attempt.catalog, report)
            if committed is not None:
                return committed
        if gone:
            return None
        message = "its process is still there and does not end"
        return Lost(Failure("lost", message, node=str(attempt.key), attempt=attempt.number))

    async def sweep(self, keep: Callable[[Labels], bool]) -> int:
        """End the processes of attempts that `keep` does not want; how many attempts."""

        def sweep() -> int:
            found = leftovers.unwanted(keep)
            for those in found.values():
                leftovers.end(those, 0.0)
            return len(found)

        return await anyio.to_thread.run_sync(sweep)


class SubprocessConfig(PluginConfig):
    """A process per node on this machine: the default of `shell` nodes."""

    limit: int | None = Field(default=None, ge=1)
    """Processes at once at most; the default is the number of processors."""

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[SubprocessBackend]:
        """The backend; on exit its thread has ended."""
        host = await open_host()
        try:
            yield SubprocessBackend(host, self.limit)
        finally:
            await host.close()
