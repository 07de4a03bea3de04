"""Exit codes, and which error gives which.

Rule of this room: the only place that knows both numbers and errors.
"""

from __future__ import annotations

from typing import Final

from onready.engine.errors import EnvironmentFault, InternalError, OnreadyError, RunLeaseHeld

OK: Final = 0
FAILED: Final = 1
"""The run failed."""
USAGE: Final = 2
"""The command line, the configuration, the graph or its inputs are wrong; no such run."""
UNAVAILABLE: Final = 3
"""A backend or a store cannot be used now."""
INTERNAL: Final = 70
"""A fault of onready itself (EX_SOFTWARE)."""
CANCELLED: Final = 130
TERMINATED: Final = 143


class Exit(Exception):
    """Leave the command with this code; `text` goes to stderr as it is, where there is any."""

    def __init__(self, code: int, text: str = "") -> None:
        self.code = code
        self.text = text
        super().__init__(text)


class Usage(Exit):
    """The command line asks for something that cannot be: exit code 2."""

    def __init__(self, text: str) -> None:
        super().__init__(USAGE, text)


def code_of(error: OnreadyError) -> int:
    """The exit code for an error that ended a command."""
    if isinstance(error, EnvironmentFault | RunLeaseHeld):
        return UNAVAILABLE
    if isinstance(error, InternalError):
        return INTERNAL
    return USAGE
