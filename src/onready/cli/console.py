"""The two streams of a command: results on stdout, everything else on stderr.

Rule of this room: no rich (the live view has its own module); no words of its own.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import TextIO

from onready.cli.words import Style, paint


def wants_colour(stream: TextIO) -> bool:
    """Colours where a person looks: a terminal, `NO_COLOR` not set, or `FORCE_COLOR` set."""
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


class Console:
    """Writes whole lines; remembers per stream whether colours are wanted."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.stdout = sys.stdout
        self.stderr = sys.stderr
        self.out_colour = wants_colour(self.stdout)
        self.err_colour = wants_colour(self.stderr)

    def out(self, text: str) -> None:
        """A result: one or more lines to stdout, at once."""
        self.stdout.write(text + "\n")
        self.stdout.flush()

    def say(self, text: str) -> None:
        """A line about what happens, to stderr; nothing when quiet."""
        if not self.quiet:
            self.complain(text)

    def complain(self, text: str) -> None:
        """A line to stderr that is said even when quiet: failures, warnings."""
        self.stderr.write(text + "\n")
        self.stderr.flush()

    def err(self, text: str, style: Style) -> str:
        """`text` painted for stderr."""
        return paint(text, style, colour=self.err_colour)

    def paint(self, text: str, style: Style) -> str:
        """`text` painted for stdout."""
        return paint(text, style, colour=self.out_colour)

    @property
    def live(self) -> bool:
        """Whether stderr can show a picture that changes in place."""
        return not self.quiet and self.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"

    def tick(self) -> str:
        """The mark of success in stderr's encoding."""
        encoding = (getattr(self.stderr, "encoding", "") or "").lower()
        return "✓" if encoding.startswith("utf") else "+"


def terminal_width() -> int:
    """Columns of the terminal, 100 where there is none."""
    return shutil.get_terminal_size((100, 40)).columns
