"""What the process backends of one engine share: the pump, the environment, the folders.

Rule of this room: opened and closed by a backend; looks at the machine in a thread.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections import OrderedDict
from pathlib import Path
from typing import Final

import anyio
import anyio.lowlevel

from onready.backends.local import sessions
from onready.backends.local.environment import Environment
from onready.backends.local.folders import Folders
from onready.backends.local.machine import oom_kills
from onready.backends.local.pump import Pump
from onready.backends.local.spawning import is_supported
from onready.engine.errors import BackendError

_CLOSE: Final = 0.0005
"""Seconds between two starts that happen in one turn of the loop, at most."""
_PARENTS: Final = 16
"""Runs whose folders are kept for further programs."""


class CannotStart(Exception):
    """The program could not be started, and that is the definition's fault."""


class Memory:
    """Notices when the kernel kills for want of memory. For threads."""

    def __init__(self) -> None:
        self._kills = oom_kills()

    def ran_out(self) -> bool:
        """Whether it has since this was last asked."""
        before, self._kills = self._kills, oom_kills()
        return self._kills > before


class Host:
    """The means to run children on this machine. Make it with `open_host`."""

    def __init__(self, pump: Pump, memory: Memory, folder: str) -> None:
        self.pump = pump
        self._folder = folder
        self._memory = memory
        self.environment = Environment()
        self._turns = anyio.Lock(fast_acquire=True)
        self._started = 0.0
        self._programs: dict[tuple[str, str | None], str] = {}
        self._folders: OrderedDict[Path, Folders] = OrderedDict()

    def folders(self, parent: Path) -> Folders:
        """The working folders in `parent`."""
        found = self._folders.get(parent)
        if found is None:
            found = self._folders[parent] = Folders(parent, self.pump)
            if len(self._folders) > _PARENTS:
                _, oldest = self._folders.popitem(last=False)
                oldest.close()
        return found

    def module_path(self) -> list[str]:
        """Where the driver finds modules, for a worker to find the same."""
        return [entry or self._folder for entry in sys.path]

    async def turn(self) -> None:
        """To be awaited before a child is started, and `started` called after it.

        Starting takes the loop a millisecond: of many starts at once each waits for a turn of
        the loop after the one before.
        """
        async with self._turns:
            if time.monotonic() - self._started < _CLOSE:
                await anyio.lowlevel.checkpoint()

    def started(self) -> None:
        """A child has been started, or could not be."""
        self._started = time.monotonic()

    async def memory_ran_out(self) -> bool:
        """Whether the kernel has killed for want of memory since this was last asked."""
        return await self.pump.ask(self._memory.ran_out)

    async def program(self, name: str, path: str | None) -> str:
        """The file that a command means: looked up once on PATH, and again if it is gone.

        `path` is the PATH to look on, the driver's where it is None. CannotStart where there is
        none. A name with a slash is left to the working folder.
        """
        if "/" in name:
            return name
        found = self._programs.get((name, path))
        if found is None:
            found = await self.pump.ask(lambda: _which(name, path))
            if found is None:
                message = f"command not found: {name!r} is not on PATH"
                raise CannotStart(message)
            self._programs[name, path] = found
        return found

    def forget_programs(self) -> None:
        """Look programs up again: one was not where it used to be."""
        self._programs.clear()

    async def close(self) -> None:
        """Remove folders, end the thread. No child may be left."""
        for folders in self._folders.values():
            folders.close()
        await self.pump.close()


async def open_host() -> Host:
    """Look at the machine; BackendError where children cannot be run as we need them."""
    memory, folder = await anyio.to_thread.run_sync(_look)
    return Host(Pump(), memory, folder)


def _which(name: str, path: str | None) -> str | None:
    found = shutil.which(name, path=path)
    return None if found is None else str(Path(found).absolute())


def _look() -> tuple[Memory, str]:
    if not is_supported():  # pragma: no cover - other systems
        message = (
            "child processes need Linux 5.4 with glibc 2.29 or musl 1.1.24, or newer; "
            f"this is {sys.platform}"
        )
        raise BackendError(message)
    sessions.driver()
    return Memory(), str(Path.cwd())
