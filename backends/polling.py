"""`PollingBackend`: a backend for platforms that have submit, poll and cancel calls.

A plug-in writes three small coroutines, `submit`, `poll` and `cancel`, and gets a whole backend:
batched polling at an adaptive pace, deadlines and retries of client calls, bounded cancellation,
adoption by name, results by record. There is no task of its own: one of the attempts that wait
does the polling for all, and passes it on when it leaves. So nothing is left when all have left.

Rule of this room: no platform is known here; events never decide, each poll's answer does.
"""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, TypeVar

import anyio

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

T = TypeVar("T")
Phase = Literal["queued", "running", "succeeded", "failed"]
BAD_ENVELOPE: Final = 64
TRY_AGAIN: Final = 75
"""Exit codes of `execute-single-node`, where it could not write a result record."""
_TAIL: Final = 20
_CANCEL_MARGIN: Final = 4.0
"""Seconds beyond the grace within which a cancelled job must be seen to have ended."""


@dataclass(frozen=True, slots=True)
class Job:
    """What a platform says of one job.

    `exit_code`, `reason` (the platform's raw word) and `kind` matter where it failed.
    """

    phase: Phase
    exit_code: int | None = None
    reason: str = ""
    kind: FailureKind = "exit"


@dataclass(frozen=True, slots=True)
class Pace:
    """How a platform is polled; times in seconds.

    The wait between polls starts at `shortest`, grows by `factor` while nothing changes, up to
    `longest`, and falls back when something does. One call has at most `batch` handles and
    `call_timeout`; `submit`, `find` and `cancel` are tried `tries` times where an error is
    retryable. A job that the platform does not know for `unknown_after`, or of which nothing was
    heard for `unreachable_after` because the platform does not answer, is lost.
    """

    shortest: float = 0.5
    longest: float = 15.0
    factor: float = 1.5
    batch: int = 200
    call_timeout: float = 10.0
    tries: int = 4
    backoff: float = 0.25
    unknown_after: float = 30.0
    unreachable_after: float = 600.0


class _Watch:
    """One attempt that waits for the end of its job."""

    __slots__ = ("asked", "handle", "job", "lost", "missed", "on_running", "seen", "turn")

    def __init__(self, handle: str, on_running: Callable[[], None], now: float) -> None:
        self.handle = handle
        self.on_running = on_running
        self.seen = now
        self.job: Job | None = None
        self.lost = ""
        self.missed = False
        """The platform answered, and did not know the job."""
        self.asked = False
        """Its owner has seen that it was missed, and looked for a record."""
        self.turn = anyio.Event()

    @property
    def ended(self) -> bool:
        return bool(self.lost) or (
            self.job is not None and self.job.phase in {"succeeded", "failed"}
        )

    @property
    def has_news(self) -> bool:
        return self.ended or (self.missed and not self.asked)


class PollingBackend(ABC):
    """Base of backends for submit, poll and cancel platforms.

    `transient` are exception classes of the platform's client that mean "try again"
    (`httpx.TransportError`); authors may also raise `BackendError(..., retryable=True)`.
    """

    capabilities: Capabilities = Capabilities(adopt=True)
    transient: tuple[type[Exception], ...] = ()

    def __init__(self, pace: Pace | None = None) -> None:
        self.pace: Pace = pace if pace is not None else Pace()
        self._watches: dict[_Watch, None] = {}
        self._leader: _Watch | None = None
        self._nudge: anyio.Event | None = None
        self._interval: float = self.pace.shortest
        self._polled: float = float("-inf")

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
            handle = await self._call("submit", partial(self.submit, attempt), shield=True)
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(attempt.grace + _CANCEL_MARGIN, shield=True):
                await self._stop_by_name(attempt, report)
            raise
        return await self._own(attempt, handle, report)

    async def recover(self, attempt: Attempt, report: Reporter) -> Outcome | None:
        """Find the attempt by its name and own it; else its result record; else None."""
        handle = await self._call("find", partial(self.find, attempt.name))
        if handle is None:
            return await recorded(attempt)
        return await self._own(attempt, handle, report)

    async def sweep(self, keep: Callable[[Labels], bool]) -> int:
        """Cancel and remove all our jobs that `keep` does not want; their number."""
        found = await self._call("leftovers", self.leftovers)
        unwanted = [handle for handle, labels in found.items() if not keep(labels)]
        for batch in self._batches(unwanted):
            await self._call("cancel", partial(self.cancel, batch, 0.0))
            await self._call("remove", partial(self.remove, batch))
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
        watch = _Watch(handle, lambda: report.started(handle), anyio.current_time())
        try:
            await self._wait(watch)
            while not watch.ended:  # Gone from the platform, perhaps because it is done.
                watch.asked = True
                if (found := await recorded(attempt)) is not None:
                    return found
                await self._wait(watch)
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(attempt.grace + _CANCEL_MARGIN, shield=True):
                await self._stop(attempt, watch, report)
            if not watch.ended and not watch.missed:
                report.warning("cancel-timeout", f"job {handle} was not seen to end")
            raise
        return await self._conclude(attempt, watch, report)

    async def _conclude(self, attempt: Attempt, watch: _Watch, report: Reporter) -> Outcome:
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
            await self._call("remove", partial(self.remove, [handle]))
        except BackendError as error:
            report.warning("not-removed", str(error))

    async def _fetch_logs(self, handle: str, report: Reporter) -> None:
        given: Counter[str] = Counter()
        try:
            await self._call("logs", partial(self._give_logs, handle, report, given))
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

    async def _stop(self, attempt: Attempt, watch: _Watch, report: Reporter) -> None:
        try:
            watch.missed = watch.asked = False  # From now on, gone is as good as ended.
            await self._call("cancel", partial(self.cancel, [watch.handle], attempt.grace))
            await self._wait(watch)
            if watch.job is not None and not watch.lost:
                await self._fetch_logs(watch.handle, report)
                await self._remove(watch.handle, report)
        except BackendError as error:
            report.warning("cancel-failed", str(error))

    async def _stop_by_name(self, attempt: Attempt, report: Reporter) -> None:
        try:
            handle = await self._call("find", partial(self.find, attempt.name))
        except BackendError as error:
            report.warning("cancel-failed", str(error))
            return
        if handle is not None:
            watch = _Watch(handle, lambda: None, anyio.current_time())
            await self._stop(attempt, watch, report)

    # --- the shared poll loop ----------------------------------------------------------------

    async def _wait(self, watch: _Watch) -> None:
        """Return when there is news for the watch; poll for all while nobody else does."""
        self._watches[watch] = None
        if self._nudge is not None:
            self._nudge.set()
        try:
            while not watch.has_news:
                if self._leader is None:
                    self._leader = watch
                    try:
                        await self._lead(watch)
                    finally:
                        self._leader = None
                else:
                    await watch.turn.wait()
                    watch.turn = anyio.Event()
        finally:
            del self._watches[watch]
            if self._leader is None:
                for successor in self._watches:
                    successor.turn.set()
                    break

    async def _lead(self, mine: _Watch) -> None:
        while True:
            pause = self._polled + self.pace.shortest - anyio.current_time()
            if pause > 0:
                await anyio.sleep(pause)
            changed = await self._poll_all()
            self._polled = anyio.current_time()
            if mine.has_news:
                return
            grown = min(self._interval * self.pace.factor, self.pace.longest)
            self._interval = self.pace.shortest if changed else grown
            self._nudge = anyio.Event()
            with anyio.move_on_after(self._interval):
                await self._nudge.wait()
                self._interval = self.pace.shortest  # Somebody came: look sooner.

    async def _poll_all(self) -> bool:
        """Ask for all watched jobs; whether anything changed."""
        watches = list(self._watches)
        handles = list(dict.fromkeys(watch.handle for watch in watches))
        jobs: dict[str, Job] = {}
        silent: dict[str, str] = {}
        for batch in self._batches(handles):
            try:
                jobs.update(await self._call("poll", partial(self.poll, batch), tries=1))
            except BackendError as error:
                silent.update(dict.fromkeys(batch, str(error)))
        now = anyio.current_time()
        changes = [
            self._news(watch, jobs.get(watch.handle), silent.get(watch.handle), now)
            for watch in watches
        ]
        return any(changes)

    def _batches(self, handles: Sequence[str]) -> Iterator[Sequence[str]]:
        for start in range(0, len(handles), self.pace.batch):
            yield handles[start : start + self.pace.batch]

    def _news(self, watch: _Watch, job: Job | None, silent: str | None, now: float) -> bool:
        previous = watch.job
        if job is not None:
            watch.job, watch.seen = job, now
            if job.phase != "queued" and (previous is None or previous.phase == "queued"):
                watch.on_running()
        elif silent is not None:
            if now - watch.seen > self.pace.unreachable_after:
                watch.lost = f"the platform does not answer: {silent}"
        else:
            watch.missed = True
            if now - watch.seen > self.pace.unknown_after:
                watch.lost = f"the platform does not know the job {watch.handle} (any more)"
        if watch.has_news:
            watch.turn.set()
        return job is not None and (watch.ended or previous != job)

    # --- client calls ------------------------------------------------------------------------

    async def _call(
        self,
        what: str,
        function: Callable[[], Awaitable[T]],
        *,
        shield: bool = False,
        tries: int = 0,
    ) -> T:
        """Call the author's code with a deadline; again, after a wait, where that may help.

        stamina is not used here: it logs each retry by itself, through whatever logging the host
        has or has not set up.
        """
        left = tries or self.pace.tries
        delay = self.pace.backoff
        while True:
            left -= 1
            try:
                with anyio.fail_after(self.pace.call_timeout, shield=shield):
                    return await function()
            except Exception as error:  # The author's own code and its client: anything.
                fault = self._fault(what, error)
                if left <= 0 or not fault.retryable:
                    raise fault from error
            await anyio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - no secret is made
            delay *= 2

    def _fault(self, what: str, error: Exception) -> BackendError:
        if isinstance(error, BackendError):
            return error
        if isinstance(error, TimeoutError):
            limit = self.pace.call_timeout
            return BackendError(f"{what}: no answer within {limit:g} s", retryable=True)
        message = f"{what}: {type(error).__name__}: {error}"
        return BackendError(message, retryable=isinstance(error, self.transient))


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
