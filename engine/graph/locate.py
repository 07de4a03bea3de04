"""Where the user wrote it: the frame that called us, and the place of a function.

Rule of this room: cheap. It runs once per node, so no `inspect.stack` and no source lines.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from onready.engine.names import Location

Where = tuple[str, int]
"""A file and a line: what each node keeps. A Location is made of it when somebody asks."""

_OURS: Final = str(Path(__file__).parent.parent) + "/"


def caller() -> Where:
    """The innermost frame outside the engine: the user's file and line."""
    frame = sys._getframe(1)
    while frame.f_code.co_filename.startswith(_OURS):
        outer = frame.f_back
        if outer is None:  # pragma: no cover - the engine is never the outermost frame
            break
        frame = outer
    return frame.f_code.co_filename, frame.f_lineno


def here() -> Location:
    """`caller()` as a Location, for an error that is about to be raised."""
    return Location(*caller())


def place_of(function: Callable[..., object]) -> Location | None:
    """Where `function` is defined; None for what has no Python code."""
    code = getattr(function, "__code__", None)
    if code is None:
        return None
    return Location(code.co_filename, code.co_firstlineno)
