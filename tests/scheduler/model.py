"""What DESIGN.md §3 and §4 say of readiness, ends, stops and cancellation, worked out naively.

Nothing is counted and nothing is queued: after each fact the whole tree is looked at again until
nothing changes. It is slow and plain, and written without a look at the scheduler's own way.

A stop is a flag on the body in which it began; everything inside is looked up from there. What a
stop leaves no time for ends without running. The scheduler comes to it in pieces, while facts
arrive; so it is the scheduler that says when (`withdrawn`), and the model whether it may.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from onready.engine.options import OnError
from onready.engine.plan.model import Fragment, Plan, PlanNode

BAD: Final = frozenset({"failed", "lost", "cancelled", "skipped"})
FREE, DOOMED, CANCELLING = 0, 1, 2


class Unit:
    """One instance of a node, or the run itself.

    `phase` is `idle`, `planned`, `running`, `pausing` (before a retry) or `ended`; `outcome` says
    how. `arm` is the one that is open. `doomed`, `cancelling` and `forced` are about its body, and
    only where that stop began there. `asks`: an iteration ended well, somebody must decide.
    """

    def __init__(self, key: str, node: PlanNode | None, parent: Unit | None, *, kind: str) -> None:
        self.key = key
        self.node = node
        self.parent = parent
        self.kind = kind
        self.waits: list[Unit] = []
        self.needs: list[Unit] = []
        self.always = False
        self.children: list[Unit] | None = None
        self.arm = ""
        self.phase = "idle"
        self.outcome = ""
        self.attempt = 0
        self.past = 0
        self.rescued = False
        self.doomed = self.cancelling = self.forced = False
        self.asks = self.decided = False

    @property
    def ready(self) -> bool:
        """Its waits ended as it needs them to, and it has not begun."""
        if self.phase != "idle":
            return False
        if self.always:
            ended = all(unit.phase == "ended" for unit in self.waits)
            return ended and all(unit.outcome == "succeeded" for unit in self.needs)
        return all(unit.outcome == "succeeded" for unit in self.waits)

    @property
    def blocked(self) -> bool:
        """Something that it needs ended badly."""
        return any(unit.outcome in BAD for unit in (self.needs if self.always else self.waits))

    @property
    def live(self) -> bool:
        return self.phase in {"planned", "running"}

    @property
    def stop(self) -> int:
        """Whether something keeps it from starting, and whether it would be cancelled as well."""
        if self.parent is None:
            return FREE
        if self.always:
            return CANCELLING if self.parent.all_forced else FREE
        return self.parent.stop_inside

    @property
    def stop_inside(self) -> int:
        """The same of what is in its body."""
        own = CANCELLING if self.cancelling else DOOMED if self.doomed else FREE
        return max(own, self.stop)

    @property
    def all_forced(self) -> bool:
        """Whether clean-up nodes in its body have no time left."""
        return self.forced or (self.parent is not None and self.parent.all_forced)

    @property
    def hears_of_a_failure(self) -> bool:
        """Whether it is stopped because something failed (as opposed to: was cancelled)."""
        at: Unit | None = self
        while at is not None and at.parent is not None:
            if at.parent.doomed:
                return True
            at = None if at.always and not at.parent.all_forced else at.parent
        return False

    @property
    def is_tolerant_map(self) -> bool:
        return self.kind == "map" and self.node is not None and self.node.tolerant

    def inside(self, other: Unit) -> bool:
        at: Unit | None = self
        while at is not None and at is not other:
            at = at.parent
        return at is other

    def end(self, outcome: str) -> None:
        self.phase = "ended"
        self.outcome = outcome


class Model:
    """One run. `due` is what the scheduler must say by the end of the call: `close`, `open again`
    or `decide`, and the key.
    """

    def __init__(self, plan: Plan, on_error: OnError, past: Callable[[str], int]) -> None:
        self.on_error = on_error
        self.past = past
        self.by_key: dict[str, Unit] = {}
        self.known: set[str] = set()
        """Keys of units that have a row."""
        self._foretold: set[str] = set()
        self.root = Unit("", None, None, kind="subgraph")
        self.cancel_asked = False
        self.due: set[tuple[str, str]] = set()
        self._failed: list[Unit] = []
        self._enter(self.root, plan.root)
        self.settle()

    def _enter(self, unit: Unit, body: Fragment, arm: str = "") -> None:
        """Make the nodes of the body."""
        unit.phase = "running"
        unit.arm = arm
        prefix = f"{unit.key}?{arm}/" if arm else f"{unit.key}/" if unit.key else ""
        made = [self._made(prefix + node.name, node, unit, node.kind) for node in body.nodes]
        for child, node in zip(made, body.nodes, strict=True):
            child.always = node.always
            child.waits = [made[position] for position in node.waits]
            child.needs = [made[position] for position in node.needs]
        unit.children = made

    def _item(self, unit: Unit, at: int) -> Unit:
        assert unit.node is not None
        kind = "task" if unit.node.task is not None else "subgraph"
        return self._made(f"{unit.key}[{at}]", unit.node, unit, kind)

    def _made(self, key: str, node: PlanNode, parent: Unit, kind: str) -> Unit:
        unit = self.by_key[key] = Unit(key, node, parent, kind=kind)
        unit.attempt = unit.past = self.past(key)
        return unit

    # --- looking ------------------------------------------------------------------------------

    def units(self) -> Iterator[Unit]:
        """Every unit in an open body, children before their parents."""
        yield from self._below(self.root)

    def _below(self, unit: Unit) -> Iterator[Unit]:
        for child in unit.children or ():
            yield from self._below(child)
        yield unit

    @property
    def failed(self) -> list[str]:
        return [unit.key for unit in self._failed]

    @property
    def stopped(self) -> bool:
        """Whether something is stopped somewhere."""
        return any(unit.doomed or unit.cancelling for unit in self.units())

    def startable(self) -> set[str]:
        """Keys of the nodes that may begin now."""
        return {unit.key for unit in self.units() if unit.ready and not unit.stop}

    def overdue(self) -> list[str]:
        """What should have been withdrawn by now, if nothing is on its way any more."""
        return [
            unit.key
            for unit in self.units()
            if unit.phase in {"idle", "pausing"} and (unit.stop or unit.blocked)
        ]

    def unsaid(self) -> set[tuple[str, str]]:
        """What the scheduler should have said; not that a rescue goes on which was then stopped."""
        return {("skip", key) for key in self._foretold} | {
            (what, key)
            for what, key in self.due
            if what != "open again" or not self.by_key[key].stop
        }

    # --- facts about tasks --------------------------------------------------------------------

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
        if begun or (not attempt and (unit.ready or unit.asks)):
            unit.asks = False
            unit.end(outcome)
            if unit.children is not None:
                self.due.add(("close", unit.key))
            if outcome in {"failed", "lost"}:
                self._failed.append(unit)
                self._doom(unit)
            elif outcome == "cancelled" and not (unit.parent and unit.parent.stop_inside):
                self._doom(unit)

    def _doom(self, unit: Unit) -> None:
        """Nothing new starts around it, up to a rescue; one that was cancelled is not rescued."""
        at = unit.parent if self.on_error != "continue" else None
        while at is not None and not at.doomed:
            at.doomed = True
            at.cancelling = at.cancelling or self.on_error == "cancel"
            if unit.outcome != "cancelled" and at.arm == "body" and not at.stop:
                return
            at = at.parent

    def retrying(self, unit: Unit, attempt: int) -> None:
        if unit.live and attempt == unit.attempt:
            unit.phase = "pausing"

    def due_again(self, unit: Unit, attempt: int) -> None:
        if unit.phase == "pausing" and attempt == unit.attempt:
            unit.phase = "idle"

    # --- facts about composites and the run -----------------------------------------------------

    def opened(self, unit: Unit, count: int, arm: str) -> None:
        node = unit.node
        assert node is not None
        if unit.asks:
            assert unit.children is not None
            assert count == len(unit.children) + 1
            unit.asks = False
            unit.children.append(self._item(unit, count - 1))
        elif unit.ready and unit.children is None:
            unit.phase = "running"
            if unit.kind in {"map", "repeat"}:
                unit.children = [self._item(unit, at) for at in range(count)]
            elif arm:
                self._enter(unit, next(each.body for each in node.arms if each.name == arm), arm)
            else:
                assert node.body is not None
                self._enter(unit, node.body)

    def decide(self, unit: Unit) -> None:
        if unit.asks:
            unit.asks = False
            unit.decided = True

    def cancel(self) -> None:
        self.cancel_asked = True
        self.root.cancelling = True

    def grace_over(self) -> None:
        bodies = [unit for unit in self.units() if unit.children is not None]
        for unit in [unit for unit in bodies if unit.stop_inside == CANCELLING]:
            unit.forced = True

    # --- what the scheduler says -----------------------------------------------------------------

    def withdrawn(self, unit: Unit, word: str) -> None:
        """It is said to have ended without running."""
        if unit.key in self._foretold:
            self._foretold.remove(unit.key)
            assert word == "skipped"
            return
        assert unit.phase in {"idle", "pausing"}, f"{unit.key} is {unit.phase}"
        assert unit.children is None
        tried = unit.attempt > unit.past
        if word == "cancelled":
            assert unit.stop == CANCELLING or (unit.stop and tried), f"{unit.key} goes on"
        else:
            assert not tried, f"{unit.key} had an attempt"
            stopped = unit.stop and unit.hears_of_a_failure and self.on_error != "cancel"
            assert stopped or unit.blocked, f"{unit.key} goes on"
        self.due.discard(("open again", unit.key))
        unit.end(word)
        self.settle()

    def never_opened(self, unit: Unit) -> None:
        assert unit.phase == "idle", f"{unit.key} is {unit.phase}"
        assert unit.stop, f"{unit.key} goes on"
        unit.end("cancelled")
        self.settle()

    def said(self, what: str, unit: Unit) -> None:
        assert (what, unit.key) in self.due, f"{what} {unit.key}"
        self.due.remove((what, unit.key))

    # --- what follows -------------------------------------------------------------------------

    def settle(self) -> None:
        """Work out every end that follows, until nothing changes."""
        changed = True
        while changed:
            changed = False
            for unit in list(self.units()):
                waits = unit.always and unit.phase == "idle" and not unit.stop
                if waits and unit.blocked and unit.key in self.known:
                    # At once: its body may end by that, before the next fact.
                    changed = True
                    self._foretold.add(unit.key)
                    unit.end("skipped")
                children = unit.children
                if children is None or unit.phase != "running" or unit.asks:
                    continue
                if all(child.phase == "ended" for child in children):
                    changed = True
                    self._finish(unit, children)

    def _finish(self, unit: Unit, children: list[Unit]) -> None:
        outcome = self._outcome(unit, children)
        if outcome == "succeeded" and unit.kind == "repeat" and not unit.decided:
            unit.asks = True
            self.due.add(("decide", unit.key))
        elif outcome == "failed" and unit.arm == "body" and not unit.stop:
            self._forgive(unit)
            unit.phase, unit.children, unit.arm, unit.rescued = "idle", None, "", True
            unit.doomed = unit.cancelling = unit.forced = False
            self.due.add(("open again", unit.key))
        else:
            unit.end(outcome)
            self.due.add(("close", unit.key))
            if outcome != "failed" and unit.is_tolerant_map:
                self._forgive(unit)

    def _forgive(self, unit: Unit) -> None:
        self._failed = [each for each in self._failed if not each.inside(unit)]

    def _outcome(self, unit: Unit, children: list[Unit]) -> str:
        outcomes = {child.outcome for child in children}
        if unit.is_tolerant_map and self.on_error == "continue":
            outcomes -= {"failed", "lost"}
        if outcomes & {"failed", "lost"}:
            return "failed"
        if outcomes & {"cancelled", "skipped"}:
            return "cancelled"
        return "succeeded"
