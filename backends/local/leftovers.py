"""What a driver that died has left running: found by the marks in its environment, and ended.

Rule of this room: /proc and signals, in a thread. A process is ours only if it carries our marks,
and it is signalled only while it still is the one that was looked at.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Final

import msgspec

from onready.backends.local import sessions
from onready.backends.local.sessions import (
    ATTEMPT_VARIABLE,
    DRIVER_VARIABLE,
    LABELS_VARIABLE,
    Process,
)
from onready.engine.spi import Labels

_PATIENCE: Final = 5.0
_PAUSE: Final = 0.02


def of_attempt(name: str) -> list[Process]:
    """The processes of the attempt with this dispatch name."""
    return [one for one, marks in _marked() if marks.get(ATTEMPT_VARIABLE) == name]


def unwanted(keep: Callable[[Labels], bool]) -> dict[str, list[Process]]:
    """Processes by attempt, of attempts whose driver is dead and that `keep` does not want."""
    found: dict[str, list[Process]] = {}
    for one, marks in _marked():
        name = marks.get(ATTEMPT_VARIABLE, "")
        if not name or sessions.is_alive(marks.get(DRIVER_VARIABLE, "")):
            continue
        try:
            labels = msgspec.json.decode(marks.get(LABELS_VARIABLE, ""), type=Labels)
        except msgspec.DecodeError:
            continue
        if not keep(labels):
            found.setdefault(name, []).append(one)
    return found


def _marked() -> list[tuple[Process, dict[str, str]]]:
    me = os.getpid()
    others = [one for one in sessions.processes() if one.pid != me]
    return [(one, marks) for one in others if (marks := sessions.marks(one.pid))]


def end(those: list[Process], grace: float) -> bool:
    """TERM, `grace` seconds, KILL; whether all are gone."""
    sessions.signal_processes(those, signal.SIGTERM)
    if _gone(those, grace):
        return True
    sessions.signal_processes(those, signal.SIGKILL)
    return _gone(those, _PATIENCE)


def _gone(those: list[Process], patience: float) -> bool:
    until = time.monotonic() + patience
    while any(sessions.process(one.pid) == one for one in those):
        if time.monotonic() >= until:
            return False
        time.sleep(_PAUSE)
    return True
