"""What must hold after every `handle`: for tests, simulations and bug reports.

Everything is worked out anew from the rows and held against what the machine has counted. While
the scheduler is `busy`, what it has not come to yet is not held against it.

Rule of this room: it reads and never changes; a violation is a line for people.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Final

from onready.engine.scheduler.core import Scheduler
from onready.engine.scheduler.rules import awaits_decision, is_rescued, may_start
from onready.engine.scheduler.state import (
    BACKING_OFF,
    CANCELLED,
    CANCELLING,
    FAILED,
    LOST,
    PLANNED,
    READY,
    RUNNING,
    SKIPPED,
    SUCCEEDED,
    TERMINAL,
    WAITING,
    Row,
    Scope,
)

Rule = tuple[bool, str]
"""Whether it holds, and what to say where it does not."""

BAD: Final = frozenset({FAILED, LOST, CANCELLED, SKIPPED})
NOT_BEGUN: Final = frozenset({WAITING, READY, PLANNED, BACKING_OFF})
LIVE: Final = frozenset({PLANNED, RUNNING, CANCELLING, SUCCEEDED, LOST})
"""Of a task: the last attempt has begun, and no retry followed it."""
NEEDS_ITS_WAITS: Final = frozenset(
    {READY, PLANNED, RUNNING, BACKING_OFF, CANCELLING, SUCCEEDED, FAILED, LOST}
)


def check(scheduler: Scheduler) -> list[str]:
    """What is wrong, one line each; none where all is well."""
    quiet = not scheduler.busy
    found = list(_broken("the run", _run_rules(scheduler)))
    failed = {id(row) for row in scheduler._failed}
    todo = [scheduler.root]
    while todo:
        scope = todo.pop()
        found += _broken(f"scope {scope.key or 'of the run'}", _scope_rules(scheduler, scope))
        for position, row in enumerate(scope.rows):
            rules = [
                *_place_rules(scope, position, row),
                *_row_rules(row),
                *_wait_rules(scheduler, scope, row),
                *_stop_rules(scope, row, quiet=quiet),
                (id(row) in failed or _needs_no_mention(row), "failed, and the run does not know"),
            ]
            found += _broken(f"{row.key} ({row.state.value})", rules)
            if row.body is not None:
                todo.append(row.body)
    return found


def _broken(what: str, rules: Iterable[Rule]) -> Iterator[str]:
    return (f"{what}: {text}" for holds, text in rules if not holds)


def _run_rules(scheduler: Scheduler) -> list[Rule]:
    failed = scheduler._failed
    return [
        (scheduler.ended is scheduler.root.closed, "ended and the root scope closed go together"),
        (all(row.state in {FAILED, LOST} for row in failed), "its failed rows have failed"),
        (len({id(row) for row in failed}) == len(failed), "its failed rows are each there once"),
        (not any(_is_forgiven(row) for row in failed), "a failure that was made good for is kept"),
    ]


def _is_forgiven(row: Row) -> bool:
    """Whether something around the failed row made good for it."""
    scope = row.scope
    while (owner := scope.owner) is not None:
        if owner.state not in {RUNNING, *BAD}:
            return True
        if owner.kind == "rescue" and owner.body is not None and owner.body is not scope:
            return True  # that is its handler
        if owner.kind == "map" and owner.node.tolerant and owner.state is CANCELLED:
            return True
        scope = owner.scope
    return False


def _needs_no_mention(row: Row) -> bool:
    failed = row.state in {FAILED, LOST} and row.kind == "task"
    return not failed or _is_forgiven(row)


def _scope_rules(scheduler: Scheduler, scope: Scope) -> list[Rule]:
    states = Counter(row.state for row in scope.rows)
    ended = sum(states[state] for state in TERMINAL)
    failed = states[FAILED] + states[LOST]
    never = states[CANCELLED] + states[SKIPPED] + scope.unopened
    stopped = scope.doomed or scope.cancelling
    opened = len(scope.rows)
    owner = scope.owner
    repeats = owner is not None and owner.kind == "repeat"
    # A repeat that reached its limit fails though its iterations did not.
    limit = owner is not None and repeats and scope.decided and owner.failure is not None
    open_still = scope.left or awaits_decision(scope)
    return [
        (opened <= scope.total, f"{opened} rows of {scope.total}"),
        (scheduler.busy or opened == scope.total, f"{opened} of {scope.total} rows when quiet"),
        (scope.left == scope.total - ended, f"{scope.left} left of {scope.total}, {ended} ended"),
        (scope.failed == failed + limit, f"counted {scope.failed} failed, there are {failed}"),
        (
            scope.cancelled + scope.skipped == never,
            f"counted {scope.cancelled} cancelled and {scope.skipped} skipped, there are {never}",
        ),
        (scope.cancelled >= states[CANCELLED], "fewer counted than cancelled"),
        (scope.skipped >= states[SKIPPED], "fewer counted than skipped"),
        (stopped or not scope.unopened, "rows were given up though nothing stopped it"),
        (scope.closed is not bool(open_still), f"closed is {scope.closed}, {scope.left} left"),
        (scope.closed or scope.left > 0 or not (failed or never), "its end is not seen"),
        (repeats or not scope.decided, "no repeat, and it was decided"),
        (scope.cancelling or not scope.forced, "forced, and not cancelling"),
        (_is_doom_bounded(scope), "doomed, and the scope around it is not"),
        (scope.doomed is (scope.culprit is not None), "doomed and a culprit go together"),
        (scheduler.on_error != "continue" or not scope.doomed, "doomed under `continue`"),
        (scheduler.on_error == "continue" or not failed or scope.doomed, "failed, not doomed"),
    ]


def _is_doom_bounded(scope: Scope) -> bool:
    owner = scope.owner
    if owner is None or not scope.doomed or scope.closed:
        return True
    return owner.scope.doomed or is_rescued(scope)


def _place_rules(scope: Scope, position: int, row: Row) -> list[Rule]:
    key = row.key
    if scope.fragment is None:
        owner = scope.owner
        named = owner is not None and (key.name, key.parent) == (owner.key.name, owner.key.parent)
        placed = row.item == key.index == position
    else:
        named = key.name == row.node.name and key.parent is scope.key and key.index is None
        placed = row.item == -1 and row.node is scope.fragment.nodes[position]
    return [
        (row.scope is scope, "is in another scope's rows"),
        (named, "its key is not that of its place"),
        (placed, "its position is not that of its place"),
    ]


def _row_rules(row: Row) -> list[Rule]:
    state = row.state
    attempt = row.attempt - row.past
    retries = row.retries + row.infrastructure_retries
    task = row.kind == "task"
    body = row.body
    # From the cache: without an attempt, or after those that came to nothing.
    kept = state is SUCCEEDED and retries == attempt
    return [
        (task or not attempt, f"a composite has attempt {attempt}"),
        (state not in {WAITING, SKIPPED} or not attempt, f"attempt {attempt} though it never ran"),
        (not task or state not in LIVE or retries == attempt - 1 or kept, f"{retries} retries"),
        (state not in {READY, BACKING_OFF} or retries == attempt, f"{retries} retries"),
        (attempt - 1 <= retries <= attempt, f"{retries} retries, attempt {attempt}"),
        (task or state not in {PLANNED, BACKING_OFF, CANCELLING, LOST}, "a composite cannot be"),
        (body is None or not task, "a task has a body"),
        (state is not RUNNING or task or body is not None, "a running composite has no body"),
        (body is None or body.owner is row, "its body belongs to another"),
        (body is None or body.closed or state is RUNNING, "its body is open"),
        (body is None or not body.closed or state in TERMINAL, "its body is closed"),
        (state not in {FAILED, LOST} or not task or row.failure is not None, "no failure is kept"),
    ]


def _wait_rules(scheduler: Scheduler, scope: Scope, row: Row) -> list[Rule]:
    if scope.fragment is None:
        return [(not row.pending and row.state is not WAITING, "an item waits for nothing")]
    rows = scope.rows
    node = row.node
    waits = {at: rows[at].state if at < len(rows) else WAITING for at in node.waits}
    needs = {at: waits[at] for at in (node.needs if node.always else node.waits)}
    if node.always:
        unmet = sum(state not in TERMINAL for state in waits.values())
    else:
        unmet = sum(state is not SUCCEEDED for state in waits.values())
    bad = not BAD.isdisjoint(needs.values())
    counts = row.state is WAITING and (node.always or not (scope.doomed or scope.cancelling))
    began = row.state in NEEDS_ITS_WAITS
    return [
        (not began or not unmet, f"{unmet} of its waits have not succeeded"),
        (not began or not bad, "began, and what it needs ended badly"),
        (not counts or row.pending == unmet, f"pending is {row.pending}, {unmet} to wait for"),
        (not counts or unmet > 0, "waits for nothing"),
        (
            (scheduler.on_error != "continue" and not node.always) or not counts or not bad,
            "waits for what ended badly",
        ),
    ]


def _stop_rules(scope: Scope, row: Row, *, quiet: bool) -> list[Rule]:
    held = quiet and not may_start(row)
    runs = row.kind == "task" and row.state is RUNNING
    body = row.body
    inside = held and body is not None and not body.closed
    return [
        (not held or row.state not in NOT_BEGUN, "not begun, and its scope was stopped"),
        (not held or not scope.cancelling or not runs, "runs on in a cancelled scope"),
        (not inside or body is None or not scope.doomed or body.doomed, "its body is not doomed"),
        (
            not inside or body is None or not scope.cancelling or body.cancelling,
            "its body is not being cancelled",
        ),
        (not inside or body is None or not scope.forced or body.forced, "its body has time left"),
    ]
