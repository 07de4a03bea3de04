"""Crash points: named places, before and after every effect, where a test ends the process.

    ONREADY_CRASH_POINT=commit.before      exit with code 137 when it is passed the first time
    ONREADY_CRASH_POINT=commit.before:3    the third time, counted in each process
    ONREADY_CRASH_MARK=/path/of/a/file     only the process that creates this file exits

Children have the variables too, so that a worker dies as its driver would. The environment is
read once, at import; unless it names a point, passing one is the call of an empty function.

A new effect (a file that gets a name, a transaction, a process) gets a point before and after it:
a test reads the syntax trees. None is passed once per in-process node.

Rule of this room: imports nothing of ours; everybody may import it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from typing import Final

VARIABLE: Final = "ONREADY_CRASH_POINT"
MARK: Final = "ONREADY_CRASH_MARK"
CODE: Final = 137
"""The exit code, that of a process which was killed."""

_EFFECTS: Final[Mapping[str, str]] = {
    "append": "events go to the run log",
    "commit": "a transaction of the SQLite run log is committed, a record of one in files synced",
    "migrate": "the schema of the SQLite run log is made or changed",
    "lease.take": "the lease of a run is taken",
    "lease.renew": "the lease of a run is extended",
    "lease.release": "the lease of a run is given back",
    "file.create": "a file of a store is made, under the name that it keeps or a draft's",
    "file.sync": "the content of a draft, the header of a segment is made durable",
    "folder.sync": "the names in a folder of a store are made durable",
    "record.link": "a record of the catalog, a change of a lease gets its name, unless it is taken",
    "blob.rename": "a blob of the catalog, a summary of a run gets its name",
    "fetch.link": "a file that was fetched from the catalog gets its name",
    "spawn": "a process is started",
    "envelope": "the envelope of an attempt is written",
    "job": "a job is sent to a warm worker",
    "handle": "the start of an attempt outside of the process is reported",
    "stage": "a worker puts the large parts of its output into the catalog",
    "result": "a worker commits its result record",
}

POINTS: Final[Mapping[str, str]] = {
    f"{effect}.{moment}": f"{moment} {said}"
    for effect, said in _EFFECTS.items()
    for moment in ("before", "after")
}
"""Every crash point, and where it is."""


class Trap:
    """Ends the process at the `count`-th passing of one point; callable as `crash_point`."""

    def __init__(self, wanted: str, mark: str = "") -> None:
        """Set for `name` or `name:count`; ValueError where that is no point."""
        name, _, count = wanted.partition(":")
        if name not in POINTS:
            message = f"{VARIABLE} names no crash point: {wanted!r}"
            raise ValueError(message)
        self._name = name
        self._left = int(count) if count else 1
        self._mark = mark
        self._lock = threading.Lock()

    def __call__(self, name: str) -> None:
        """Pass the point `name`."""
        if name == self._name and self._is_due():
            os._exit(CODE)

    def _is_due(self) -> bool:
        with self._lock:
            self._left -= 1
            if self._left:
                return False
        if not self._mark:
            return True
        try:
            os.close(os.open(self._mark, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            return False
        return True


def _pass(name: str) -> None:
    """Nothing: no point is armed."""


def _armed() -> Callable[[str], None]:
    wanted = os.environ.get(VARIABLE, "")
    return Trap(wanted, os.environ.get(MARK, "")) if wanted else _pass


crash_point: Final[Callable[[str], None]] = _armed()
"""Pass a point: `crash_point("spawn.before")`. Ends the process where that one is armed."""
