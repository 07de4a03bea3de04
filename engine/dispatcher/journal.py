"""The journal: ordered write-behind from one run to its run log.

Events are numbered here and stored by one coroutine, one append in flight, each with everything
that came meanwhile. Nodes do not wait for it; `flushed` is the barrier for those who must.
Success of a node becomes durable in `Journal._store`.

What may not live here: what events mean.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from typing import Final

import anyio

from onready.engine.dispatcher.loop import Handle, Loop, Waker
from onready.engine.errors import StoreError
from onready.engine.events import AnyEvent, RunCancelled, RunFailed, RunSucceeded
from onready.engine.spi import RunLog

TAIL: Final = 10_000
"""Durable events kept in memory while somebody subscribes; whoever is slower reads the store."""

GATHER: Final = 0.005
"""Seconds that events gather before they are stored, unless somebody waits for them."""

RELAXED: Final = 0.2
"""The same where nobody subscribes and a crash costs no work: fewer commits, each with its flush of
the disk."""

ENOUGH: Final = 256
"""Events that need not gather any longer: one append of so many costs little for each."""

CHUNK: Final = 2_000
"""Events per append: the store encodes a chunk without letting go of the interpreter."""

ENDS: Final = (RunSucceeded, RunFailed, RunCancelled)


class Journal:
    """The log of one live run. `last` is the newest number given, `durable` the newest stored.

    `relaxed`: all attempts outlive their driver, so that what is not stored yet is found again.
    """

    def __init__(
        self, run_log: RunLog, run: str, epoch: int, last: int = 0, *, relaxed: bool = False
    ) -> None:
        self._run_log = run_log
        self._run = run
        self._epoch = epoch
        self._pending: list[AnyEvent] = []
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        self._news = anyio.Event()
        self._tail: deque[AnyEvent] = deque(maxlen=TAIL)
        self._subscribers = 0
        self._loop: Loop | None = None
        self._waker: Waker | None = None
        self._timer: Handle | None = None
        self._idle = False
        self.relaxed = relaxed
        self.last = last
        self.durable = last
        self.ended = False
        self.broken: BaseException | None = None

    def extend(self, events: Iterable[AnyEvent]) -> None:
        """Number the events and queue them for the store."""
        last = self.last
        append = self._pending.append
        for event in events:
            last += 1
            event.seq = last
            append(event)
        self.last = last
        if self._idle and self._loop is not None:
            # Not at once: more follows, and a wake-up costs as much as several nodes.
            self._idle = False
            pause = RELAXED if self.relaxed and not self._subscribers else GATHER
            self._timer = self._loop.later(pause, self._wake)
        if self._timer is not None and len(self._pending) >= ENOUGH:
            self._hurry()

    def _wake(self) -> None:
        self._timer = None
        if self._waker is not None:  # pragma: no branch - the timer comes after it
            self._waker.wake()

    def _hurry(self) -> None:
        """Store what there is now."""
        if self._timer is not None:
            self._timer.cancel()
            self._wake()

    def when_durable(self, action: Callable[[], None]) -> None:
        """Call `action` once everything recorded so far is durable; now, if it is already."""
        if self.durable >= self.last:
            action()
        else:
            self._waiting.append((self.last, action))
            self._hurry()

    async def flushed(self) -> None:
        """Wait until everything recorded so far is durable; raises what broke the store."""
        await self.recorded(self.last)

    async def recorded(self, seq: int) -> None:
        """Wait until event `seq` is durable; raises what broke the store."""
        self._hurry()
        while self.durable < seq:
            if self.broken is not None:
                raise self.broken
            await self._news.wait()

    async def write(self, loop: Loop) -> None:
        """Store what is recorded until the run's terminal event is stored, or a store fails."""
        self._loop = loop
        self._waker = waker = loop.waker()
        try:
            while not self.ended:
                if not self._pending:
                    self._idle = True
                    await waker.park()
                    continue
                batch = self._pending[:CHUNK]
                del self._pending[:CHUNK]
                await self._store(batch)
        except Exception as error:
            self.broken = error
            self._announce()
            raise
        finally:
            # Where its task was cancelled, the host's loop is being closed: nobody may wait for it.
            self.close(None)

    async def _store(self, batch: Sequence[AnyEvent]) -> None:
        await self._run_log.append(self._run, self._epoch, batch)
        self.durable = batch[-1].seq
        if self._subscribers:
            self._tail.extend(batch)
        self.ended = isinstance(batch[-1], ENDS)
        waiting = self._waiting
        while waiting and waiting[0][0] <= self.durable:
            waiting.popleft()[1]()
        self._announce()

    def close(self, error: BaseException | None) -> None:
        """Nobody writes any more: whoever still waits for an event is told why."""
        if self._timer is not None:
            self._timer.cancel()
        if not self.ended and self.broken is None:
            self.broken = error or StoreError("the run was left before its end was recorded")
        self._announce()

    def _announce(self) -> None:
        news, self._news = self._news, anyio.Event()
        news.set()

    async def events(self, after: int) -> AsyncGenerator[AnyEvent, None]:
        """Durable events from `after` on, until the run ends: from memory where they are there."""
        position = after
        self._subscribers += 1
        self._hurry()
        try:
            while True:
                if position < self.durable:
                    # Closed with this one, where the subscriber leaves in the middle.
                    async with aclosing(self._available(position)) as available:
                        async for event in available:
                            position = event.seq
                            yield event
                elif self.ended:
                    return
                elif self.broken is not None:
                    raise self.broken
                else:
                    await self._news.wait()
        finally:
            self._subscribers -= 1
            if not self._subscribers:
                self._tail.clear()

    async def _available(self, after: int) -> AsyncGenerator[AnyEvent, None]:
        tail = self._tail
        if tail and tail[0].seq <= after + 1:
            skip = after + 1 - tail[0].seq
            for event in list(tail)[skip:]:
                yield event
            return
        async for batch in self._run_log.read(self._run, after):
            for event in batch:
                yield event
