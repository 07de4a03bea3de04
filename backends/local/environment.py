"""The environment of children: the driver's, what the attempt adds, and the marks of the attempt.

Rule of this room: texts in, `NAME=value` bytes out.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import msgspec

from onready.backends.local import sessions
from onready.engine.spi import Attempt, Labels


class Environment:
    """The driver's environment, kept in the form that a child gets."""

    def __init__(self) -> None:
        self._variables: dict[bytes, bytes] = {}
        self._pairs: list[bytes] = []

    def with_(self, more: Mapping[str, str]) -> list[bytes]:
        """The variables as they are now, and these; ValueError for a NUL character."""
        current = _variables()
        if current != self._variables:
            self._variables = dict(current)
            self._pairs = [b"%s=%s" % pair for pair in current.items()]
        pairs = self._pairs
        added = {os.fsencode(name): os.fsencode(value) for name, value in more.items()}
        if not added.keys().isdisjoint(self._variables):
            # The first of two wins with most programs, so there must not be two.
            kept = {name: value for name, value in current.items() if name not in added}
            pairs = [b"%s=%s" % pair for pair in kept.items()]
        new = [b"%s=%s" % pair for pair in added.items()]
        if any(b"\0" in pair for pair in new):
            message = "an environment variable with a NUL character"
            raise ValueError(message)
        return pairs + new


def _variables() -> Mapping[bytes, bytes]:
    # The dictionary below `os.environ`: to compare it costs nothing beside copying the former.
    raw: object = getattr(os.environ, "_data", None)
    return raw if isinstance(raw, dict) else dict(os.environb)


def marks(attempt: Attempt) -> dict[str, str]:
    """The variables by which a process of an attempt is found again."""
    labels = Labels(attempt.run, str(attempt.key), attempt.number, attempt.epoch)
    return {
        sessions.ATTEMPT_VARIABLE: attempt.name,
        sessions.LABELS_VARIABLE: msgspec.json.encode(labels).decode(),
        sessions.DRIVER_VARIABLE: sessions.driver(),
    }
