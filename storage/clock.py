"""The clock of leases.

A lease is compared by several processes, so it needs a clock that all of them share and that
nobody sets. On Linux that is the boot clock: the same for every process on the machine, going on
while the machine sleeps, untouched by the wall clock. A lease therefore keeps the boot's id and
the boot clock's time of its end, and beside them the end by the wall clock (UTC), which counts
only where the boot is another one: after a reboot the old holder is gone, and waiting out its
lease by the wall clock is safe as long as that clock did not jump back by more than the lease
is long. Where the system has no boot id the wall clock decides alone.

Holders renew by their own monotonic clock, well within the duration.

Rule of this room: reads clocks, nothing else.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Moment:
    """Now, by both clocks, in seconds; `boot` is "" where the system does not say."""

    boot: str
    since_boot: float
    wall: float


Clock = Callable[[], Moment]
"""Gives the moment now."""


class LeaseClock:
    """The machine's own clocks."""

    def __init__(self) -> None:
        self._boot: str | None = None

    def __call__(self) -> Moment:
        """The moment now. Called in the stores' threads: the first call reads a file."""
        if self._boot is None:
            try:
                self._boot = BOOT_ID.read_text(encoding="ascii").strip()
            except OSError:
                self._boot = ""
        if not self._boot:
            return Moment("", 0.0, time.time())
        return Moment(self._boot, time.clock_gettime(time.CLOCK_BOOTTIME), time.time())
