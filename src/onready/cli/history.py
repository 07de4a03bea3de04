"""A finished or running run, read back from its log for people to look at.

Rule of this room: reads through the engine, folds with the board; prints nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from onready.cli.board import Board
from onready.engine.errors import Failure, RunNotFound
from onready.engine.events import (
    AnyEvent,
    NodeCached,
    NodeFailed,
    NodeLost,
    NodeStarted,
    NodeSucceeded,
    RunResumed,
    RunStarted,
    RunSucceeded,
    ScopeOpened,
)
from onready.engine.names import NodeKey
from onready.engine.plan.arguments import Arguments, Known
from onready.engine.plan.model import Plan
from onready.engine.values.stored import Stored

if TYPE_CHECKING:
    from onready import Engine
    from onready.engine.spi import RunRecord


@dataclass(slots=True)
class Story:
    """All that the events of one run say: rows, values, sizes of maps, chosen arms."""

    run: str
    board: Board
    plan: Plan | None
    values: dict[NodeKey, Stored] = field(default_factory=dict)
    counts: dict[NodeKey, int] = field(default_factory=dict)
    arms: dict[NodeKey, str] = field(default_factory=dict)
    attempts: dict[NodeKey, int] = field(default_factory=dict)
    failed: dict[NodeKey, Failure] = field(default_factory=dict)
    """The last failure of each node that failed for good, rescued or not."""
    inputs: dict[str, Stored] = field(default_factory=dict)
    result: Stored = None

    def apply(self, event: AnyEvent) -> None:
        """Take one event into account."""
        self.board.apply(event)
        if isinstance(event, NodeSucceeded | NodeCached):
            self.values[event.node] = event.value
        elif isinstance(event, ScopeOpened):
            if event.count is not None:
                self.counts[event.node] = event.count
            if event.arm is not None:
                self.arms[event.node] = event.arm
        elif isinstance(event, NodeStarted):
            self.attempts[event.node] = event.attempt
        elif isinstance(event, NodeFailed | NodeLost):
            self.failed[event.node] = event.failure
        elif isinstance(event, RunStarted):
            self.inputs = event.inputs
        elif isinstance(event, RunSucceeded):
            self.result = event.value

    def arguments(self, key: NodeKey) -> tuple[dict[str, Known], frozenset[str]]:
        """What the node at `key` was given, and which arguments are its map item's own."""
        if self.plan is None:
            return {}, frozenset()
        return Arguments(self.plan, self.inputs, self.values, self.counts, self.arms).of(key)


async def read_story(engine: Engine, run: str, plan: Plan | None = None) -> Story:
    """The story of `run`; its plan comes from the catalog where it is not given."""
    events = [event async for event in engine.history(run)]
    if not events:
        message = f"run {run} has no events yet"
        raise RunNotFound(message)
    if plan is None:
        plan = await plan_of_events(engine, events)
    story = Story(run, Board(plan), plan)
    for event in events:
        story.apply(event)
    return story


async def plan_of_events(engine: Engine, events: Sequence[AnyEvent]) -> Plan | None:
    """The plan in force: a run may have been gone on with under another than it began with."""
    prints = [event.fingerprint for event in events if isinstance(event, RunStarted | RunResumed)]
    return await stored_plan(engine, next((text for text in reversed(prints) if text), ""))


async def stored_plan(engine: Engine, fingerprint: str) -> Plan | None:
    """The plan that a run was started with, or None where the catalog does not have it."""
    from onready.engine.plan.dump import load_plan

    try:
        return load_plan(await engine.catalog.read(f"plans/{fingerprint}.json"))
    except KeyError:
        return None


async def find_run(engine: Engine, text: str) -> RunRecord:
    """The run that `text` means: an id, the beginning of one, a name, or `last`."""
    return await engine.find(text)
