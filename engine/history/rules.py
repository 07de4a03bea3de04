"""What histories are held to: the rules by name, and what is said of one that is broken.

Rule of this room: words only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

RULES: Final[Mapping[str, str]] = {
    "sequence": "numbers run from 1 without a gap",
    "run": "run.started comes first and once; a run ends once, and goes on only by a retry",
    "epoch": "each driver's epoch is above the one before",
    "attempts": "attempts count from 1, rise by one, begin once and end; an end names the last",
    "terminal": "a node ends once, and nothing of it begins afterwards",
    "rerun": "what succeeded never begins again, unless a retry was asked to redo it",
    "dependency": "a node begins when everything that it waits for has ended well",
    "scope": "scope.opened comes before all that is inside, scope.closed after it",
    "arm": "only the chosen arm runs; a handler after its body failed",
    "order": "items are below the count, iterations follow one another",
    "ended": "when a run ends, everything in it has ended",
    "verdict": "what is said of a scope or a run fits what became of its nodes",
    "plan": "events are about nodes that the plan has",
}
"""Every rule with what it asks for."""


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken rule: its name in `RULES`, the event's `seq`, the printed node key or ""."""

    rule: str
    seq: int
    node: str
    text: str

    def __str__(self) -> str:
        where = f" {self.node}" if self.node else ""
        return f"event {self.seq}{where}: {self.text} [{self.rule}]"
