"""Judging where a node is: its scope, what it waits for, what becomes of what is inside.

Rule of this room: it reads records and the plan, and says what is wrong; it changes neither.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from onready.engine.events import ScopeOpened
from onready.engine.history.places import COUNTED, Places, bare
from onready.engine.history.record import FAILED, GOOD, Record
from onready.engine.names import NodeKey
from onready.engine.plan.model import PlanNode

Say = Callable[[str, str, str], None]
"""Takes the rule, the printed key and the text."""


class Scopes:
    """The scopes of one history. `places` is the plan that the run has now, where it is known."""

    def __init__(self, root: Record, records: Mapping[NodeKey, Record], say: Say) -> None:
        self._root = root
        self._records = records
        self._say = say
        self.places: Places | None = None

    def owner(self, key: NodeKey) -> Record | None:
        """The composite that the node is directly inside; None where nothing was heard of it."""
        if key.index is not None:
            return self._records.get(bare(key))
        parent = key.parent
        if parent is None:
            return self._root
        if parent.arm is not None:
            return self._records.get(bare(parent))
        return self._records.get(parent)

    # --- places -------------------------------------------------------------------------------

    def judge_place(self, key: NodeKey, *, skipped: bool = False) -> None:
        """Something happens to `key`: its scope is open, and it is in the part that was chosen."""
        if self.places is not None and self.places.node(key) is None:
            self._say("plan", str(key), "the plan has no such node")
            return
        owner = self.owner(key)
        if owner is None or not owner.opened:
            self._say("scope", str(key), "its scope has not been opened")
            return
        if not owner.open:
            self._say("scope", str(key), "its scope is closed")
        parent = key.parent
        arm = parent.arm if parent is not None else None
        if key.index is not None:
            if owner.count is None or key.index >= owner.count:
                self._say("order", str(key), f"beyond the count of its scope ({owner.count})")
        elif arm is not None and arm not in owner.arms and not skipped:
            self._say("arm", str(key), f"it is in no arm that was chosen ({owner.arms})")

    def judge_waits(self, key: NodeKey) -> None:
        """`key` begins: what it waits for has ended as it must."""
        places = self.places
        node = places.node(key) if places is not None else None
        if places is None or node is None or key.index is not None:
            return
        for position, other in zip(node.waits, places.siblings(key, node.waits), strict=True):
            record = self._records.get(other)
            end = record.end if record is not None else ""
            enough = bool(end) if node.always and position not in node.needs else end in GOOD
            if not enough:
                text = f"begins, and {other} {f'has {end}' if end else 'has not ended'}"
                self._say("dependency", str(key), text)

    # --- opening ------------------------------------------------------------------------------

    def judge_opening(self, record: Record, event: ScopeOpened, *, first: bool) -> None:
        """A composite opens: what it opens with is what its kind opens with.

        A retry goes on where it was: then it need not be the `first` of its arms or iterations.
        """
        node = self.places.node(event.node) if self.places is not None else None
        if node is None:
            return
        kind = "subgraph" if event.node.index is not None else node.kind
        arms = [arm.name for arm in node.arms]
        if kind == "task" or (kind in COUNTED) is not (event.count is not None):
            self._say("scope", record.name, f"a {kind} opens with the count {event.count}")
        elif kind == "repeat" and first and event.count != 1:
            self._say("order", record.name, f"its first iteration is number {event.count}")
        elif (event.arm or "") not in (arms or [""]):
            self._say("arm", record.name, f"opens with the arm {event.arm!r} of {arms}")
        elif kind == "rescue" and first and event.arm != "body":
            self._say("arm", record.name, "its handler comes before its body")

    def judge_reopening(self, record: Record, event: ScopeOpened) -> None:
        """It is open and opens again: a rescue's handler, or the next iteration of a repeat."""
        node = self.places.node(event.node) if self.places is not None else None
        kind = node.kind if node is not None else ""
        if event.arm == "handler" and record.arms == ["body"] and kind in {"", "rescue"}:
            self._judge_handler(record)
        elif event.arm is None and event.count is not None and kind in {"", "repeat"}:
            self._judge_iteration(record, event.count, node)
        else:
            self._say("scope", record.name, "opened twice")

    def _judge_handler(self, record: Record) -> None:
        body = [one for one in record.inside.values() if _arm(one) == "body"]
        if not any(one.end in FAILED for one in body):
            self._say("arm", record.name, "its handler begins, and its body has not failed")
        for one in body:
            if not one.end:
                self._say("arm", one.name, "the handler begins, and this of the body has not ended")

    def _judge_iteration(self, record: Record, count: int, node: PlanNode | None) -> None:
        if count != (record.count or 0) + 1:
            self._say("order", record.name, f"iteration {count} follows {record.count}")
        if node is not None and count > node.most:
            self._say("order", record.name, f"iteration {count} of at most {node.most}")
        last = record.key.item(count - 2) if record.key is not None else None
        one = record.inside.get(last) if last is not None else None
        if one is None or one.end not in GOOD:
            self._say(
                "order", record.name, f"iteration {count} begins, and the last has not succeeded"
            )

    def judge_limit(self, record: Record) -> bool:
        """Whether an open composite may fail by itself: a repeat between two iterations."""
        node = self.places.node(record.key) if self.places is not None and record.key else None
        may = record.count is not None if node is None else node.kind == "repeat"
        return may and all(one.end for one in record.inside.values())

    # --- verdicts -----------------------------------------------------------------------------

    def judge_success(self, record: Record) -> None:
        """A composite, or the run, is said to have succeeded: what is inside has."""
        node = None
        if self.places is not None and record.key is not None and record.key.index is None:
            node = self.places.node(record.key)
        tolerated = node is not None and node.tolerant
        # A rescue's value is its body's or its handler's; of other composites one arm was chosen.
        arms: list[str | None] = [*record.arms] or [None]
        wrong = [self._not_good(record, arm) for arm in arms]
        if not tolerated and all(wrong):
            one = wrong[-1][0]
            self._say(
                "verdict", record.name or one.name, f"succeeded, and {one.name} has {one.end}"
            )
        self._judge_complete(record)

    def _not_good(self, record: Record, arm: str | None) -> list[Record]:
        """What is in that arm and has ended badly; what has not ended is told elsewhere."""
        return [
            one
            for one in record.inside.values()
            if _arm(one) == arm
            and one.end
            and one.end not in GOOD
            # Whether a map tolerates that, the plan knows alone.
            and (self.places is not None or one.key is None or one.key.index is None)
        ]

    def _judge_complete(self, record: Record) -> None:
        places = self.places
        if places is None:
            return
        if record.key is None:
            members = places.inside(None)
        else:
            arm = record.arms[-1] if record.arms else None
            members = places.members(record.key, record.count, arm)
        for key in members:
            if key not in record.inside:
                self._say("verdict", record.name or str(key), f"succeeded, and {key} never ran")


def _arm(record: Record) -> str | None:
    """The arm of its composite that a node is in; None for items, and where there are no arms."""
    key = record.key
    parent = key.parent if key is not None and key.index is None else None
    return parent.arm if parent is not None else None
