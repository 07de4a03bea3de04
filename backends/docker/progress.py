"""Progress of Python nodes in containers: a named pipe in the attempt's folder.

The worker inside writes a line for each report, as it does on a descriptor elsewhere. Where the
pipe does not lead here (folders that come from another machine), or where nobody reads, it says so
on its stderr instead.

Rule of this room: one pipe, read by the loop; what a line means is `engine.worker.speaking`'s.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

import anyio

from onready.engine.spi import Reporter
from onready.engine.worker.speaking import ProgressLines

_MOST: Final = 65536


def place_pipe(path: Path) -> None:
    """Make the pipe; nothing where it is there, or where the file system knows no pipes."""
    with suppress(OSError):
        os.mkfifo(path, 0o600)


@asynccontextmanager
async def listening(path: Path, report: Reporter) -> AsyncGenerator[None]:
    """Report what comes through the pipe, to the last line that is in it at the end."""
    descriptor = await anyio.to_thread.run_sync(_open, path)
    if descriptor is None:
        yield
        return
    loop = asyncio.get_running_loop()
    lines = ProgressLines(report.progress)

    def read() -> bool:
        try:
            data = os.read(descriptor, _MOST)
        except BlockingIOError:
            return False
        lines.feed(data)
        return len(data) == _MOST

    try:
        loop.add_reader(descriptor, read)
        try:
            yield
        finally:
            loop.remove_reader(descriptor)
            while read():
                pass
    finally:
        os.close(descriptor)


def _open(path: Path) -> int | None:
    """The pipe, open at both ends, so that it never ends; None where there is none."""
    try:
        flags = os.O_RDWR | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(path, flags)
    except OSError:
        return None
    if stat.S_ISFIFO(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    return None
