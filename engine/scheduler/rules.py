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


def may_start(row: Row) -> bool:
    """Whether what is ready may begin: its scope goes on, or it cleans up."""
    scope = row.scope
    if scope.doomed or scope.cancelling:
        return row.node.always and row.item < 0 and not scope.forced
    return True


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
