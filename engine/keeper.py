"""The lease keeper: renews the leases of an engine's runs, whatever the host's loop does.

    host's loop ── keep, drop ──> leases <── renew ── a thread with a run log of its own

A host that blocks its loop for longer than a lease would lose its runs to another driver. So
leases are renewed in a thread, by a second way into the run log. The thread only waits, and opens
nothing, until a run has lived for a third of its lease: short runs pay for no second connection.

Where there is no second way in (the engine was given an open run log), or where it fails, leases
are renewed in the host's loop (`watch`). There, too, a driver learns that its lease is another's.

Rule of this room: it renews, and says what is lost; what a driver does about that is its affair.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Final

import anyio

from onready.engine.errors import ConfigError, StaleEpoch
from onready.engine.spi import Lease, RunLog

LOOKS: Final = 6
"""Looks per lease. A lease that missed one is renewed at the next: at a third of its time."""

SLOWEST_LOOK: Final = 1.0
"""Seconds between two looks in the host's loop, at most: how soon a driver knows that it lost."""

CLOSING: Final = 10.0
"""Seconds that closing waits for the thread; a hung disk must not hang the host."""

SHORTEST: Final = 0.1
LONGEST: Final = 3600.0
"""Seconds that a lease may last."""

_log: Final = logging.getLogger(__name__)

OpenLog = Callable[[], AbstractAsyncContextManager[RunLog]]
"""A second way into the run log: `config.open`."""


def since_boot() -> float:
    """Seconds by a clock that nobody sets, and that goes on while the machine sleeps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def check_lease(seconds: float) -> float:
    """`seconds`, or ConfigError where no lease can be that long."""
    if not SHORTEST <= seconds <= LONGEST:
        message = f"lease: seconds from {SHORTEST:g} to {LONGEST:g}, not {seconds:g}"
        raise ConfigError(message)
    return seconds


class Kept:
    """One lease, as its driver sees it. `renewed` is when it was asked for last, with success.

    `fence` is called once, in the host's loop, when another driver has the run.
    """

    __slots__ = ("_fence", "_run_log", "_told", "lease", "lost", "renewed")

    def __init__(self, lease: Lease, run_log: RunLog, fence: Callable[[StaleEpoch], None]) -> None:
        self.lease = lease
        self.renewed = since_boot()
        self.lost: StaleEpoch | None = None
        self._run_log = run_log
        self._fence = fence
        self._told = False

    @property
    def sure(self) -> bool:
        """Whether nobody else can have the run by now."""
        return self.lost is None and since_boot() < self.renewed + self.lease.duration

    async def confirm(self) -> bool:
        """In the host's loop: have the run log say whether the run is ours still; tell if not."""
        while not self.sure and self.lost is None:
            if not await self.renew(self._run_log):
                await anyio.sleep(self.lease.duration / LOOKS)
        self.tell()
        return self.lost is None

    async def renew(self, run_log: RunLog) -> bool:
        """Renew it; False where the run log cannot, for now or for ever (`lost`)."""
        # Before it is asked for: from then on at the latest it counts.
        now = since_boot()
        try:
            await run_log.renew(self.lease)
        except StaleEpoch as error:
            self.lost = error
        except Exception as error:  # noqa: BLE001 - later again; the next append will tell
            _log.warning("the lease of run %s was not renewed: %s", self.lease.run, error)
        else:
            self.renewed = now
            return True
        return False

    def tell(self) -> None:
        """In the host's loop: tell the driver, once, that it has lost."""
        if self.lost is not None and not self._told:
            self._told = True
            self._fence(self.lost)


class Keeper:
    """Keeps the leases of one engine; `duration` is theirs, in seconds.

    `keep` and `drop` cost two dictionary entries. All but the thread's own methods are called in
    the host's loop.
    """

    def __init__(self, open_log: OpenLog | None, duration: float) -> None:
        self._open_log = open_log
        self._duration = duration
        self._pause = duration / LOOKS
        self._kept: dict[str, Kept] = {}
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()
        self._interrupt: Callable[[], object] | None = None

    def keep(self, lease: Lease, run_log: RunLog, fence: Callable[[StaleEpoch], None]) -> Kept:
        """Renew this lease, which was taken just now, until it is dropped or lost.

        `run_log` is the host's own, `fence` is told where the lease is lost.
        """
        kept = self._kept[lease.run] = Kept(lease, run_log, fence)
        if self._thread is None and self._open_log is not None:
            # A daemon: an interpreter that ends with an open engine must not wait for a store.
            self._thread = threading.Thread(target=self._main, name="onready-keeper", daemon=True)
            self._thread.start()
        return kept

    def drop(self, lease: Lease) -> None:
        """Its run has ended, or is left."""
        kept = self._kept.get(lease.run)
        if kept is not None and kept.lease == lease:
            del self._kept[lease.run]

    async def watch(self, run_log: RunLog) -> None:
        """In the host's loop, for ever: tell of what is lost; renew what the thread has not.

        With a thread that works, this only looks at clocks.
        """
        alone = self._open_log is None
        late = self._duration / (3 if alone else 2)
        while True:
            await anyio.sleep(min(SLOWEST_LOOK, self._pause))
            await self._renew(run_log, late)
            for kept in tuple(self._kept.values()):
                kept.tell()

    async def close(self) -> None:
        """End the thread and close its run log."""
        self._closed.set()
        if self._thread is None:
            return
        interrupt = self._interrupt
        if interrupt is not None:
            with suppress(RuntimeError):  # its loop has ended meanwhile
                interrupt()
        with anyio.move_on_after(CLOSING, shield=True):
            pause = 0.0002
            # Joining would block the loop.
            while self._thread.is_alive():
                await anyio.sleep(pause)
                pause = min(2 * pause, 0.02)

    # --- renewing -----------------------------------------------------------------------------

    def _due(self, age: float) -> list[Kept]:
        """Leases that were last sure `age` seconds ago or earlier."""
        before = since_boot() - age
        # A copy: both threads look, and the host's adds and drops meanwhile.
        kept = tuple(self._kept.values())
        return [one for one in kept if one.lost is None and one.renewed <= before]

    async def _renew(self, run_log: RunLog, age: float) -> None:
        due = self._due(age)
        if due:
            # Together: a store commits them at once. What takes longer than the lease is late.
            with anyio.move_on_after(self._duration):
                async with anyio.create_task_group() as group:
                    for kept in due:
                        group.start_soon(kept.renew, run_log)

    # --- in the thread ------------------------------------------------------------------------

    def _main(self) -> None:
        while not self._closed.wait(self._pause):
            if self._due(self._pause):
                try:
                    asyncio.run(self._serve())
                except Exception as error:  # noqa: BLE001 - the host's loop renews meanwhile
                    _log.warning("the lease keeper's run log failed: %s", error)

    async def _serve(self) -> None:
        assert self._open_log is not None
        with anyio.CancelScope() as scope:
            loop = asyncio.get_running_loop()
            self._interrupt = lambda: loop.call_soon_threadsafe(scope.cancel)
            if self._closed.is_set():
                return  # pragma: no cover - closed before whoever closes could see how to interrupt
            async with self._open_log() as run_log:
                while True:
                    await self._renew(run_log, self._pause)
                    await anyio.sleep(self._pause)
