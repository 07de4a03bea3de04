"""The board: a run's events folded into one row per node of the graph, a map being one row.

Both the live view and `onready show` look at it.

Rule of this room: events in, rows out; no words, no colours, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, cast

from onready.engine.errors import Failure
from onready.engine.events import (
    AnyEvent,
    AttemptPlanned,
    NodeCached,
    NodeCancelled,
    NodeFailed,
    NodeLog,
    NodeLost,
    NodeProgress,
    NodeRetrying,
    NodeSkipped,
    NodeStarted,
    NodeSucceeded,
    RunCancelled,
    RunCancelling,
    RunFailed,
    RunStarted,
    RunStatus,
    RunSucceeded,
    ScopeOpened,
)
from onready.engine.names import NodeKey
from onready.engine.plan.model import Fragment, Plan

Path = tuple[str, ...]

KEPT: Final = 4
_WORDS: Final[dict[type, str]] = {
    NodeSucceeded: "succeeded",
    NodeCached: "cached",
    NodeFailed: "failed",
    NodeLost: "lost",
    NodeCancelled: "cancelled",
    NodeSkipped: "skipped",
}
_RUN_ENDS: Final[dict[type, RunStatus]] = {
    RunSucceeded: "succeeded",
    RunFailed: "failed",
    RunCancelled: "cancelled",
}


@dataclass(slots=True)
class Row:
    """One node of the graph; inside maps it stands for all of its instances.

    `total` is None while an outer map has not said how many there will be. Times are UTC seconds;
    `busy` is the sum of what all attempts took, in seconds.
    """

    path: Path
    many: bool
    total: int | None
    counts: dict[str, int] = field(default_factory=dict)
    running: int = 0
    retries: int = 0
    began: float | None = None
    ended: float | None = None
    busy: float = 0.0
    backend: str = ""
    message: str = ""
    fraction: float | None = None
    reason: str = ""
    kept: list[NodeKey] = field(default_factory=list)
    """The first few instances that succeeded, for the error block."""

    @property
    def name(self) -> str:
        """The path as people read it: `train/fit`."""
        return "/".join(self.path)

    @property
    def done(self) -> int:
        """Instances that ended, in whatever way."""
        return sum(self.counts.values())

    @property
    def status(self) -> str:
        """The worst that happened, else what is going on."""
        for word in ("failed", "lost"):
            if self.counts.get(word):
                return word
        if self.running:
            return "running"
        for word in ("cancelled", "skipped"):
            if self.counts.get(word):
                return word
        if self.total is not None and self.done >= self.total:
            cached = self.counts.get("cached", 0)
            return "cached" if cached and cached == self.done else "succeeded"
        return "running" if self.done or self.began is not None else "waiting"

    @property
    def took(self) -> float | None:
        """Seconds from its first start to its last end."""
        if self.began is None or self.ended is None:
            return None
        return self.ended - self.began


@dataclass(slots=True)
class Attempted:
    """What is known of one node instance that runs, or failed: attempts, times, place."""

    attempt: int
    began: float | None = None
    first: float | None = None
    ended: float | None = None
    backend: str = ""


class Board:
    """Feed it every event of a run, in order, with `apply`."""

    def __init__(self, plan: Plan | None = None) -> None:
        self.rows: dict[Path, Row] = {}
        self.status: RunStatus = "running"
        self.started: RunStarted | None = None
        self.began: float = 0.0
        self.ended: float | None = None
        self.last: float = 0.0
        self.reason = ""
        self.cancelling = False
        self.failures: list[tuple[NodeKey, Failure, Attempted]] = []
        self.skipped: list[tuple[NodeKey, str]] = []
        self.logged: dict[tuple[NodeKey, int], dict[str, int]] = {}
        self._live: dict[NodeKey, Attempted] = {}
        self._inside: dict[Path, list[Row]] = {}
        self._maps: set[Path] = set()
        if plan is not None:
            self._lay_out(plan)

    # --- rows from the plan -------------------------------------------------------------------

    def _lay_out(self, plan: Plan) -> None:
        """One row per task node and per map over a task, in the order of the graph."""
        stack: list[tuple[Fragment, Path, Path | None, int]] = [(plan.root, (), None, 0)]
        while stack:
            fragment, prefix, owner, position = stack.pop()
            if position == len(fragment.nodes):
                continue
            stack.append((fragment, prefix, owner, position + 1))
            node = fragment.nodes[position]
            path = (*prefix, node.name)
            inside = path if node.kind == "map" else owner
            if node.kind == "map":
                self._maps.add(path)
            if node.body is not None:
                stack.append((node.body, path, inside, 0))
            elif node.task is not None:
                row = Row(path, inside is not None, 1 if inside is None else None)
                row.backend = plan.tasks[node.task].backend
                self.rows[path] = row
                if inside is not None:
                    self._inside.setdefault(inside, []).append(row)

    def _row(self, key: NodeKey) -> Row:
        path = path_of(key)
        row = self.rows.get(path)
        if row is None:
            row = self.rows[path] = Row(path, _inside_map(key), None if _inside_map(key) else 1)
        return row

    # --- events -------------------------------------------------------------------------------

    def apply(self, event: AnyEvent) -> None:
        """Take one event into account."""
        self.last = event.at
        kind = type(event)
        if kind in _WORDS:
            self._end(event, _WORDS[kind])
        elif isinstance(event, NodeStarted | AttemptPlanned):
            self._start(event)
        elif isinstance(event, NodeRetrying):
            self._retry(event)
        elif isinstance(event, ScopeOpened):
            self._open(event)
        elif isinstance(event, NodeProgress):
            row = self._row(event.node)
            row.message, row.fraction = event.message, event.fraction
        elif isinstance(event, NodeLog):
            sizes = self.logged.setdefault((event.node, event.attempt), {})
            sizes[event.stream] = event.size
        else:
            self._run(event)

    def _run(self, event: AnyEvent) -> None:
        if isinstance(event, RunStarted):
            self.started = event
            self.began = event.at
        elif isinstance(event, RunCancelling):
            self.cancelling = True
            self.reason = event.reason
        elif type(event) in _RUN_ENDS:
            self.status = _RUN_ENDS[type(event)]
            self.ended = event.at
            for row in self.rows.values():
                # A map that never opened has no items: nobody will say so any more.
                row.total = row.done if row.total is None else row.total
            if isinstance(event, RunFailed | RunCancelled) and event.reason:
                self.reason = event.reason

    def _open(self, event: ScopeOpened) -> None:
        path = path_of(event.node)
        if path not in self._maps:
            return
        for row in self._inside.get(path, ()):
            row.total = (row.total or 0) + (event.count or 0)
            if event.count == 0 and row.began is None:
                row.began = row.ended = event.at

    def _start(self, event: NodeStarted | AttemptPlanned) -> None:
        row = self._row(event.node)
        live = self._live.get(event.node)
        if live is None:
            live = self._live[event.node] = Attempted(event.attempt, backend=row.backend)
        if isinstance(event, AttemptPlanned):
            live.backend = row.backend = event.backend
            # Planned ahead of a free slot: its time begins when it starts.
            return
        if live.began is None:
            row.running += 1
            live.began = event.at
        live.attempt = event.attempt
        if live.first is None:
            live.first = event.at
        if row.began is None:
            row.began = event.at

    def _stop(self, key: NodeKey, row: Row, at: float) -> Attempted | None:
        live = self._live.pop(key, None)
        if live is not None and live.began is not None:
            row.running -= 1
            row.busy += at - live.began
            live.ended = at
        return live

    def _retry(self, event: NodeRetrying) -> None:
        row = self._row(event.node)
        live = self._stop(event.node, row, event.at)
        row.retries += 1
        if live is not None:
            live.began = None
            self._live[event.node] = live

    def _end(self, event: AnyEvent, word: str) -> None:
        ended = cast("NodeSucceeded | NodeFailed | NodeLost | NodeCancelled", event)
        row = self._row(ended.node)
        live = self._stop(ended.node, row, ended.at)
        row.counts[word] = row.counts.get(word, 0) + 1
        row.ended = ended.at
        row.fraction, row.message = None, ""
        if word == "succeeded" and len(row.kept) < KEPT:
            row.kept.append(ended.node)
        if isinstance(event, NodeFailed | NodeLost):
            story = live or Attempted(event.attempt, backend=row.backend)
            story.attempt = event.attempt
            story.ended = event.at
            self.failures.append((event.node, event.failure, story))
        elif isinstance(event, NodeSkipped | NodeCancelled) and event.reason:
            row.reason = event.reason
            if isinstance(event, NodeSkipped):
                self.skipped.append((event.node, event.reason))

    # --- sums ---------------------------------------------------------------------------------

    @property
    def busy(self) -> float:
        """Seconds that all attempts took, added up: more than the run's where it ran parallel."""
        return sum(row.busy for row in self.rows.values())

    @property
    def done(self) -> int:
        """Node instances that ended."""
        return sum(row.done for row in self.rows.values())

    @property
    def total(self) -> int | None:
        """Node instances in all; None while a map has not opened."""
        totals = [row.total for row in self.rows.values()]
        return None if None in totals else sum(cast("list[int]", totals))

    def count(self, word: str) -> int:
        """Node instances that ended as `word` says."""
        return sum(row.counts.get(word, 0) for row in self.rows.values())

    def active(self) -> Iterator[Row]:
        """Rows that run now."""
        return (row for row in self.rows.values() if row.running)


def path_of(key: NodeKey) -> Path:
    """The names of a key without its indexes: which node of the graph it is an instance of."""
    if key.parent is None:
        return (key.name,)
    names: list[str] = []
    here: NodeKey | None = key
    while here is not None:
        names.append(here.name)
        here = here.parent
    names.reverse()
    return tuple(names)


def indexes_of(key: NodeKey) -> tuple[int, ...]:
    """The indexes of a key, outermost first: to put the items of a map in order."""
    found: list[int] = []
    here: NodeKey | None = key
    while here is not None:
        if here.index is not None:
            found.append(here.index)
        here = here.parent
    return tuple(reversed(found))


def _inside_map(key: NodeKey) -> bool:
    here: NodeKey | None = key
    while here is not None:
        if here.index is not None:
            return True
        here = here.parent
    return False
