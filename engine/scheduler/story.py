"""Why a node is where it is: for error messages, `onready show` and bug reports."""

from __future__ import annotations

from onready.engine.scheduler.state import SUCCEEDED, WAITING, Row


def story(row: Row) -> list[str]:
    """Lines for people: the row's state, what it waits for, and what its scopes are up to."""
    lines = [f"{row.key}: {row.state.value}, attempt {row.attempt}, retries used {row.retries}"]
    if row.failure is not None:
        lines.append(f"  last failure: {row.failure.kind}: {row.failure}")
    scope = row.scope
    if row.state is WAITING and scope.fragment is not None:
        for position in row.node.waits:
            name = scope.fragment.nodes[position].name
            if position >= len(scope.rows):
                lines.append(f"  waits for {name}: not opened yet")
            elif scope.rows[position].state is not SUCCEEDED:
                lines.append(f"  waits for {name}: {scope.rows[position].state.value}")
    body = row.body
    if body is not None:
        lines.append(f"  its body: {body.left} of {body.total} left, {body.failed} failed")
    while True:
        flags = [name for name in ("doomed", "cancelling", "closed") if getattr(scope, name)]
        cause = f" by {scope.culprit}" if scope.culprit is not None else ""
        state = f"{', '.join(flags)}{cause}" if flags else "open"
        lines.append(f"  in {scope.key or 'the run'}: {state}, {scope.left} of {scope.total} left")
        if scope.owner is None:
            return lines
        scope = scope.owner.scope
