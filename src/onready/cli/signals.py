"""Ctrl-C and SIGTERM: once is a graceful cancel, twice kills.

Signal handlers are Python's own and not the loop's, so that they work while a node blocks the
loop.

Rule of this room: says what it will do and asks for it; how a run is cancelled is the engine's.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType, TracebackType
from typing import Final, NoReturn, Self

from onready.cli.exits import CANCELLED, TERMINATED

HARD_EXIT: Final = 5.0
"""Seconds that a kill may take before the process goes away with all of its children."""


class Interrupts:
    """Watches SIGINT and SIGTERM while a run is driven.

    `first` and `second` are called in the loop at the first and the second signal. A third
    signal, or `HARD_EXIT` seconds after the second, ends the process and its children at once.
    """

    def __init__(self, first: Callable[[], None], second: Callable[[], None]) -> None:
        self._first = first
        self._second = second
        self._count = 0
        self._code = CANCELLED
        self._loop = asyncio.get_running_loop()
        self._before: dict[int, object] = {}
        self._timer: threading.Timer | None = None

    @property
    def happened(self) -> bool:
        """Whether a signal came."""
        return self._count > 0

    @property
    def code(self) -> int:
        """The exit code of a run that was cancelled: 143 where SIGTERM was first, else 130."""
        return self._code

    def __enter__(self) -> Self:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type] # what signal() itself gave

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        del frame
        self._count += 1
        if self._count == 1:
            if number == signal.SIGTERM:
                self._code = TERMINATED
            self._loop.call_soon_threadsafe(self._first)
        elif self._count == 2:
            self._loop.call_soon_threadsafe(self._second)
            self._timer = threading.Timer(HARD_EXIT, self._give_up)
            self._timer.daemon = True
            self._timer.start()
        else:
            self._give_up()

    @property
    def killing(self) -> bool:
        """Whether a second signal came."""
        return self._count > 1

    def leave(self) -> NoReturn:
        """End this process and all below it, now."""
        kill_children()
        sys.stdout.flush()
        os._exit(self._code)

    def _give_up(self) -> NoReturn:
        if sys.stderr.isatty():
            os.write(2, b"\x1b[?25h")  # the live picture hides the cursor
        os.write(2, b"\nonready: killed; the run did not end in order\n")
        kill_children()
        os._exit(self._code)


def kill_children() -> None:
    """SIGKILL to every process below this one, and to all in the sessions of those.

    What a node started is of its session even where its parent has died meanwhile.
    """
    import psutil

    below = {child.pid for child in psutil.Process().children(recursive=True)}
    sessions = {_session(pid) for pid in below} - {_session(0), 0}
    for pid in psutil.pids():
        if pid in below or _session(pid) in sessions:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)


def _session(pid: int) -> int:
    """The session of a process; 0 where it is gone."""
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0
