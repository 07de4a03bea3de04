"""How an attempt speaks from inside a worker: its context, progress, output, scratch folder.

Rule of this room: everything here is called from user code, in any thread of the worker.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final, Literal

import msgspec

from onready.engine.context import NodeContext
from onready.engine.names import NodeKey

PROGRESS_VARIABLE: Final = "ONREADY_PROGRESS_FD"
"""Descriptor on which a worker writes its progress, one JSON array a line, where it is set."""
PIPE_VARIABLE: Final = "ONREADY_PROGRESS_PIPE"
"""Path of a named pipe for the same, where no descriptor can be handed over."""
_LONGEST: Final = 1 << 20
"""Bytes after which a line that does not end is no report of ours."""


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of `data`, however often the system takes a part of it."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


class WorkerReporter:
    """A `Reporter` inside the worker: output goes to its own streams, progress to `tell`."""

    def __init__(self, tell: Callable[[float | None, str], None]) -> None:
        self._tell = tell

    def started(self, handle: str) -> None:
        """Nothing: whoever started the worker knows."""

    def log(self, stream: Literal["stdout", "stderr"], data: bytes) -> None:
        """Write to the process's stream, after what Python still holds back."""
        target = sys.stdout if stream == "stdout" else sys.stderr
        target.flush()
        write_all(1 if stream == "stdout" else 2, data)

    def progress(self, fraction: float | None, message: str) -> None:
        """Tell the driver."""
        self._tell(fraction, message)

    def warning(self, code: str, message: str) -> None:
        """Say it on stderr."""
        self.log("stderr", f"onready: {code}: {message}\n".encode())

    def tail(self, lines: int) -> tuple[str, ...]:  # noqa: ARG002 - the protocol's
        """Nothing: the driver keeps the output."""
        return ()


class WorkerSource:
    """Makes the context of the one attempt that a worker runs; a `ContextSource`."""

    def __init__(self, run: str, folder: Path, tell: Callable[[float | None, str], None]) -> None:
        self.run = run
        self._folder = folder
        self._reporter = WorkerReporter(tell)
        self.asked = False
        """Whether the attempt has had a way to make its scratch folder."""

    def node_context(self, key: NodeKey, attempt: int) -> NodeContext:
        """The context of the attempt."""
        self.asked = True
        return NodeContext(self.run, key, attempt, self._folder, self._reporter)

    def remove_folder(self) -> None:
        """Remove the scratch folder, if it was made."""
        if self._folder.is_dir():
            shutil.rmtree(self._folder, ignore_errors=True)


class ProgressLines:
    """In the driver: puts together what comes out of a progress descriptor."""

    def __init__(self, tell: Callable[[float | None, str], None]) -> None:
        self._tell = tell
        self._rest = b""

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest if len(rest) <= _LONGEST else b""
        for line in lines:
            with suppress(msgspec.DecodeError):  # the user's own code may write there
                self._tell(*_read_line(line))


def progress_line(fraction: float | None, message: str) -> bytes:
    """One report of progress, as it goes through a descriptor."""
    return msgspec.json.encode((fraction, message)) + b"\n"


_read_line: Final = msgspec.json.Decoder(tuple[float | None, str]).decode


def tell_by_variable(fraction: float | None, message: str) -> None:
    """Progress to whoever gave a descriptor or a pipe for it; else as a line on stderr."""
    line = progress_line(fraction, message)
    descriptor = os.environ.get(PROGRESS_VARIABLE, "")
    if descriptor.isdigit():
        write_all(int(descriptor), line)
        return
    pipe = os.environ.get(PIPE_VARIABLE, "")
    if pipe and _into_pipe(pipe, line):
        return
    shown = "" if fraction is None else f" {fraction:.0%}"
    sys.stderr.write(f"onready: progress{shown} {message}".rstrip() + "\n")


def _into_pipe(path: str, line: bytes) -> bool:
    """Whether somebody reads there and has the line now."""
    try:
        # Without waiting for a reader; one that is there is waited for, as with any output.
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            os.set_blocking(descriptor, True)
            write_all(descriptor, line)
        finally:
            os.close(descriptor)
    except OSError:
        return False
    return True
