"""Work for contract suites: functions and programs whose effects a test can see.

A worker anywhere imports them by reference, so a backend needs nothing but onready installed
where its attempts run. As a program: `python -m onready.engine.testing.work NAME ARGUMENT...`.

Rule of this room: no import of pytest; effects go only to the paths that are given.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Final, Literal

_ORPHAN: Final = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
with open(sys.argv[1], "a") as pids:
    print(os.getpid(), file=pids)
time.sleep(600)
"""
DEADLINE: Final = 600.0
"""Seconds after which waiting work gives up by itself, should nobody stop it."""


def echo(value: object) -> object:
    """The value itself."""
    return value


def fail(message: str) -> None:
    """Raise a ValueError."""
    raise ValueError(message)


def leave(code: int) -> None:
    """End the process at once with an exit code."""
    os._exit(code)


def crash() -> None:  # pragma: no cover - nothing is written after SIGKILL
    """End the process by SIGKILL, as the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)
    time.sleep(DEADLINE)


def written(stream: Literal["stdout", "stderr"], count: int) -> bytes:
    """What `write(count)` leaves on a stream: text, bytes that are no text, no last newline."""
    lines = (f"{stream} {number} ".encode() + bytes(range(256)) for number in range(count))
    return b"\n".join(lines)


def write(count: int) -> None:
    """Write `count` lines to both streams, through Python's streams and past them."""
    parts = {stream: written(stream, count) for stream in ("stdout", "stderr")}
    for start in range(0, max(map(len, parts.values())), 4096):
        for stream, number in (("stdout", 1), ("stderr", 2)):
            part = parts[stream][start : start + 4096]
            if start % 8192:
                target = sys.stdout if stream == "stdout" else sys.stderr
                target.buffer.write(part)
                target.flush()
            else:
                _write_all(number, part)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def note(ledger: str, gate: str) -> int:
    """Add a line to the file `ledger`, wait until the file `gate` exists, return the pid."""
    with Path(ledger).open("a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
    end = time.monotonic() + DEADLINE
    while not Path(gate).exists() and time.monotonic() < end:
        time.sleep(0.01)
    return os.getpid()


def hang(pids: str) -> None:  # pragma: no cover - as above
    """Start a child that ignores TERM, write both process ids to the file `pids`, never return."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", _ORPHAN, pids], stdin=subprocess.DEVNULL)
    with Path(pids).open("a", encoding="utf-8") as file:
        file.write(f"{os.getpid()}\n")
    child.wait(DEADLINE)


def main(arguments: list[str]) -> int:
    """Run one of these functions as a program; its result goes to standard output."""
    name, *rest = arguments
    match name:
        case "echo":
            sys.stdout.write("\0".join(rest))
        case "write":
            write(int(rest[0]))
        case "leave":
            return int(rest[0])
        case "note":
            sys.stdout.write(str(note(*rest)))
        case "hang":  # pragma: no cover - as above
            hang(*rest)
        case _:
            sys.stderr.write(f"no such work: {name!r}\n")
            return 2
    return 0


if __name__ == "__main__":  # pragma: no cover - programs are started, and many are killed
    sys.exit(main(sys.argv[1:]))
