"""Ended containers, removed while what comes after them begins.

Rule of this room: knows nothing of containers or attempts, whose outcome is settled. Who leaves
waits for what is on its way, though not for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

import anyio

_log: Final = logging.getLogger(__name__)


class Removals:
    """At most `most` at once: whoever brings one more waits. `close` waits `patience` seconds."""

    def __init__(self, most: int, patience: float) -> None:
        self._most = most
        self._patience = patience
        self._going: set[asyncio.Task[None]] = set()

    async def take(self, remove: Callable[[], Awaitable[None]]) -> None:
        """See to it that `remove` is called, and done at the latest when this is closed."""
        while len(self._going) >= self._most:
            await asyncio.wait(self._going, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(self._own(remove))
        self._going.add(task)
        task.add_done_callback(self._going.discard)

    async def _own(self, remove: Callable[[], Awaitable[None]]) -> None:
        try:
            await remove()
        except Exception:  # noqa: BLE001 - of one container: the others are to go all the same
            _log.exception("an ended container could not be removed")

    async def close(self) -> None:
        """Wait for those that are on their way; what is not removed by then a sweep will."""
        left: set[asyncio.Task[None]] = set()
        with anyio.CancelScope(shield=True):
            if self._going:
                left = (await asyncio.wait(self._going, timeout=self._patience))[1]
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)
        if left:
            _log.warning("%d ended containers could not be removed: `onready gc` will", len(left))
