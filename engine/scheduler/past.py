"""What only a replay asks of the machine: to believe what a log says of sweeps.

A live sweep goes from the scope that was stopped down into those inside, and no record says how
far it had come. In a replay nothing is swept (`deferred`), so a scope inside does not know yet
that one around it was stopped. Where the log shows that the sweep had come to a scope, that is
made up for here.

What may not live here: what follows when rows end (`ends.py`), facts (`core.py`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

from onready.engine.events import ScopeStatus
from onready.engine.names import NodeKey
from onready.engine.options import OnError
from onready.engine.plan.model import Plan
from onready.engine.scheduler.ends import BUDGET, Ends, scope_is_inside
from onready.engine.scheduler.rules import is_cleanup, is_stopped
from onready.engine.scheduler.state import Scope


class Past(Ends):
    """Adds `told`: how composites ended, according to the log that is replayed."""

    def __init__(self, plan: Plan, on_error: OnError) -> None:
        super().__init__(plan, on_error)
        self.told: Mapping[NodeKey, ScopeStatus] = {}

    def sweep_now(self, scope: Scope) -> None:
        """`scope` is known to have ended otherwise than well: what was deferred is done now."""
        self._swept(scope)
        waiting, self._sweeping = self._sweeping, deque()
        todo: list[tuple[Scope, int]] = []
        for item in waiting:
            inside = item[0] is scope or scope_is_inside(item[0], scope)
            (todo if inside else self._sweeping).append(item)
        kept = self._sweeping
        self._sweeping = deque(todo)
        while self._sweeping:
            self._drain_ends()
            if self._sweeping:
                self._sweep_next(BUDGET)
        self._drain_ends()
        self._sweeping = kept

    def _close(self, scope: Scope) -> None:
        owner = scope.owner
        if self.deferred and owner is not None and self.told.get(owner.key) == "cancelled":
            self._swept(scope)
        super()._close(scope)

    def _swept(self, scope: Scope) -> None:
        """The log shows that a sweep had come to `scope`: let it know what stopped it."""
        if is_stopped(scope):
            return
        self._inherit(scope, forced=False)
        if not is_stopped(scope):
            # No grace is recorded to be over: so it was.
            self._inherit(scope, forced=True)

    def _inherit(self, scope: Scope, *, forced: bool) -> None:
        """Hand down to `scope` what stops those around it; past clean-up nodes if `forced`."""
        path = [scope]
        while (owner := path[-1].owner) is not None:
            if is_cleanup(owner) and not (forced or owner.scope.forced):
                break
            path.append(owner.scope)
        for outer, inner in zip(path[:0:-1], path[-2::-1], strict=True):
            if is_stopped(outer):
                self._hand_down(outer, inner)
