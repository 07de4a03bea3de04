"""The polling of a platform: one loop for all attempts, and calls that end.

There is no task here: one of those who wait does the polling for all, and passes it on when it
leaves. So nothing is left when all have left, whoever opened or closed what.

Rule of this room: it knows handles and states; attempts and outcomes are `polling.py`'s.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeVar

import anyio

from onready.engine.errors import BackendError, FailureKind

T = TypeVar("T")
Phase = Literal["queued", "running", "succeeded", "failed"]


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
    `longest`, and falls back when something does. One call has at most `batch` handles, and ends
    after `call_timeout`, reading a job's whole log after `log_timeout`. All calls but polls are
    tried `tries` times where an error is retryable, the first time again after `backoff`. A job
    that the platform does not know for `unknown_after`, or of which nothing was heard for
    `unreachable_after` because the platform does not answer, is lost.
    """

    shortest: float = 0.5
    longest: float = 15.0
    factor: float = 1.5
    batch: int = 200
    call_timeout: float = 10.0
    log_timeout: float = 120.0
    tries: int = 4
    backoff: float = 0.25
    unknown_after: float = 30.0
    unreachable_after: float = 600.0


class Watch:
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
        """The job has ended, or is lost."""
        return bool(self.lost) or (
            self.job is not None and self.job.phase in {"succeeded", "failed"}
        )

    @property
    def has_news(self) -> bool:
        """Its owner has something to do."""
        return self.ended or (self.missed and not self.asked)


class Calls:
    """Calls of the author's code: each has a deadline, and is tried again where that may help."""

    def __init__(self, pace: Pace, transient: tuple[type[Exception], ...]) -> None:
        self._pace = pace
        self._transient = transient

    async def call(
        self,
        what: str,
        function: Callable[[], Awaitable[T]],
        *,
        shield: bool = False,
        tries: int = 0,
        timeout: float = 0.0,  # noqa: ASYNC109 - of one try, not of this call
    ) -> T:
        """Call the author's code with a deadline; again, after a wait, where that may help.

        stamina is not used here: it logs each retry by itself, through whatever logging the host
        has or has not set up.
        """
        limit = timeout or self._pace.call_timeout
        left = tries or self._pace.tries
        delay = self._pace.backoff
        while True:
            left -= 1
            try:
                with anyio.fail_after(limit, shield=shield):
                    return await function()
            except Exception as error:  # The author's own code and its client: anything.
                fault = self._fault(what, error, limit)
                if left <= 0 or not fault.retryable:
                    raise fault from error
            await anyio.sleep(delay * random.uniform(0.5, 1.0))  # noqa: S311 - no secret is made
            delay *= 2

    def _fault(self, what: str, error: Exception, limit: float) -> BackendError:
        if isinstance(error, BackendError):
            return error
        if isinstance(error, TimeoutError):
            return BackendError(f"{what}: no answer within {limit:g} s", retryable=True)
        message = f"{what}: {type(error).__name__}: {error}"
        return BackendError(message, retryable=isinstance(error, self._transient))


class Rounds:
    """The shared poll loop. `poll` is the author's."""

    def __init__(
        self,
        pace: Pace,
        calls: Calls,
        poll: Callable[[Sequence[str]], Awaitable[Mapping[str, Job]]],
    ) -> None:
        self._pace = pace
        self._calls = calls
        self._poll = poll
        self._watches: dict[Watch, None] = {}
        self._leader: Watch | None = None
        self._nudge: anyio.Event | None = None
        self._interval = pace.shortest
        self._polled = float("-inf")

    async def wait(self, watch: Watch) -> None:
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

    async def _lead(self, mine: Watch) -> None:
        while True:
            pause = self._polled + self._pace.shortest - anyio.current_time()
            if pause > 0:
                await anyio.sleep(pause)
            changed = await self._poll_all()
            self._polled = anyio.current_time()
            if mine.has_news:
                return
            grown = min(self._interval * self._pace.factor, self._pace.longest)
            self._interval = self._pace.shortest if changed else grown
            self._nudge = anyio.Event()
            with anyio.move_on_after(self._interval):
                await self._nudge.wait()
                self._interval = self._pace.shortest  # Somebody came: look sooner.

    async def _poll_all(self) -> bool:
        """Ask for all watched jobs; whether anything changed."""
        watches = list(self._watches)
        handles = list(dict.fromkeys(watch.handle for watch in watches))
        jobs: dict[str, Job] = {}
        silent: dict[str, str] = {}
        for batch in batches(handles, self._pace.batch):
            try:
                jobs.update(await self._calls.call("poll", partial(self._poll, batch), tries=1))
            except BackendError as error:
                silent.update(dict.fromkeys(batch, str(error)))
        now = anyio.current_time()
        changes = [
            self._news(watch, jobs.get(watch.handle), silent.get(watch.handle), now)
            for watch in watches
        ]
        return any(changes)

    def _news(self, watch: Watch, job: Job | None, silent: str | None, now: float) -> bool:
        previous = watch.job
        if job is not None:
            watch.job, watch.seen = job, now
            if job.phase != "queued" and (previous is None or previous.phase == "queued"):
                watch.on_running()
        elif silent is not None:
            if now - watch.seen > self._pace.unreachable_after:
                watch.lost = f"the platform does not answer: {silent}"
        else:
            watch.missed = True
            if now - watch.seen > self._pace.unknown_after:
                watch.lost = f"the platform does not know the job {watch.handle} (any more)"
        if watch.has_news:
            watch.turn.set()
        return job is not None and (watch.ended or previous != job)


def batches(handles: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    """The handles, at most `size` at a time."""
    for start in range(0, len(handles), size):
        yield handles[start : start + size]
