"""A real terminal for a real process: what a person would see and press."""

from __future__ import annotations

import os
import re
import select
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

DEADLINE = 45.0
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """Runs `onready WORDS` with a pseudo-terminal as its controlling one."""

    def __init__(self, folder: Path, *words: str, **environment: str) -> None:
        self._master, slave = os.openpty()
        name = os.ttyname(slave)
        command = shlex.join([sys.executable, "-m", "onready", *words])
        # A session leader that opens a terminal gets it as its controlling terminal: so that
        # Ctrl-C is a signal, as it is for a person.
        self.process = subprocess.Popen(
            ["sh", "-c", f"exec {command} <{name} >{name} 2>&1"],
            cwd=folder,
            env=os.environ | {"TERM": "xterm", "COLUMNS": "100", "LINES": "30"} | environment,
            start_new_session=True,
        )
        self._slave = slave
        self.seen = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._master)
        os.close(self._slave)

    def press(self, keys: str) -> None:
        """Type something."""
        os.write(self._master, keys.encode())

    def _read(self, wait: float) -> None:
        if select.select([self._master], [], [], wait)[0]:
            self.seen += os.read(self._master, 65536).decode("utf-8", "replace")

    def until(self, happened: Callable[[], object]) -> None:
        """Wait for it, reading what is shown meanwhile."""
        end = time.monotonic() + DEADLINE
        while not happened():
            assert time.monotonic() < end, self.seen
            assert self.process.poll() is None, self.seen
            self._read(0.05)

    def shows(self, pattern: str) -> None:
        """Wait until it shows."""
        self.until(lambda: re.search(pattern, self.text))

    def wait(self) -> int:
        """The exit code."""
        end = time.monotonic() + DEADLINE
        while self.process.poll() is None:
            assert time.monotonic() < end, self.seen
            self._read(0.05)
        while select.select([self._master], [], [], 0.05)[0]:
            self._read(0)
        return self.process.returncode

    @property
    def text(self) -> str:
        """What was shown so far, without the escapes."""
        return ESCAPES.sub("", self.seen)
