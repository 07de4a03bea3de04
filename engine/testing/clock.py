"""A clock that stands still until it is told to go on.

Rule of this room: no real time is read here.
"""

from __future__ import annotations

import heapq
from itertools import count

import anyio


class ManualClock:
    """Time in seconds that only `advance` moves. For one event loop, asyncio's or trio's.

    `sleep` waits for it. After `advance`, sleepers wake in the order of their deadlines, and run
    when the caller next awaits; `anyio.wait_all_tasks_blocked` (of `anyio.testing`) lets them.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._order = count()
        self._sleepers: list[tuple[float, int, anyio.Event]] = []

    def now(self) -> float:
        """The time."""
        return self._now

    @property
    def sleepers(self) -> int:
        """How many sleeps have not ended."""
        return len(self._sleepers)

    async def sleep(self, seconds: float) -> None:
        """Return when `seconds` have been advanced; at once where they are not above 0."""
        if seconds <= 0:
            await anyio.lowlevel.checkpoint()
            return
        event = anyio.Event()
        entry = (self._now + seconds, next(self._order), event)
        heapq.heappush(self._sleepers, entry)
        try:
            await event.wait()
        finally:
            if not event.is_set():  # Cancelled: nobody waits for this one any more.
                self._sleepers.remove(entry)
                heapq.heapify(self._sleepers)

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass and wake all whose time has come."""
        if seconds < 0:
            message = f"time does not go back: {seconds}"
            raise ValueError(message)
        self._now += seconds
        while self._sleepers and self._sleepers[0][0] <= self._now:
            heapq.heappop(self._sleepers)[2].set()

    def advance_to_next(self) -> float:
        """Let time pass up to the next deadline; how much that was (0 where nobody sleeps)."""
        if not self._sleepers:
            return 0.0
        step = max(0.0, self._sleepers[0][0] - self._now)
        self.advance(step)
        return step
