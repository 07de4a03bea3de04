"""Names: the grammar of names, structured node keys, run ids and dispatch names.

Rule of this room: nothing of ours is imported here, and nothing here does I/O.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final, Self

NAME_PATTERN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}\Z")
RUN_ID_PATTERN: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
_SEGMENT: Final = re.compile(
    r"(?P<name>[A-Za-z_][A-Za-z0-9_.-]*)(?:\[(?P<index>[0-9]+)\]|\?(?P<arm>[A-Za-z0-9_.-]+))?\Z"
)


def is_name(text: str) -> bool:
    """Whether `text` may name a node, a graph, a backend or a pool."""
    return NAME_PATTERN.match(text) is not None


def is_run_id(text: str) -> bool:
    """Whether `text` may be the id of a run."""
    return RUN_ID_PATTERN.match(text) is not None


class NodeKey:
    """Scoped address of one node instance: `train/fold[3]/fit`, `gate?high/report`.

    A key is a chain of segments. A segment is a node name, plus the item's `index` where the
    node is a map or a repeat, or the chosen `arm` where it is a branch or a switch. The text is
    made only when somebody looks: the dispatch path carries keys and never prints them.

    Keys compare and hash by their segments. `parent` is the key of the enclosing scope, None at
    the top of a run.
    """

    __slots__ = ("_text", "arm", "index", "name", "parent")

    def __init__(
        self,
        name: str,
        parent: NodeKey | None = None,
        index: int | None = None,
        arm: str | None = None,
    ) -> None:
        self.name = name
        self.parent = parent
        self.index = index
        self.arm = arm
        self._text: str | None = None

    def child(self, name: str) -> NodeKey:
        """The key of node `name` inside the scope that this key names."""
        return NodeKey(name, self)

    def item(self, index: int) -> NodeKey:
        """The key of item `index` of the map or repeat that this key names."""
        return NodeKey(self.name, self.parent, index)

    def choose(self, arm: str) -> NodeKey:
        """The key of the arm `arm` of the branch or switch that this key names."""
        return NodeKey(self.name, self.parent, None, arm)

    def segment(self) -> str:
        """The last segment alone, as it is printed."""
        if self.index is not None:
            return f"{self.name}[{self.index}]"
        if self.arm is not None:
            return f"{self.name}?{self.arm}"
        return self.name

    def __str__(self) -> str:
        text = self._text
        if text is None:
            segment = self.segment()
            text = segment if self.parent is None else f"{self.parent}/{segment}"
            if self.index is None:
                # Printed keys of map items are not kept: a wide map would hold every one of them.
                self._text = text
        return text

    def __repr__(self) -> str:
        return f"NodeKey({str(self)!r})"

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if not isinstance(other, NodeKey):
            return NotImplemented
        return (
            self.name == other.name
            and self.index == other.index
            and self.arm == other.arm
            and self.parent == other.parent
        )

    def __hash__(self) -> int:
        return hash((self.name, self.index, self.arm, self.parent))

    @classmethod
    def parse(cls, text: str) -> Self:
        """The key that prints as `text`; ValueError if the text is not a key."""
        key: Self | None = None
        for part in text.split("/"):
            match = _SEGMENT.match(part)
            if match is None:
                message = f"not a node key: {text!r} (at {part!r})"
                raise ValueError(message)
            index = match["index"]
            key = cls(match["name"], key, int(index) if index is not None else None, match["arm"])
        if key is None:  # pragma: no cover - split always yields one part
            message = "an empty text is not a node key"
            raise ValueError(message)
        return key


def dispatch_name(run: str, key: NodeKey, attempt: int) -> str:
    """The external name of one attempt: the same for the same (run, key, attempt), always.

    `onready-` and 32 hexadecimal digits, 128 bits of a BLAKE2b hash: short enough for a
    Kubernetes Job (52), long enough that a million names do not clash.
    """
    text = f"{run}\0{key}\0{attempt}"
    return "onready-" + hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Location:
    """A place in somebody's source: shown as `file:line`."""

    file: str
    line: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"
