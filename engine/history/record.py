"""What is known of one node at one point of a history.

Rule of this room: data, and questions about it; who judges is in `checker.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from onready.engine.names import NodeKey

GOOD: Final = frozenset({"succeeded", "cached"})
FAILED: Final = frozenset({"failed", "lost"})


@dataclass(slots=True, eq=False)
class Record:
    """One node, item or composite, as the events so far tell it.

    `attempt` is the newest one's number; it is `live` from its plan or start to its end. `end` is
    what the node came to, "" while that is open. A composite is `open` between its events; `again`
    says that a retry opened what is in it without an event, `stuck` that a repeat cannot go on.
    `segment` is the last one in which anything happened to it.
    """

    key: NodeKey | None
    attempt: int = 0
    live: bool = False
    planned: bool = False
    started: bool = False
    end: str = ""
    opened: bool = False
    open: bool = False
    again: bool = False
    stuck: bool = False
    arms: list[str] = field(default_factory=list)
    count: int | None = None
    segment: int = 0
    tries: int = 0
    """The segment in which it last had an attempt."""
    inside: dict[NodeKey, Record] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The printed key, "" for the run itself."""
        return str(self.key) if self.key is not None else ""

    def begin(self, attempt: int, segment: int) -> None:
        """Attempt `attempt` is planned, or has started."""
        self.attempt = max(self.attempt, attempt)
        self.live = True
        self.planned = self.started = False
        self.tries = segment

    def reset(self) -> None:
        """A retry runs it again."""
        self.end = ""
        self.live = self.stuck = False
        if self.opened:
            self.open = self.again = True
