"""The board: a run's events folded into one row per node of the graph, a map being one row.

Both the live view and `onready show` look at it. A run may have several segments: it was resumed
after a crash, or retried. What a later one says counts.

Rule of this room: events in, rows out; no words, no colours, no I/O.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final, cast

from onready.cli.rows import Layout, Path, Row, around, indexes_of, lay_out, needing, path_of
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
    RunResumed,
    RunStarted,
    RunStatus,
    RunSucceeded,
    ScopeClosed,
    ScopeOpened,
)
from onready.engine.names import NodeKey
from onready.engine.plan.model import Plan

__all__ = ["Attempted", "Board", "Path", "Row", "Segment", "indexes_of", "path_of"]

KEPT: Final = 4
DRIVER: Final = "driver"
"""The reason of a failure that only says that the driver died."""
_GOOD: Final = frozenset({"succeeded", "cached"})
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
class Attempted:
    """What is known of one node instance that runs, or failed: attempts, times, place."""

    attempt: int
    began: float | None = None
    first: float | None = None
    ended: float | None = None
    backend: str = ""


@dataclass(frozen=True, slots=True)
class Segment:
    """A driver went on with the run: `retry` where it had ended. `kept` nodes had their value."""

    at: float
    retry: bool
    kept: int


class Board:
    """Feed it every event of a run, in order, with `apply`."""

    def __init__(self, plan: Plan | None = None) -> None:
        self._plan = plan
        self._layout = Layout() if plan is None else lay_out(plan)
        self.status: RunStatus = "running"
        self.started: RunStarted | None = None
        self.began: float = 0.0
        self.ended: float | None = None
        self.last: float = 0.0
        self.idle = 0.0
        """Seconds in which nobody drove the run."""
        self.reason = ""
        self.cancelling = False
        self.failures: list[tuple[NodeKey, Failure, Attempted]] = []
        self.skipped: list[tuple[NodeKey, str]] = []
        self.logged: dict[tuple[NodeKey, int], dict[str, int]] = {}
        self.segments: list[Segment] = []
        self._live: dict[NodeKey, Attempted] = {}
        self._ended: dict[NodeKey, str] = {}
        self._opened: dict[NodeKey, int] = {}
        self._closed: set[NodeKey] = set()
        self._passed: set[NodeKey] = set()

    @property
    def ends(self) -> Mapping[NodeKey, str]:
        """How each node instance ended, in the order in which they did."""
        return self._ended

    @property
    def rows(self) -> dict[Path, Row]:
        """All rows, in the order of the graph."""
        return self._layout.rows

    # --- events -------------------------------------------------------------------------------

    def apply(self, event: AnyEvent) -> None:
        """Take one event into account."""
        before, self.last = self.last, event.at
        kind = type(event)
        if kind in _WORDS:
            self._end(event, _WORDS[kind])
        elif isinstance(event, NodeStarted | AttemptPlanned):
            self._start(event)
        elif isinstance(event, NodeRetrying):
            self._retry(event)
        elif isinstance(event, ScopeOpened):
            self._open(event)
        elif isinstance(event, ScopeClosed):
            self._close(event)
        elif isinstance(event, NodeProgress):
            row = self._layout.row(event.node)
            row.message, row.fraction = event.message, event.fraction
        elif isinstance(event, NodeLog):
            sizes = self.logged.setdefault((event.node, event.attempt), {})
            sizes[event.stream] = event.size
        elif isinstance(event, RunResumed):
            self._resume(event, max(event.at - before, 0.0))
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
                if row.total is None:
                    # A map that never opened has no items: nobody will say so any more.
                    row.total, row.left_open = row.done, True
            if isinstance(event, RunFailed | RunCancelled) and event.reason:
                self.reason = event.reason

    # --- composites ---------------------------------------------------------------------------

    def _open(self, event: ScopeOpened) -> None:
        key = event.node
        before = self._opened.get(key, 0)
        self._opened[key] = event.count or 0
        path = path_of(key)
        if path in self._layout.repeats and key.index is None:
            row = self.rows[path]
            row.rounds += (event.count or 0) - before
            row.began = event.at if row.began is None else row.began
            row.total = None
        elif event.arm is not None:
            for row in self._layout.inside.get(self._layout.arm(key, event.arm), ()):
                row.total = (row.total or 0) + 1
            self._rescued(key, event.arm)
        elif path in self._layout.maps and event.count is not None:
            for row in self._layout.inside.get(path, ()):
                row.total = (row.total or 0) + event.count - before
                if event.count == 0 and row.began is None:
                    row.began = row.ended = event.at

    def _rescued(self, key: NodeKey, arm: str) -> None:
        """Where a handler takes over, what failed in the body has been made good for."""
        body = [failed for failed in self.failures if _is_in_another_arm(failed[0], key, arm)]
        for failed in body:
            self.failures.remove(failed)
            self._layout.row(failed[0]).reason = "rescued"

    def _close(self, event: ScopeClosed) -> None:
        key = event.node
        if event.status == "succeeded":
            self._closed.add(key)
        path = path_of(key)
        if path in self._layout.repeats and key.index is None:
            row = self.rows[path]
            row.ended = event.at
            if not row.many:
                row.total = row.done

    # --- attempts -----------------------------------------------------------------------------

    def _start(self, event: NodeStarted | AttemptPlanned) -> None:
        row = self._layout.row(event.node)
        if event.node in self._ended:
            self._forget(event.node, again=True)
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
            # What was said before it began is over: that its image was being pulled.
            row.message, row.fraction = "", None
        row.attempts += 1
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
        row = self._layout.row(event.node)
        live = self._stop(event.node, row, event.at)
        if event.failure.reason == DRIVER:
            # What was planned and had not begun does not run again: it runs.
            row.again += live is not None and live.first is not None
        else:
            row.retries += 1
        if live is not None:
            live.began = None
            self._live[event.node] = live

    def _end(self, event: AnyEvent, word: str) -> None:
        ended = cast("NodeSucceeded | NodeFailed | NodeLost | NodeCancelled", event)
        below = self._layout.below(ended.node) if word in {"skipped", "cancelled"} else []
        if below:
            # A composite that never opened: what is in it will not run.
            for row in below:
                row.counts[word] = row.counts.get(word, 0) + 1
                row.reason = ended.reason if isinstance(ended, NodeCancelled) else row.reason
            self._ended[ended.node] = word
            if isinstance(event, NodeSkipped):
                self._skip(event, below)
            return
        if ended.node in self._ended:
            self._forget(ended.node)
        self._ended[ended.node] = word
        row = self._layout.row(ended.node)
        live = self._stop(ended.node, row, ended.at)
        row.counts[word] = row.counts.get(word, 0) + 1
        if word != "skipped":
            row.ended = ended.at
        row.fraction, row.message = None, ""
        if word == "succeeded" and len(row.kept) < KEPT:
            row.kept.append(ended.node)
        if isinstance(event, NodeFailed | NodeLost):
            story = live or Attempted(event.attempt, backend=row.backend)
            story.attempt = event.attempt
            story.ended = event.at
            self.failures.append((event.node, event.failure, story))
        elif isinstance(event, NodeSkipped):
            self._skip(event, [row])
        elif isinstance(event, NodeCancelled) and event.reason:
            row.reason = event.reason

    def _skip(self, event: NodeSkipped, rows: list[Row]) -> None:
        chosen = _is_by_choice(event)
        for row in rows:
            row.passed += chosen
            if not (chosen and row.many):
                row.reason = event.reason or row.reason
        if event.reason and not chosen:
            self.skipped.append((event.node, event.reason))
        if chosen:
            self._passed.add(event.node)

    # --- a later segment ----------------------------------------------------------------------

    def _resume(self, event: RunResumed, pause: float) -> None:
        """Somebody goes on with the run: what ran has stopped, and has to be heard of again."""
        for key, live in self._live.items():
            if live.began is not None:
                self._layout.row(key).running -= 1
                live.began = None
        if event.retry:
            self._forget_failures(event.redo)
        self.idle += pause
        for row in self.rows.values():
            if row.left_open:
                row.total, row.left_open = None, False
            if row.began is not None and (row.total is None or row.done < row.total):
                row.idle += pause
                if not row.done and not row.repeats:
                    row.began, row.idle = None, 0.0
        self.status, self.ended, self.reason, self.cancelling = "running", None, "", False
        kept = self.count("succeeded") + self.count("cached")
        self.segments.append(Segment(event.at, event.retry, kept))

    def _forget_failures(self, redo: tuple[NodeKey, ...]) -> None:
        """As the engine does for a retry: what succeeded is kept, with all inside of it."""
        self._live.clear()
        runs_again = needing(self._plan, redo) if self._plan is not None else redo.__contains__
        for key, word in list(self._ended.items()):
            places = list(around(key))
            if runs_again(key) or (word not in _GOOD and self._closed.isdisjoint(places[1:])):
                self._forget(key, again=word in _GOOD)
        self.failures = [one for one in self.failures if one[0] in self._ended]
        self.skipped = [one for one in self.skipped if one[0] in self._ended]

    def _forget(self, key: NodeKey, *, again: bool = False) -> None:
        """Its end does not count any more; `again`: it runs once more though it was good."""
        word = self._ended.pop(key)
        rows = self._layout.below(key) if word in {"skipped", "cancelled"} else []
        passed = key in self._passed
        self._passed.discard(key)
        for row in rows or [self._layout.row(key)]:
            row.again += again
            row.passed -= passed
            left = row.counts.get(word, 0) - 1
            row.counts[word] = left
            if left <= 0:
                del row.counts[word]
            if word in {"skipped", "cancelled"}:
                row.reason = ""
            if not row.done and not row.repeats:
                row.began, row.idle = None, 0.0
            if key in row.kept:
                row.kept.remove(key)

    # --- sums ---------------------------------------------------------------------------------

    @property
    def elapsed(self) -> float:
        """Seconds that the run took so far, but for those in which nobody drove it."""
        return max((self.ended or self.last) - self.began - self.idle, 0.0)

    @property
    def driven_since(self) -> float:
        """When the present driver began, in UTC seconds."""
        return self.segments[-1].at if self.segments else self.began

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

    def shown(self) -> list[Row]:
        """The rows that people see: those that run, will run, or could not."""
        return [row for row in self.rows.values() if not row.absent]


def _is_by_choice(event: NodeSkipped) -> bool:
    """Whether it was skipped because another arm was chosen, and not for any trouble."""
    return " chose " in event.reason and any(key.arm is not None for key in around(event.node))


def _is_in_another_arm(key: NodeKey, composite: NodeKey, arm: str) -> bool:
    """Whether `key` is in an arm of `composite`, but not in this one."""
    return any(
        place.arm not in (None, arm) and NodeKey(place.name, place.parent) == composite
        for place in around(key)
    )
