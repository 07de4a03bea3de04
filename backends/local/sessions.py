"""Looking for processes by session and by the marks in their environment.

Rule of this room: reads /proc and sends signals, in a thread; it never waits.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

ATTEMPT_VARIABLE: Final = "ONREADY_ATTEMPT"
"""Marks every process of an attempt with its dispatch name."""
LABELS_VARIABLE: Final = "ONREADY_LABELS"
"""Marks them with run, node, attempt and epoch, as JSON."""
DRIVER_VARIABLE: Final = "ONREADY_DRIVER"
"""Marks them with the process that started them: `pid:began`."""
_MARKS: Final = frozenset({ATTEMPT_VARIABLE, LABELS_VARIABLE, DRIVER_VARIABLE})


class Process(NamedTuple):
    """A process, and when it began: the pair is not used twice."""

    pid: int
    group: int
    session: int
    began: int


def processes() -> Iterator[Process]:
    """All processes of this machine but zombies."""
    with os.scandir("/proc") as entries:
        pids = [int(entry.name) for entry in entries if entry.name.isdigit()]
    for pid in pids:
        found = process(pid)
        if found is not None:
            yield found


def process(pid: int) -> Process | None:
    """What is known of a process; None where it is gone, or a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name is in parentheses and may hold anything, parentheses too.
    fields = text[text.rindex(b")") + 2 :].split()
    if fields[0] in {b"Z", b"X"}:
        return None
    return Process(pid, int(fields[2]), int(fields[3]), int(fields[19]))


def members(session: int) -> list[Process]:
    """The live processes of a session."""
    return [one for one in processes() if one.session == session]


def kill(session: int) -> int:
    """KILL to every process of a session; how many there were."""
    alive = members(session)
    signal_processes(alive, signal.SIGKILL)
    return len(alive)


def signal_group(group: int, number: signal.Signals) -> None:
    """Send a signal to a process group; nothing where it is gone."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def signal_processes(those: list[Process], number: signal.Signals) -> None:
    """Send a signal to processes, if they still are who they were."""
    for one in those:
        if process(one.pid) == one:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(one.pid, number)


def marks(pid: int) -> dict[str, str]:
    """Our marks in the environment of a process; empty where it has none or is not ours to read."""
    try:
        data = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    found: dict[str, str] = {}
    for entry in data.split(b"\0"):
        if entry.startswith(b"ONREADY_"):
            name, _, value = entry.decode("utf-8", "replace").partition("=")
            if name in _MARKS:
                found[name] = value
    return found


@cache
def _driver(pid: int) -> str:
    me = process(pid)
    return f"{pid}:{me.began if me is not None else 0}"


def driver() -> str:
    """The mark of this process, for its children."""
    return _driver(os.getpid())


def is_alive(mark: str) -> bool:
    """Whether the driver of this mark still runs."""
    pid, _, began = mark.partition(":")
    found = process(int(pid)) if pid.isdigit() else None
    return found is not None and str(found.began) == began
