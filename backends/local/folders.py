"""Working folders for programs: private, empty, and used again.

Making and removing a folder costs a journaling file system a sixth of what a short program costs
altogether. So folders are made a few at a time, by the pump, and one that its program has not
touched serves the next.

Rule of this room: the loop only takes, gives back and looks at a descriptor; what touches the
disk runs in the pump. A folder that was touched is never used again.
"""

from __future__ import annotations

import itertools
import os
import shutil
import stat
import time
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from onready.backends.local.machine import make_private
from onready.backends.local.pump import Pump

_BATCH: Final = 4
_KEPT: Final = 16
"""Folders of one run that wait for their next program."""
_SETTLED: Final = 50_000_000
"""Nanoseconds after which a change shows in a folder's time, however coarse the clock for it is."""
_numbers: Final = itertools.count(1)


@dataclass(slots=True)
class Folder:
    """One folder; `descriptor` keeps an eye on it. `changed` is its time when it was empty."""

    path: str
    descriptor: int
    changed: int
    watched: bool = False
    """Whether a change since it was taken would show."""

    def is_untouched(self) -> bool:
        """Whether nothing was made or removed in it since it was taken, for sure."""
        return self.watched and self._is_as(os.fstat(self.descriptor))

    def is_empty(self) -> bool:
        """In the pump: the same, by looking into it."""
        left = os.listdir(self.descriptor)  # noqa: PTH208 - by descriptor
        return self._is_as(os.fstat(self.descriptor)) and not left

    def _is_as(self, status: os.stat_result) -> bool:
        return (
            status.st_mtime_ns == self.changed
            and status.st_nlink > 0
            and stat.S_IMODE(status.st_mode) == 0o700
        )


class Folders:
    """The folders in one parent folder: a run's."""

    def __init__(self, parent: Path, pump: Pump) -> None:
        self.parent = parent
        self._pump = pump
        self._free: deque[Folder] = deque()
        self._owned = False
        self._closed = False

    async def take(self) -> Folder:
        """An empty folder (0700); OSError where there can be none."""
        while not self._free:
            await self._pump.ask(self._make)
        folder = self._free.popleft()
        folder.watched = time.time_ns() - folder.changed > _SETTLED
        return folder

    def _make(self) -> None:
        self._owned = self._owned or not self.parent.exists()
        for _ in range(_BATCH):
            # At once: whoever asked may have been cancelled, and then nobody takes a reply.
            self._free.append(_new(self.parent))

    def _remove(self, folder: Folder) -> None:
        os.close(folder.descriptor)
        shutil.rmtree(folder.path, ignore_errors=True)
        if self._owned:
            with suppress(OSError):
                self.parent.rmdir()  # this was the last one

    def give_back(self, folder: Folder) -> None:
        """The program has ended and its files are of no more use."""
        if folder.is_untouched() and len(self._free) < _KEPT:
            self._free.append(folder)
        else:
            self._pump.do(partial(self._look, folder))

    def _look(self, folder: Folder) -> None:
        # A new folder's first programs come too soon for its time to tell.
        if len(self._free) < _KEPT and folder.is_empty() and not self._closed:
            self._free.append(folder)
        else:
            self._remove(folder)

    def close(self) -> None:
        """Remove what is kept, soon."""
        self._pump.do(self._remove_free)

    def _remove_free(self) -> None:
        # In the pump's thread: whatever was asked for before is made by now.
        while self._free:
            self._remove(self._free.popleft())


def _new(parent: Path) -> Folder:
    path = parent / f"program-{os.getpid()}-{next(_numbers)}"
    make_private(path)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    changed = os.fstat(descriptor).st_mtime_ns
    return Folder(str(path), descriptor, changed)
