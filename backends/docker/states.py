"""What a daemon's inspection says of a container, and how it ended.

Rule of this room: answers in, facts out; nothing is asked of a daemon.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, cast

from onready.backends.docker.client import Json, Unreachable

_NEVER: Final = "0001-01-01T00:00:00Z"
_STOPPED: Final = frozenset({"exited", "dead"})
_FRACTION: Final = re.compile(r"(\.\d{1,6})\d*")


@dataclass(frozen=True, slots=True)
class Ending:
    """How a container ended. `starved`: killed for want of memory.

    `unwatched`: while its daemon was gone, or nobody looked, it was stopped from outside or ended
    in a way that the daemon does not know. `started` and `finished` are UTC seconds, 0 where they
    are not known.
    """

    code: int
    starved: bool
    unwatched: bool
    error: str
    started: float
    finished: float


@dataclass(frozen=True, slots=True)
class View:
    """What inspection says."""

    container: str
    status: str
    started: bool
    labels: Mapping[str, object]
    _state: Mapping[str, object]

    @property
    def ended(self) -> bool:
        """Whether it ran, and does not run."""
        return self.started and self.status in _STOPPED

    @property
    def code(self) -> int:
        """Its exit code; 0 while it runs."""
        return int(cast("int", self._state.get("ExitCode") or 0))

    @property
    def starved(self) -> bool:
        """Whether it is known to have been killed for want of memory."""
        return bool(self._state.get("OOMKilled"))

    @property
    def error(self) -> str:
        """The daemon's words, where it could not run it."""
        return str(self._state.get("Error") or "")

    @property
    def begun(self) -> float:
        """When it was started: UTC seconds of the daemon's clock."""
        return _seconds(self._state.get("StartedAt"))

    @property
    def finished(self) -> float:
        """When it ended: UTC seconds of the daemon's clock."""
        return _seconds(self._state.get("FinishedAt"))


def view_of(found: Json) -> View:
    """An answer's meaning. Unreachable for one that has none."""
    try:
        state = cast("Mapping[str, object]", found["State"])
        config = cast("Mapping[str, object]", found["Config"])
        labels = cast("Mapping[str, object] | None", config.get("Labels"))
        container = str(found["Id"])
        started = str(state.get("StartedAt") or _NEVER) != _NEVER
    except (KeyError, TypeError, AttributeError) as error:
        message = f"Docker's answer tells nothing of the container: {str(found)[:200]}"
        raise Unreachable(message) from error
    return View(container, str(state.get("Status", "")), started, labels or {}, state)


def _seconds(stamp: object) -> float:
    try:
        # Nine digits of a second are more than Python reads.
        found = datetime.fromisoformat(_FRACTION.sub(r"\1", str(stamp))).timestamp()
    except ValueError:
        return 0.0
    return max(found, 0.0)
