"""`PollingBackend`: a backend for platforms that have submit, poll and cancel calls.

A plug-in writes three small coroutines, `submit`, `poll` and `cancel`, and gets a whole backend:
batched polling at an adaptive pace, deadlines and retries of client calls, bounded cancellation,
adoption by name, results by record. `rounds.py` does the polling.

Rule of this room: no platform is known here; events never decide, each poll's answer does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import partial
from typing import Final, Literal

import anyio

from onready.backends.rounds import Calls, Job, Pace, Rounds, Watch, batches
from onready.engine.errors import BackendError, Failure, FailureKind
from onready.engine.spi import (
    Attempt,
    Capabilities,
    Envelope,
    Failed,
    Labels,
    Lost,
    Outcome,
    Reporter,
    result_name,
)
from onready.engine.values.stored import Durable, Live, Stored
from onready.engine.worker.record import decode_record, encode_envelope

__all__ = ["Job", "Pace", "PollingBackend", "envelope", "labels", "recorded"]

BAD_ENVELOPE: Final = 64
TRY_AGAIN: Final = 75
"""Exit codes of `execute-single-node`, where it could not write a result record."""
_TAIL: Final = 20
_CANCEL_MARGIN: Final = 4.0
"""Seconds beyond the grace within which a cancelled job must be seen to have ended."""


class PollingBackend(ABC):
    """Base of backends for submit, poll and cancel platforms.

    `transient` are exception classes of the platform's client that mean "try again"
    (`httpx.TransportError`); authors may also raise `BackendError(..., retryable=True)`.
    """

    capabilities: Capabilities = Capabilities(adopt=True)
    transient: tuple[type[Exception], ...] = ()

    def __init__(self, pace: Pace | None = None) -> None:
        self.pace: Pace = pace if pace is not None else Pace()
        self._calls = Calls(self.pace, self.transient)
        self._rounds = Rounds(self.pace, self._calls, self.poll)

    # --- what an author writes ---------------------------------------------------------------

    @abstractmethod
    async def submit(self, attempt: Attempt) -> str:
        """Start the attempt's work under the name `attempt.name`; the platform's handle to it.

        Idempotent: where the name exists, compare its labels with `labels(attempt)`, return its
        handle where they are equal, and raise BackendError where they are not. What to run is
        `onready execute-single-node` with `envelope(attempt)`.
        """

    @abstractmethod
    async def poll(self, handles: Sequence[str]) -> Mapping[str, Job]:
        """The state of each of these jobs; leave out those that the platform does not know."""

    @abstractmethod
    async def cancel(self, handles: Sequence[str], grace: float) -> None:
        """Ask to stop these jobs: TERM, `grace` seconds, KILL. No error for what has ended."""

    async def find(self, name: str) -> str | None:
        """The handle of the job with this name, if there is one. Write it if you can adopt."""
        del name
        return None

    def logs(self, handle: str) -> AsyncIterator[tuple[Literal["stdout", "stderr"], bytes]]:
        """All output of a job that has ended. Write it if `capabilities.logs`."""
        del handle
        return _nothing()

    async def leftovers(self) -> Mapping[str, Labels]:
        """All jobs of ours on the platform, by handle. Write it so that `sweep` can work."""
        return {}

    async def remove(self, handles: Sequence[str]) -> None:
        """Forget jobs that have ended, where the platform keeps them until told."""
        del handles

    # --- the backend's contract --------------------------------------------------------------

    async def execute(self, attempt: Attempt, report: Reporter) -> Outcome:
        """Submit the attempt and own it to its end (see `Backend`)."""
        try:
            # Shielded: a submission that was cut off half-way could not be stopped afterwards.
            handle = await self._calls.call("submit", partial(self.submit, attempt), shield=True)
        except anyio.get_cancelled_exc_class():
            if not attempt.fenced:
                with anyio.move_on_after(attempt.grace + _CANCEL_MARGIN, shield=True):
                    await self._stop_by_name(attempt, report)
            raise
        return await self._own(attempt, handle, report)

    async def recover(self, attempt: Attempt, report: Reporter) -> Outcome | None:
        """Find the attempt by its name and own it; else its result record; else None."""
        handle = await self._calls.call("find", partial(self.find, attempt.name))
        if handle is None:
            return await recorded(attempt)
        return await self._own(attempt, handle, report)

    async def sweep(self, keep: Callable[[Labels], bool]) -> int:
        """Cancel and remove all our jobs that `keep` does not want; their number."""
        found = await self._calls.call("leftovers", self.leftovers)
        unwanted = [handle for handle, labels in found.items() if not keep(labels)]
        for batch in batches(unwanted, self.pace.batch):
            await self._calls.call("cancel", partial(self.cancel, batch, 0.0))
            await self._calls.call("remove", partial(self.remove, batch))
        return len(unwanted)

    async def outcome(self, attempt: Attempt, job: Job, report: Reporter) -> Outcome:
        """What became of an attempt whose job has ended: its result record, else what `job` says.

        Override it for work that leaves no record.
        """
        found = await recorded(attempt)
        if found is not None:
            return found
        if job.phase == "succeeded":
            message = f"the job ended well but left no result record ({attempt.name})"
            return Lost(_failure(attempt, "lost", message, job, report))
        code = "" if job.exit_code is None else f" with exit code {job.exit_code}"
        reason = f": {job.reason}" if job.reason else ""
        message = f"the job failed{code}{reason}"
        if job.exit_code == TRY_AGAIN:
            raise BackendError(message, retryable=True)
        kind: FailureKind = "config" if job.exit_code == BAD_ENVELOPE else job.kind
        return Failed(_failure(attempt, kind, message, job, report))

    # --- one attempt -------------------------------------------------------------------------

    async def _own(self, attempt: Attempt, handle: str, report: Reporter) -> Outcome:
        watch = Watch(handle, lambda: report.started(handle), anyio.current_time())
        try:
            await self._rounds.wait(watch)
            while not watch.ended:  # Gone from the platform, perhaps because it is done.
                watch.asked = True
                if (found := await recorded(attempt)) is not None:
                    return found
                await self._rounds.wait(watch)
        except anyio.get_cancelled_exc_class():
            if attempt.fenced:
                raise  # it is another driver's
            with anyio.move_on_after(attempt.grace + _CANCEL_MARGIN, shield=True):
                await self._stop(attempt, watch, report)
            if not watch.ended and not watch.missed:
                report.warning("cancel-timeout", f"job {handle} was not seen to end")
            raise
        return await self._conclude(attempt, watch, report)

    async def _conclude(self, attempt: Attempt, watch: Watch, report: Reporter) -> Outcome:
        if watch.job is None or watch.lost:
            found = await recorded(attempt)
            job = watch.job or Job("queued")
            return found or Lost(_failure(attempt, "lost", watch.lost, job, report))
        await self._fetch_logs(watch.handle, report)
        try:
            return await self.outcome(attempt, watch.job, report)
        finally:
            await self._remove(watch.handle, report)

    async def _remove(self, handle: str, report: Reporter) -> None:
        try:
            await self._calls.call("remove", partial(self.remove, [handle]))
        except BackendError as error:
            report.warning("not-removed", str(error))

    async def _fetch_logs(self, handle: str, report: Reporter) -> None:
        given: Counter[str] = Counter()
        try:
            give = partial(self._give_logs, handle, report, given)
            await self._calls.call("logs", give, timeout=self.pace.log_timeout)
        except BackendError as error:
            report.warning("logs-incomplete", str(error))

    async def _give_logs(self, handle: str, report: Reporter, given: Counter[str]) -> None:
        """Report the job's output beyond what was `given` by earlier tries."""
        seen: Counter[str] = Counter()
        async for stream, data in self.logs(handle):
            new = data[max(0, given[stream] - seen[stream]) :]
            seen[stream] += len(data)
            if new:
                report.log(stream, new)
                given[stream] = seen[stream]

    async def _stop(self, attempt: Attempt, watch: Watch, report: Reporter) -> None:
        try:
            watch.missed = watch.asked = False  # From now on, gone is as good as ended.
            await self._calls.call("cancel", partial(self.cancel, [watch.handle], attempt.grace))
            await self._rounds.wait(watch)
            if watch.job is not None and not watch.lost:
                await self._fetch_logs(watch.handle, report)
                await self._remove(watch.handle, report)
        except BackendError as error:
            report.warning("cancel-failed", str(error))

    async def _stop_by_name(self, attempt: Attempt, report: Reporter) -> None:
        try:
            handle = await self._calls.call("find", partial(self.find, attempt.name))
        except BackendError as error:
            report.warning("cancel-failed", str(error))
            return
        if handle is not None:
            watch = Watch(handle, lambda: None, anyio.current_time())
            await self._stop(attempt, watch, report)


async def _nothing() -> AsyncIterator[tuple[Literal["stdout", "stderr"], bytes]]:
    nothing: tuple[tuple[Literal["stdout", "stderr"], bytes], ...] = ()
    for item in nothing:
        yield item


def envelope(attempt: Attempt, where: Literal["host", "container", "cluster"]) -> bytes:
    """The attempt's envelope, as the JSON that `onready execute-single-node` takes.

    `where` the worker will run: from there it must reach the catalog. StoreError where it cannot;
    TypeError where an input is a live object.
    """
    return encode_envelope(
        Envelope(
            run=attempt.run,
            node=str(attempt.key),
            attempt=attempt.number,
            epoch=attempt.epoch,
            name=attempt.name,
            work=attempt.work,
            inputs={name: _durable(name, value) for name, value in attempt.inputs.items()},
            catalog=attempt.catalog.access(where).url,
            fingerprint=attempt.fingerprint,
            timeout=attempt.timeout,
        )
    )


def _durable(name: str, value: Stored) -> Durable:
    if isinstance(value, Live):
        message = f"input {name!r} is a live object and cannot leave the process"
        raise TypeError(message)
    return value


def labels(attempt: Attempt) -> Labels:
    """What an external job must be labelled with."""
    return Labels(attempt.run, str(attempt.key), attempt.number, attempt.epoch)


async def recorded(attempt: Attempt) -> Outcome | None:
    """The outcome in the attempt's result record, which is its commit; None where there is none."""
    try:
        content = await attempt.catalog.read(result_name(attempt.run, attempt.name))
    except KeyError:
        return None
    return decode_record(content).outcome


def _failure(
    attempt: Attempt, kind: FailureKind, message: str, job: Job, report: Reporter
) -> Failure:
    return Failure(
        kind,
        message,
        node=str(attempt.key),
        attempt=attempt.number,
        reason=job.reason,
        log=report.tail(_TAIL),
        exit_code=job.exit_code,
    )
