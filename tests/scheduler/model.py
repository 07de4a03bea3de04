"""What DESIGN.md §3 and §4 say of readiness, ends, stops and cancellation, worked out naively.

Nothing is counted and nothing is queued: after each fact the whole tree is looked at again until
nothing changes. It is slow and plain, and written without a look at the scheduler's own way.

A stopped run's nodes that have not begun end without running. The scheduler comes to them in
pieces, and meanwhile facts arrive; so they are ended here only once it is `quiet`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from onready.engine.options import OnError
from onready.engine.plan.model import Fragment, Plan, PlanNode

BAD: Final = frozenset({"failed", "lost", "cancelled", "skipped"})


class Unit:
    """One instance of a node, or the run itself.

    `phase` is `idle`, `planned`, `running`, `pausing` (before a retry) or `ended`; `outcome` says
    how. `words` are the outcomes that are right for one that never ran.
    """

    def __init__(self, key: str, node: PlanNode | None, parent: Unit | None, *, kind: str) -> None:
        self.key = key
        self.node = node
        self.parent = parent
        self.kind = kind
        self.waits: list[Unit] = []
        self.children: list[Unit] | None = None
        self.phase = "idle"
        self.outcome = ""
        self.words: set[str] = set()
        self.attempt = 0

    @property
    def ready(self) -> bool:
        """Every wait ended well, and it has not begun."""
        return self.phase == "idle" and all(unit.outcome == "succeeded" for unit in self.waits)

    @property
    def blocked(self) -> bool:
        """Something that it needs ended badly."""
        return any(unit.outcome in BAD for unit in self.waits)

    @property
    def live(self) -> bool:
        return self.phase in {"planned", "running"}

    def enter(self, body: Fragment) -> None:
        """Make the nodes of the body."""
        self.phase = "running"
        prefix = f"{self.key}/" if self.key else ""
        made = [Unit(prefix + node.name, node, self, kind=node.kind) for node in body.nodes]
        for unit, node in zip(made, body.nodes, strict=True):
            unit.waits = [made[position] for position in node.waits]
        self.children = made

    def enter_items(self, count: int) -> None:
        """Make the items of the map."""
        assert self.node is not None
        self.phase = "running"
        kind = "task" if self.node.task is not None else "subgraph"
        self.children = [
            Unit(f"{self.key}[{at}]", self.node, self, kind=kind) for at in range(count)
        ]

    def end(self, *words: str) -> None:
        self.phase = "ended"
        self.words = set(words)
        self.outcome = words[0]


class Model:
    """One run."""

    def __init__(self, plan: Plan, on_error: OnError) -> None:
        self.on_error = on_error
        self.root = Unit("", None, None, kind="subgraph")
        self.root.enter(plan.root)
        self.cancel_asked = False
        self.failed: list[str] = []
        self._words: set[str] = set()
        self._unsure: list[Unit] = []
        self.settle(quiet=False)

    # --- looking ------------------------------------------------------------------------------

    def units(self) -> Iterator[Unit]:
        """Every unit, children before their parents."""
        yield from self._below(self.root)

    def _below(self, unit: Unit) -> Iterator[Unit]:
        for child in unit.children or ():
            yield from self._below(child)
        yield unit

    @property
    def stopped(self) -> bool:
        """Whether nothing new starts: something ended badly, or cancellation was asked for."""
        if self.cancel_asked:
            return True
        return self.on_error != "continue" and any(
            unit.outcome in {"failed", "lost", "cancelled"} for unit in self.units()
        )

    @property
    def cancelling(self) -> bool:
        """Whether what runs is to be stopped as well."""
        return self.cancel_asked or (self.on_error == "cancel" and self.stopped)

    def startable(self) -> set[str]:
        """Keys of the nodes that may begin now."""
        return set() if self.stopped else {unit.key for unit in self.units() if unit.ready}

    # --- facts --------------------------------------------------------------------------------

    def planned(self, unit: Unit, attempt: int) -> None:
        if unit.ready and attempt == unit.attempt + 1:
            unit.attempt = attempt
            unit.phase = "planned"

    def started(self, unit: Unit, attempt: int) -> None:
        self.planned(unit, attempt)
        if unit.phase == "planned" and attempt == unit.attempt:
            unit.phase = "running"

    def ended(self, unit: Unit, attempt: int, outcome: str) -> None:
        """An attempt's end, or the failure of a node that never had one (attempt 0)."""
        begun = unit.live and attempt == unit.attempt and unit.children is None
        if begun or (not attempt and unit.ready):
            unit.end(outcome)
            if outcome in {"failed", "lost"}:
                self.failed.append(unit.key)

    def retrying(self, unit: Unit, attempt: int) -> None:
        if unit.live and attempt == unit.attempt:
            unit.phase = "pausing"

    def due(self, unit: Unit, attempt: int) -> None:
        if unit.phase == "pausing" and attempt == unit.attempt:
            unit.phase = "idle"

    def opened(self, unit: Unit, count: int) -> None:
        if unit.ready and unit.children is None:
            assert unit.node is not None
            if unit.kind == "map":
                unit.enter_items(count)
            else:
                assert unit.node.body is not None
                unit.enter(unit.node.body)

    def cancel(self) -> None:
        self.cancel_asked = True
        for unit in self._unsure:
            # The scheduler may not have come to it yet: either may come first.
            unit.words.add("cancelled")

    # --- what follows -------------------------------------------------------------------------

    def settle(self, *, quiet: bool) -> None:
        """Work out everything that follows, until nothing changes."""
        changed = True
        while changed:
            changed = False
            for unit in self.units():
                before = unit.phase
                self._look_at(unit, quiet=quiet)
                changed = changed or unit.phase != before
        if quiet:
            self._words = set()
            self._unsure = []

    def _look_at(self, unit: Unit, *, quiet: bool) -> None:
        if self.stopped:
            self._words.add("cancelled" if self.cancelling else "skipped")
        if unit.children is not None and unit.phase == "running":
            if all(child.phase == "ended" for child in unit.children):
                unit.end(self._outcome(unit.children))
        elif self.on_error == "continue" and unit.phase == "idle" and unit.blocked:
            unit.end("skipped", *(["cancelled"] if self.cancel_asked else []))
            self._unsure.append(unit)
        if quiet and self.stopped and unit.phase in {"idle", "pausing"}:
            # One that has had an attempt was cancelled; another was so if that was the reason.
            unit.end(*({"cancelled"} if unit.attempt else self._words))

    def _outcome(self, children: list[Unit]) -> str:
        outcomes = {child.outcome for child in children}
        if outcomes & {"failed", "lost"}:
            return "failed"
        if outcomes & {"cancelled", "skipped"}:
            return "cancelled"
        return "succeeded"
