"""Measuring: processor time of a process with all it started, wall time, medians of pairs.

Rule of this room: knows no scenario.
"""

from __future__ import annotations

import gc
import resource
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import psutil


class Sample(msgspec.Struct, frozen=True):
    """One measured run, in seconds: `cpu` is user and system time."""

    cpu: float
    wall: float


def cpu_seconds(*, processes: bool) -> float:
    """Processor time so far of this process, its ended children and, if asked, its live ones."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    total = own.ru_utime + own.ru_stime + ended.ru_utime + ended.ru_stime
    if processes:
        for child in psutil.Process().children(recursive=True):
            try:
                times = child.cpu_times()
            except psutil.Error:  # it ended meanwhile: its parent has its time
                continue
            total += times.user + times.system + times.children_user + times.children_system
    return total


async def measure(work: Callable[[], Awaitable[object]], *, processes: bool) -> Sample:
    """Run `work` once. The garbage of before is collected first; collection stays on meanwhile."""
    gc.collect()
    cpu = cpu_seconds(processes=processes)
    wall = time.perf_counter()
    await work()
    wall = time.perf_counter() - wall
    return Sample(cpu_seconds(processes=processes) - cpu, wall)


def median(values: Sequence[float]) -> float:
    """The median; nan of none."""
    return statistics.median(values) if values else float("nan")
