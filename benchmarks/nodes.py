"""What the nodes of every benchmark run: functions that do next to nothing.

Rule of this room: plain functions at the top level, so that worker processes find them by name,
the floor's as well as the engine's.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Sequence
from typing import Final

from benchmarks.measure import cpu_seconds


async def a0() -> int:
    """No input."""
    return 1


async def a1(a: int) -> int:
    """One input."""
    return a


async def a2(a: int, b: int) -> int:
    """Two inputs."""
    return a | b


async def a3(a: int, b: int, c: int) -> int:
    """Three inputs."""
    return a | b | c


def s0() -> int:
    """No input."""
    return 1


def s1(a: int) -> int:
    """One input."""
    return a


def s2(a: int, b: int) -> int:
    """Two inputs."""
    return a | b


def s3(a: int, b: int, c: int) -> int:
    """Three inputs."""
    return a | b | c


async def nap(seconds: float) -> int:
    """Wait, as a node does that calls a service."""
    await asyncio.sleep(seconds)
    return 1


async def item(value: int) -> int:
    """One item of a map."""
    return value


async def waiting_item(value: int) -> int:
    """One item of a map that is not done before it is cancelled."""
    await asyncio.sleep(3600)
    return value


holding: asyncio.Event | None = None
"""Set by the process whose last node holds it up: told when that node began."""
began: list[tuple[float, float]] = []
"""When the last node began: wall and processor time of this process, in seconds."""


async def last() -> int:
    """The last node of a run that is interrupted."""
    began.append((time.perf_counter(), cpu_seconds(processes=False)))
    if holding is not None:
        holding.set()
        await asyncio.sleep(3600)
    return 1


ASYNC: Final[Sequence[Callable[..., Coroutine[object, object, int]]]] = (a0, a1, a2, a3)
"""By the number of inputs."""
SYNC: Final[Sequence[Callable[..., int]]] = (s0, s1, s2, s3)
