"""Caution after a crash: nodes in the driver's process begin only once that is durable.

A node that ends the driver at once would else never be found: its start is recorded behind it, and
is lost with the driver, so that nobody counts how many drivers it took (`scheduler/retry.py`,
`TAKEOVERS`). Whoever goes on after a driver that died therefore waits for the log before each of
the first `WINDOW` nodes: among those is what the dead one ran. Afterwards, and in runs that no
driver died in, nothing is waited for.

What may not live here: what becomes of attempts whose driver died (`outcomes.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event
from typing import TYPE_CHECKING, Final

from onready.engine.dispatcher.tasks import LiveTask
from onready.engine.errors import StoreError

if TYPE_CHECKING:
    from onready.engine.dispatcher.core import Dispatcher

WINDOW: Final = 256
"""Nodes that begin with caution: more costs time, fewer more drivers until a node is found."""

LOOK: Final = 0.05
"""Seconds after which a thread that waits looks whether the run is over."""


class Caution:
    """That of one driver."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._slow: list[LiveTask] = [task for task in dispatcher.tasks if task.fast]
        for task in self._slow:
            # Fast ones begin without anybody looking.
            task.fast = False
        self._left = WINDOW
        dispatcher.admission.be_careful()

    async def begun(self) -> None:
        """Wait, in the loop, until the start that is in the inbox is durable."""
        self.count(1)
        self._dispatcher.turn()
        await self._dispatcher.journal.flushed()

    def count(self, begun: int) -> None:
        """So many nodes begin; the last of the window ends the caution."""
        self._left -= begun
        if self._left <= 0:
            for task in self._slow:
                task.fast = True
            self._dispatcher.admission.relax()
            self._dispatcher.caution = None


def caution_of(dispatcher: Dispatcher) -> Caution | None:
    """That of a driver after one that died; None where none did, or nothing is durable."""
    resumed = dispatcher.options.resumed
    # A run that begins under a later epoch had a driver of which nothing was recorded.
    died = dispatcher.epoch > 1 if resumed is None else not resumed.retry
    return Caution(dispatcher) if died and dispatcher.durable else None


def noted(waiting: Sequence[Event], dispatcher: Dispatcher) -> None:
    """Starts that threads wait for are in the journal: set these once they are durable."""
    if dispatcher.closing:
        return
    if dispatcher.caution is not None:
        dispatcher.caution.count(len(waiting))
    for durable in waiting:
        dispatcher.journal.when_durable(durable.set)


def wait_until(durable: Event, dispatcher: Dispatcher) -> None:
    """Wait, in a thread, for one of those; StoreError where the run is left before it."""
    while not durable.wait(LOOK):
        if dispatcher.closing:
            message = "the run was left before the start of the node was recorded"
            raise StoreError(message)
