"""Questions about rows and scopes that are answered by looking: no fact, no work list.

Rule of this room: pure functions; nothing is changed.
"""

from __future__ import annotations

from onready.engine.errors import InternalError
from onready.engine.events import ScopeStatus
from onready.engine.options import OnError
from onready.engine.scheduler.state import (
    CANCELLED,
    FAILED,
    LOST,
    SKIPPED,
    Row,
    Scope,
    State,
)
from onready.engine.scheduler.story import story
from onready.engine.scheduler.transitions import Fact as What

BODY = "body"
"""The arm of a rescue whose failure the other one, the handler, takes."""

_BAD: frozenset[State] = frozenset({FAILED, LOST, CANCELLED, SKIPPED})


def is_cleanup(row: Row) -> bool:
    """Whether the row runs whatever became of what is beside it; an item of such a map does not."""
    return row.node.always and row.item < 0


def is_stopped(scope: Scope) -> bool:
    """Whether nothing but clean-up nodes starts in it any more."""
    return scope.doomed or scope.cancelling


def may_start(row: Row) -> bool:
    """Whether what is ready may begin: its scope goes on, or it cleans up."""
    scope = row.scope
    if scope.doomed or scope.cancelling:
        return is_cleanup(row) and not scope.forced
    return True


def may_go_on(row: Row) -> bool:
    """The same with regard to every scope around it: a sweep may not have come to its own yet."""
    here: Row | None = row
    cleans_up = False
    while here is not None:
        scope = here.scope
        cleans_up = cleans_up or is_cleanup(here)
        if scope.forced or ((scope.doomed or scope.cancelling) and not cleans_up):
            return False
        here = scope.owner
    return True


def awaits_decision(scope: Scope) -> bool:
    """Of a repeat: whether all its iterations ended, and another may follow."""
    owner = scope.owner
    repeats = owner is not None and owner.kind == "repeat"
    return repeats and not (scope.left or scope.closed or scope.decided)


def is_rescued(scope: Scope) -> bool:
    """Whether this is the body of a rescue: its failure goes no further."""
    owner = scope.owner
    return (
        owner is not None
        and owner.kind == "rescue"
        and scope.key is not None
        and scope.key.arm == BODY
    )


def status_of(scope: Scope, on_error: OnError) -> ScopeStatus:
    """How a scope whose rows have all ended ends itself."""
    owner = scope.owner
    tolerant = (
        on_error == "continue"
        and owner is not None
        and owner.node.tolerant
        and scope.fragment is None
    )
    if scope.failed and not tolerant:
        return "failed"
    if scope.cancelled or (scope.skipped and scope.doomed):
        # Nothing in it failed, but something around it did: it was stopped half-way.
        return "cancelled"
    return "succeeded"


def reason_of(row: Row) -> str:
    """Why a row is skipped when its scope is swept."""
    scope = row.scope
    if scope.fragment is not None:
        for position in row.node.waits:
            if position < len(scope.rows) and scope.rows[position].state in _BAD:
                return f"needs {scope.rows[position].key}"
    return f"stopped: {scope.culprit} failed"


def illegal(row: Row, what: What) -> InternalError:
    """A fact that cannot follow from the row's state, with the row's story."""
    lines = [f"{what.value!r} cannot happen to {row.key} when {row.state.value}", *story(row)]
    return InternalError("\n".join(lines))
