"""The history checker on runs that really happened: nothing is wrong, until something is changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec
import pytest

from onready import Engine, Retry, each, graph
from onready.engine.events import (
    AnyEvent,
    AttemptPlanned,
    NodeFailed,
    NodeRetrying,
    NodeSkipped,
    NodeStarted,
    NodeSucceeded,
    RunFailed,
    RunStarted,
    RunSucceeded,
    ScopeClosed,
    ScopeOpened,
)
from onready.engine.graph import Bound
from onready.engine.history import Violation, check_history
from onready.engine.names import NodeKey
from onready.engine.options import OnError
from onready.engine.plan.model import Plan
from tests.engine import work

pytestmark = pytest.mark.anyio


@graph
def deep(xs: list[int]) -> int:
    return work.nested(work.mapped(xs))


@graph
def retries() -> int:
    first = work.retried.with_options(retry=Retry(3, backoff=0.0))(2)
    return work.add_one(first)


@graph
def away(x: int) -> int:
    far = work.double.with_options(backend="subprocess")
    return far(work.add_one(x))


@graph
def fails_in_a_map(xs: list[int]) -> int:
    bad = work.total(work.boom.map(each(xs)))
    return work.add_one(work.double(bad))


@dataclass(frozen=True)
class Recorded:
    """A run that happened."""

    plan: Plan
    events: list[AnyEvent]

    def check(self, events: Sequence[AnyEvent] | None = None) -> list[Violation]:
        return check_history(self.events if events is None else events, self.plan)


async def record(engine: Engine, bound: Bound[object], on_error: OnError = "stop") -> Recorded:
    run = await engine.start(bound, on_error=on_error)
    await run.wait()
    return Recorded(run.plan, [event async for event in engine.history(run.id)])


GOOD: dict[str, tuple[Callable[[], Bound[object]], OnError]] = {
    "diamond": (lambda: work.diamond.bind(3), "stop"),
    "deep": (lambda: deep.bind([1, 2, 3]), "stop"),
    "grid": (lambda: work.grid.bind([[1, 2], [], [3]]), "stop"),
    "retries": (retries.bind, "stop"),
    "away": (lambda: away.bind(1), "stop"),
    "fails early": (lambda: work.fails_early.bind(1), "stop"),
    "fails in a map": (lambda: fails_in_a_map.bind([1, 2]), "continue"),
    "fails beside": (lambda: work.fails_beside.bind(1), "continue"),
    "fails beside, cancelled": (lambda: work.fails_beside.bind(1), "cancel"),
}


@pytest.mark.parametrize("name", GOOD)
async def test_runs_that_happened_are_in_order(engine: Engine, name: str) -> None:
    bound, on_error = GOOD[name]
    recorded = await record(engine, bound(), on_error)
    assert len(recorded.events) > 4
    assert recorded.check() == []
    assert check_history(recorded.events) == []
    # And as far as they had come at any moment: a run that was killed there is in order too.
    for end in range(1, len(recorded.events)):
        assert recorded.check(recorded.events[:end]) == []


@graph
def cleans(x: int) -> int:
    bad = work.boom(x)
    tidied = work.note.with_options(name="tidy", always=True, after=[bad])("tidy")
    work.note.with_options(name="later", always=True, after=[tidied])("later")
    return bad


async def test_what_cleans_up_runs_again_with_what_it_cleans_up_after(engine: Engine) -> None:
    run = await engine.start(cleans.bind(1))
    await run.wait()
    again = await engine.retry(run.id, cleans.bind(1))
    await again.wait()
    assert work.calls == ["tidy", "later"] * 2
    events = [event async for event in engine.history(run.id)]
    assert check_history(events, run.plan) == []


# --- breaking them ------------------------------------------------------------------------------

Change = Callable[[list[AnyEvent]], object]


def renumbered(events: Sequence[AnyEvent]) -> list[AnyEvent]:
    return [msgspec.structs.replace(event, seq=seq) for seq, event in enumerate(events, 1)]


def place(events: Sequence[AnyEvent], kind: type, node: str = "", nth: int = 0) -> int:
    found = [
        at
        for at, event in enumerate(events)
        if type(event) is kind and (not node or str(getattr(event, "node", "")) == node)
    ]
    return found[nth]


def drop(kind: type, node: str = "") -> Change:
    return lambda events: events.pop(place(events, kind, node))


def repeat(kind: type, node: str = "", *, at_end: bool = False) -> Change:
    """The event comes a second time: at once, or right before the end of the run."""

    def change(events: list[AnyEvent]) -> None:
        at = place(events, kind, node)
        events.insert(len(events) - 1 if at_end else at + 1, msgspec.structs.replace(events[at]))

    return change


def move(kind: type, node: str, before: type, other: str) -> Change:
    """The event comes right before another one that it really came after, or the reverse."""

    def change(events: list[AnyEvent]) -> None:
        event = events.pop(place(events, kind, node))
        events.insert(place(events, before, other), event)

    return change


def alter(kind: type, node: str, **fields: object) -> Change:
    def change(events: list[AnyEvent]) -> None:
        at = place(events, kind, node)
        events[at] = msgspec.structs.replace(events[at], **fields)

    return change


BROKEN: list[tuple[str, str, str, Change]] = [
    ("diamond", "run", "no beginning", drop(RunStarted)),
    ("diamond", "run", "a second beginning", repeat(RunStarted)),
    ("diamond", "run", "a second end", repeat(RunSucceeded)),
    ("diamond", "run", "an event after the end", lambda e: e.append(e.pop(3))),
    ("diamond", "ended", "a node without an end", drop(NodeSucceeded, "total")),
    ("diamond", "verdict", "a node that never ran", lambda e: _without(e, "total")),
    ("diamond", "terminal", "two ends", repeat(NodeSucceeded, "double")),
    ("diamond", "rerun", "a success runs again", repeat(NodeStarted, "add_one", at_end=True)),
    ("diamond", "attempts", "begins twice", repeat(NodeStarted, "add_one")),
    ("diamond", "attempts", "never began", drop(NodeStarted, "total")),
    ("diamond", "attempts", "begins as 2", alter(NodeStarted, "total", attempt=2)),
    ("diamond", "attempts", "ends as 2", alter(NodeSucceeded, "total", attempt=2)),
    (
        "diamond",
        "dependency",
        "a child begins first",
        move(NodeStarted, "total", NodeSucceeded, "double"),
    ),
    ("deep", "scope", "a scope that never opened", drop(ScopeOpened, "mapped")),
    ("deep", "scope", "a scope opened twice", repeat(ScopeOpened, "mapped")),
    ("deep", "scope", "a scope closed twice", repeat(ScopeClosed, "mapped")),
    ("deep", "ended", "a scope that never closed", drop(ScopeClosed, "nested")),
    ("deep", "order", "an item beyond the count", alter(ScopeOpened, "mapped/add_one", count=2)),
    ("deep", "verdict", "an item too few", alter(ScopeOpened, "mapped/add_one", count=4)),
    ("deep", "verdict", "a failure inside", alter(ScopeClosed, "nested", status="failed")),
    ("deep", "scope", "no count", alter(ScopeOpened, "mapped/add_one", count=None)),
    (
        "deep",
        "scope",
        "closed before what is inside",
        move(ScopeClosed, "mapped", NodeSucceeded, "mapped/add_one[1]"),
    ),
    (
        "deep",
        "scope",
        "begun before its scope",
        move(NodeStarted, "mapped/add_one[0]", ScopeOpened, "mapped/add_one"),
    ),
    (
        "deep",
        "dependency",
        "a composite opens before what it needs",
        move(ScopeOpened, "nested", ScopeClosed, "mapped"),
    ),
    ("retries", "attempts", "a retry left out", drop(NodeRetrying)),
    ("retries", "attempts", "a retry told twice", repeat(NodeRetrying)),
    ("retries", "attempts", "a retry of another", alter(NodeRetrying, "", attempt=3)),
    ("away", "attempts", "a plan left out and its number too", lambda e: _renumber(e, "double")),
    ("away", "attempts", "planned twice", repeat(AttemptPlanned)),
    (
        "away",
        "attempts",
        "started before it was planned",
        move(NodeStarted, "double", AttemptPlanned, "double"),
    ),
    (
        "away",
        "dependency",
        "planned before what it needs",
        move(AttemptPlanned, "double", NodeSucceeded, "add_one"),
    ),
    (
        "fails early",
        "verdict",
        "failed for a node that did not",
        alter(RunFailed, "", nodes=(NodeKey("last"),)),
    ),
    ("fails early", "terminal", "a failure runs again", repeat(NodeStarted, "boom", at_end=True)),
    ("fails early", "terminal", "skipped twice", repeat(NodeSkipped, "last")),
    ("fails early", "terminal", "skipped and failed", repeat(NodeFailed, "boom")),
    (
        "fails early",
        "verdict",
        "succeeded all the same",
        lambda e: e.append(RunSucceeded(0, e.pop().at)),
    ),
]


def _without(events: list[AnyEvent], node: str) -> None:
    events[:] = [event for event in events if str(getattr(event, "node", "")) != node]


def _renumber(events: list[AnyEvent], node: str) -> None:
    events.pop(place(events, AttemptPlanned, node))
    alter(NodeStarted, node, attempt=2)(events)
    alter(NodeSucceeded, node, attempt=2)(events)


@pytest.mark.parametrize(
    ("name", "rule", "change"),
    [(name, rule, change) for name, rule, _, change in BROKEN],
    ids=[f"{name}: {what}" for name, _, what, _ in BROKEN],
)
async def test_each_broken_rule_is_found(
    engine: Engine, name: str, rule: str, change: Change
) -> None:
    bound, on_error = GOOD[name]
    recorded = await record(engine, bound(), on_error)
    events = list(recorded.events)
    change(events)
    found = recorded.check(renumbered(events))
    assert rule in {violation.rule for violation in found}, [str(one) for one in found]


async def test_numbers_have_no_gap(engine: Engine) -> None:
    recorded = await record(engine, work.diamond.bind(1))
    for at in range(1, len(recorded.events) - 1):
        without = [*recorded.events[:at], *recorded.events[at + 1 :]]
        assert "sequence" in {one.rule for one in recorded.check(without)}
        twice = [*recorded.events[:at], recorded.events[at], *recorded.events[at:]]
        assert "sequence" in {one.rule for one in recorded.check(twice)}
        swapped = [*recorded.events]
        swapped[at], swapped[at + 1] = swapped[at + 1], swapped[at]
        assert "sequence" in {one.rule for one in recorded.check(swapped)}


async def test_the_plan_of_another_run_is_told(memory: Engine) -> None:
    one = await record(memory, work.diamond.bind(1))
    other = await record(memory, work.nested.bind([1]))
    found = check_history(one.events, other.plan)
    assert [violation.rule for violation in found] == ["plan"]
    assert "never had the plan" in found[0].text


async def test_a_node_that_the_plan_has_not(memory: Engine) -> None:
    recorded = await record(memory, work.diamond.bind(1))
    events = [event for event in recorded.events if type(event) is not RunStarted]
    other = await record(memory, deep.bind([1]))
    found = check_history(renumbered([other.events[0], *events]), other.plan)
    assert "plan" in {violation.rule for violation in found}


def test_no_events_are_no_run() -> None:
    assert [violation.rule for violation in check_history([])] == ["run"]


def test_a_violation_reads_as_a_sentence() -> None:
    told = Violation("rerun", 7, "train[1]", "begins again though it has succeeded")
    assert str(told) == "event 7 train[1]: begins again though it has succeeded [rerun]"
    assert str(Violation("run", 1, "", "no start")) == "event 1: no start [run]"
