"""Runs in the run log, for whoever asks: by id, prefix, name; what is recorded of them.

What may not live here: anything that changes a run.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field, replace

import anyio

from onready.engine.dispatcher.journal import ENDS
from onready.engine.errors import Failure, RunNotFound
from onready.engine.events import (
    AnyEvent,
    NodeFailed,
    NodeLost,
    RunCancelled,
    RunFailed,
    RunResumed,
    RunStarted,
    RunStatus,
    RunSucceeded,
)
from onready.engine.owner import is_dead
from onready.engine.spi import RunFilter, RunLog, RunRecord
from onready.engine.values.stored import Stored


@dataclass(slots=True)
class Summary:
    """The two ends of a recorded run, and what failed in between."""

    first: RunStarted
    last: RunSucceeded | RunFailed | RunCancelled | None = None
    failures: list[Failure] = field(default_factory=list)

    @property
    def status(self) -> RunStatus:
        """How the run ended; `interrupted` where its end is not recorded."""
        if isinstance(self.last, RunSucceeded):
            return "succeeded"
        if isinstance(self.last, RunFailed):
            return "failed"
        return "cancelled" if self.last is not None else "interrupted"

    @property
    def value(self) -> Stored:
        """The graph's value; None where the run did not succeed."""
        return self.last.value if isinstance(self.last, RunSucceeded) else None

    @property
    def reason(self) -> str:
        """Why it was cancelled, or failed for no node's fault."""
        return self.last.reason if isinstance(self.last, (RunFailed, RunCancelled)) else ""


async def read_events(run_log: RunLog, run: str, after: int = 0) -> AsyncGenerator[AnyEvent, None]:
    """What is recorded of `run` by now, from `after` on; ends where the record ends."""
    async for batch in run_log.read(run, after):
        for event in batch:
            yield event


async def summarise_run(run_log: RunLog, run: str) -> Summary | None:
    """What is recorded of `run`, or None where nothing is."""
    summary: Summary | None = None
    async for batch in run_log.read(run):
        for event in batch:
            if isinstance(event, RunStarted):
                summary = Summary(event)
            elif summary is None:  # pragma: no cover - stores refuse another first event
                continue
            elif isinstance(event, ENDS):
                summary.last = event
            elif isinstance(event, RunResumed):
                summary.last = None
                if event.retry:
                    summary.failures.clear()
            elif isinstance(event, (NodeFailed, NodeLost)):
                summary.failures.append(event.failure)
    return summary


async def list_runs(run_log: RunLog, query: RunFilter) -> Sequence[RunRecord]:
    """The runs that `query` wants, newest first, at most as many as it says.

    A store calls a run interrupted once its lease has expired. Here that is said at once where
    the process that holds the lease has certainly died.
    """
    if query.status not in {None, "running", "interrupted"}:
        return await run_log.runs(query)
    if query.status is None:
        return await _buried(await run_log.runs(query))
    # All that are open, for which of them count is known only afterwards.
    everything = replace(query, status="running", limit=sys.maxsize)
    found = [*await _buried(await run_log.runs(everything))]
    if query.status == "interrupted":
        found += await run_log.runs(query)
        found.sort(key=lambda record: (record.created, record.run), reverse=True)
    return [record for record in found if record.status == query.status][: max(query.limit, 0)]


async def _buried(records: Sequence[RunRecord]) -> Sequence[RunRecord]:
    """The same, the runs of dead drivers interrupted."""
    owners = {one.owner for one in records if one.status == "running" and one.owner}
    if not owners:
        return records
    dead = await anyio.to_thread.run_sync(lambda: {owner for owner in owners if is_dead(owner)})
    return [
        replace(one, status="interrupted") if one.status == "running" and one.owner in dead else one
        for one in records
    ]


async def find_run(run_log: RunLog, text: str) -> RunRecord:
    """The run that `text` names: an id, a unique prefix of one, a friendly name, `last`.

    RunNotFound where there is none, or more than one.
    """
    if text == "last":
        newest = await list_runs(run_log, RunFilter(limit=1))
        if newest:
            return newest[0]
        message = "there are no runs yet"
        raise RunNotFound(message)
    # All of them: the run whose id is a prefix of many others may be the oldest.
    found = await list_runs(run_log, RunFilter(prefix=text, limit=sys.maxsize)) if text else ()
    exact = [record for record in found if text in (record.run, record.name)]
    if exact:
        # Friendly names may come again: the newest is meant, and runs come newest first.
        return exact[0]
    if len(found) == 1:
        return found[0]
    raise RunNotFound(_not_one(text, found))


def _not_one(text: str, found: Sequence[RunRecord]) -> str:
    if not found:
        return f"no run is called {text!r}"
    names = ", ".join(f"{record.run} ({record.name})" for record in found[:5])
    return f"{text!r} fits {len(found)} runs: {names}"
