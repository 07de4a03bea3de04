"""The checker: one pass over the events, one record per node.

After a violation it goes on with what the event says, so that one mistake is told once.

Rule of this room: it reads events and changes its own records only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, cast

from onready.engine.events import (
    AnyEvent,
    ArtifactStored,
    AttemptPlanned,
    BackendWarning,
    NodeCached,
    NodeCancelled,
    NodeEmitted,
    NodeFailed,
    NodeLog,
    NodeLost,
    NodeProgress,
    NodeRetrying,
    NodeSkipped,
    NodeStarted,
    NodeSucceeded,
    RunCancelled,
    RunFailed,
    RunResumed,
    RunStarted,
    RunSucceeded,
    ScopeClosed,
    ScopeOpened,
)
from onready.engine.history.places import Places, bare
from onready.engine.history.record import FAILED, GOOD, Record
from onready.engine.history.rules import Violation
from onready.engine.history.scopes import Scopes
from onready.engine.names import NodeKey
from onready.engine.plan.model import Plan

RUN_ENDS: Final = (RunSucceeded, RunFailed, RunCancelled)
NODE_ENDS: Final = {
    NodeSucceeded: "succeeded",
    NodeFailed: "failed",
    NodeLost: "lost",
    NodeCancelled: "cancelled",
    NodeSkipped: "skipped",
    NodeCached: "cached",
}
STATELESS: Final = (NodeProgress, NodeEmitted, NodeLog, BackendWarning, ArtifactStored)
"""News about attempts from which nothing follows, and which may come late."""

NodeEnd = NodeSucceeded | NodeFailed | NodeLost | NodeCancelled | NodeSkipped | NodeCached


def check_history(events: Sequence[AnyEvent], plan: Plan | None = None) -> list[Violation]:
    """What is wrong with the events of one run, in their order; nothing where all is well.

    `events` are all of the run's, from the first. With the plan, what nodes need and what scopes
    hold is checked too, for as long as the run has that plan (by fingerprint). The plan's own
    objects are read, its functions are never called. How many attempts were alive at once is
    not judged: the limits of an engine are in no event.
    """
    return Checker(plan).check(events)


class Checker:
    """One history. `check` once."""

    def __init__(self, plan: Plan | None) -> None:
        self._plan = plan
        self._found: list[Violation] = []
        self._seq = 0
        self._segment = 1
        self._ended = False
        self._epoch = 0
        self._records: dict[NodeKey, Record] = {}
        self._root = Record(None, opened=True, open=True)
        self._scopes = Scopes(self._root, self._records, self._say)
        self._handlers: dict[type, Callable[[AnyEvent], None]] = {
            RunStarted: cast("Callable[[AnyEvent], None]", self._on_run_started),
            RunResumed: cast("Callable[[AnyEvent], None]", self._on_run_resumed),
            AttemptPlanned: cast("Callable[[AnyEvent], None]", self._on_planned),
            NodeStarted: cast("Callable[[AnyEvent], None]", self._on_started),
            NodeRetrying: cast("Callable[[AnyEvent], None]", self._on_retrying),
            ScopeOpened: cast("Callable[[AnyEvent], None]", self._on_opened),
            ScopeClosed: cast("Callable[[AnyEvent], None]", self._on_closed),
            **dict.fromkeys(NODE_ENDS, cast("Callable[[AnyEvent], None]", self._on_end)),
            **dict.fromkeys(RUN_ENDS, cast("Callable[[AnyEvent], None]", self._on_run_end)),
        }

    def check(self, events: Sequence[AnyEvent]) -> list[Violation]:
        """Read the whole history and say what is wrong with it."""
        if not events:
            return [Violation("run", 0, "", "there are no events")]
        fingerprints = [e.fingerprint for e in events if isinstance(e, (RunStarted, RunResumed))]
        if self._plan is not None and self._plan.fingerprint not in fingerprints:
            self._say("plan", "", f"this run never had the plan {self._plan.fingerprint}")
        expected = 1
        for place, event in enumerate(events):
            self._seq = event.seq
            if event.seq != expected:
                self._say("sequence", "", f"number {event.seq} comes where {expected} should")
            expected = event.seq + 1
            self._run_rules(place, event)
            handler = self._handlers.get(type(event))
            if handler is not None:
                handler(event)
        return self._found

    def _say(self, rule: str, node: str, text: str) -> None:
        self._found.append(Violation(rule, self._seq, node, text))

    # --- the run ------------------------------------------------------------------------------

    def _run_rules(self, place: int, event: AnyEvent) -> None:
        first = type(event) is RunStarted
        if first is not (place == 0):
            what = "a second run.started" if first else "the first event is not run.started"
            self._say("run", "", what)
        if self._ended and type(event) is not RunResumed:
            self._say("run", "", "it comes after the end of the run")

    def _on_run_started(self, event: RunStarted) -> None:
        self._epoch = event.epoch
        self._use_plan(event.fingerprint)

    def _use_plan(self, fingerprint: str) -> None:
        plan = self._plan
        if fingerprint:
            same = plan is not None and plan.fingerprint == fingerprint
            self._scopes.places = Places(plan) if same and plan is not None else None

    def _on_run_resumed(self, event: RunResumed) -> None:
        if event.epoch <= self._epoch:
            self._say("epoch", "", f"epoch {event.epoch} does not follow epoch {self._epoch}")
        self._epoch = event.epoch
        if event.retry is not self._ended:
            text = "retried though it has not ended" if event.retry else "resumed after its end"
            self._say("run", "", text)
        self._use_plan(event.fingerprint)
        if event.retry:
            self._segment += 1
            self._retry(event.redo)
        self._ended = False

    def _retry(self, redo: tuple[NodeKey, ...]) -> None:
        places = self._scopes.places
        redo = (*redo, *self._cleaned_again())
        for record in self._records.values():
            if record.end in GOOD:
                assert record.key is not None
                # Without the plan nobody can say what needs the nodes that are to be redone.
                again = bool(redo) and (
                    places is None or any(places.follows(record.key, key) for key in redo)
                )
            else:
                again = True
            if again:
                record.reset()

    def _cleaned_again(self) -> list[NodeKey]:
        """Clean-up nodes that come after what is to run again: they do, too."""
        places = self._scopes.places
        again: list[NodeKey] = []
        if places is None:
            return again
        open_ones = {key for key, record in self._records.items() if record.end not in GOOD}
        found = True
        while found:
            found = False
            for key, record in self._records.items():
                node = places.node(key)
                if node is None or not node.always or key in open_ones or not record.end:
                    continue
                if not open_ones.isdisjoint(places.siblings(key, node.waits)):
                    open_ones.add(key)
                    again.append(key)
                    found = True
        return again

    def _on_run_end(self, event: RunSucceeded | RunFailed | RunCancelled) -> None:
        if self._ended:
            return
        self._ended = True
        for record in self._records.values():
            if not record.end and record.segment == self._segment:
                self._say("ended", record.name, "the run ends, and this has not ended")
        if type(event) is RunSucceeded:
            self._scopes.judge_success(self._root)
        elif type(event) is RunFailed:
            for key in event.nodes:
                known = self._records.get(key)
                if known is None or known.end not in FAILED:
                    self._say("verdict", str(key), "the run says it failed; it did not")

    # --- attempts -----------------------------------------------------------------------------

    def _touch(self, key: NodeKey) -> Record:
        """The record of the node that something happens to."""
        record = self._records.get(key)
        if record is None:
            record = self._records[key] = Record(key)
            owner = self._scopes.owner(key)
            if owner is not None:
                owner.inside[key] = record
        record.segment = self._segment
        return record

    def _on_planned(self, event: AttemptPlanned) -> None:
        record = self._touch(event.node)
        self._begin(record, event.attempt)
        record.planned = True

    def _on_started(self, event: NodeStarted) -> None:
        record = self._touch(event.node)
        same = record.live and record.attempt == event.attempt
        if same and record.planned and not record.started:
            self._scopes.judge_place(event.node)
        else:
            self._begin(record, event.attempt)
        record.started = True

    def _begin(self, record: Record, attempt: int) -> None:
        key = record.key
        assert key is not None
        self._scopes.judge_place(key)
        if record.opened:
            self._say("scope", record.name, "a composite has an attempt")
        if record.end:
            self._judge_again(record)
        elif record.live:
            self._say(
                "attempts", record.name, f"attempt {attempt} begins beside attempt {record.attempt}"
            )
        if attempt != record.attempt + 1:
            self._say(
                "attempts", record.name, f"attempt {attempt} follows attempt {record.attempt}"
            )
        self._scopes.judge_waits(key)
        record.begin(attempt, self._segment)

    def _judge_again(self, record: Record) -> None:
        if record.end in GOOD:
            self._say("rerun", record.name, f"begins again though it has {record.end}")
        else:
            self._say("terminal", record.name, f"begins again after its end ({record.end})")

    def _on_retrying(self, event: NodeRetrying) -> None:
        record = self._touch(event.node)
        if record.end:
            self._say("terminal", record.name, f"retried after its end ({record.end})")
        self._judge_number(record, event.attempt, live=True)
        record.live = False

    def _judge_number(self, record: Record, attempt: int, *, live: bool) -> None:
        """The event is about the newest attempt, and that has not ended if it must be `live`."""
        if attempt != record.attempt:
            text = f"attempt {attempt} ends, the newest is {record.attempt}"
            self._say("attempts", record.name, text)
        elif live and not record.live:
            self._say("attempts", record.name, f"attempt {attempt} ends though it is not running")

    def _on_end(self, event: NodeEnd) -> None:
        record = self._touch(event.node)
        self._scopes.judge_place(event.node, skipped=type(event) is NodeSkipped)
        if record.end:
            self._say("terminal", record.name, f"a second end, it has {record.end}")
            return
        if record.open and not record.again:
            alone = type(event) is NodeFailed and not event.attempt and not record.stuck
            if alone and self._scopes.judge_limit(record):
                record.stuck = True
                return
            self._say("scope", record.name, "a node's end, though it was opened and not closed")
        self._judge_end(record, event)
        record.attempt = max(record.attempt, event.attempt)
        record.end = NODE_ENDS[type(event)]
        record.live = record.open = record.again = False

    def _judge_end(self, record: Record, event: NodeEnd) -> None:
        kind = type(event)
        number = event.attempt
        if kind is NodeSkipped:
            if record.live or record.tries == self._segment:
                self._say("attempts", record.name, "skipped though it has had an attempt")
        elif kind is NodeCached:
            if record.live or number not in {0, record.attempt, record.attempt + 1}:
                self._say("attempts", record.name, f"cached as attempt {number}, while it runs")
        elif kind is NodeSucceeded:
            self._judge_number(record, number, live=True)
        elif kind is NodeFailed and not number:
            # It failed before an attempt was made of it.
            if record.live:
                self._say("attempts", record.name, "ends as attempt 0 while an attempt runs")
        else:
            self._judge_number(record, number, live=kind is not NodeCancelled)

    # --- scopes -------------------------------------------------------------------------------

    def _on_opened(self, event: ScopeOpened) -> None:
        record = self._touch(event.node)
        self._scopes.judge_place(event.node)
        if record.attempt and not record.opened:
            self._say("scope", record.name, "opened though it has had an attempt")
        if record.end:
            self._judge_again(record)
        if record.open and not record.again:
            self._scopes.judge_reopening(record, event)
        else:
            self._scopes.judge_waits(event.node)
            self._scopes.judge_opening(record, event, first=not record.again)
            record.arms = []
        record.end = ""
        record.opened = record.open = True
        record.again = False
        record.count = event.count
        if event.arm is not None:
            record.arms.append(event.arm)

    def _on_closed(self, event: ScopeClosed) -> None:
        record = self._touch(event.node)
        self._scopes.judge_place(event.node)
        if not record.open:
            text = "closed twice" if record.opened else "closed, and was never opened"
            self._say("scope", record.name, text)
        self._judge_inside(record.inside.values())
        if event.status == "succeeded":
            self._scopes.judge_success(record)
        if record.stuck and event.status != "failed":
            self._say("verdict", record.name, f"{event.status}, though it had failed")
        record.end = event.status
        record.opened = True
        record.open = record.again = False

    def _judge_inside(self, records: Iterable[Record]) -> None:
        for record in records:
            if not record.end and record.segment == self._segment:
                owner = bare(record.key) if record.key is not None else None
                self._say("scope", record.name, f"{owner} closes, and this has not ended")
