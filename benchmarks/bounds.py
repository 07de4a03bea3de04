"""What one large map may cost at most: memory, stalls of the loop, tasks, time to cancel.

`python -m benchmarks.bounds LOG SIZE` measures in a process of its own and prints one line.

Rule of this room: a bound is measured while the engine works as it does for a user; the watch
beside it is one timer in the same loop.
"""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import time
from pathlib import Path
from typing import Final, Self

import msgspec

from benchmarks import nodes
from benchmarks.measure import cpu_seconds
from benchmarks.scenarios import Log
from benchmarks.sides import open_engine
from onready import GraphBuilder, each, task
from onready.engine.graph import Bound, Definition

MEBIBYTE: Final = 1024 * 1024
TICK: Final = 0.005
"""Seconds between two looks of the watch."""
LIVE: Final = 1000
"""Limit of live in-process async nodes."""

MOST_MEMORY: Final = 150.0
MOST_STALL: Final = 0.050
MOST_CANCEL: Final = 1.0
MOST_TASKS: Final = LIVE + 20


class Bounds(msgspec.Struct, frozen=True):
    """Memory in MiB over the engine at rest, times in seconds. `nodes` trivial items of a map.

    `stall_cpu` is the most processor time that the loop's thread used between two looks: what
    the stall would be on a machine with nothing else to do.
    """

    log: Log
    nodes: int
    memory: float
    stall: float
    stall_cpu: float
    tasks: int
    cpu: float
    wall: float
    cancel: float
    cancel_stall: float
    cancel_tasks: int

    def verdicts(self) -> list[tuple[str, float, float, str]]:
        """(what, measured, most, unit) of each bound."""
        return [
            ("peak memory over idle", self.memory, MOST_MEMORY, "MiB"),
            ("longest stall of the loop", 1000 * self.stall, 1000 * MOST_STALL, "ms"),
            ("longest stall, processor time of it", 1000 * self.stall_cpu, 0.0, "ms"),
            ("asyncio tasks alive", self.tasks, MOST_TASKS, ""),
            ("time to cancel the run", self.cancel, MOST_CANCEL, "s"),
            (
                "longest stall, waiting and cancelled",
                1000 * self.cancel_stall,
                1000 * MOST_STALL,
                "ms",
            ),
            ("asyncio tasks alive, waiting", self.cancel_tasks, MOST_TASKS, ""),
        ]


class Watch:
    """Looks at the loop every few milliseconds: how late it is, how many tasks live.

    It is itself a plain timer, so that it adds no task.
    """

    def __init__(self) -> None:
        self.stall = 0.0
        self.stall_cpu = 0.0
        self.tasks = 0
        self._loop = asyncio.get_running_loop()
        self._due = 0.0
        self._cpu = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        self._next()
        return self

    def __exit__(self, *error: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _next(self) -> None:
        self._due = self._loop.time() + TICK
        self._cpu = time.thread_time()
        self._timer = self._loop.call_at(self._due, self._look)

    def _look(self) -> None:
        self.stall = max(self.stall, self._loop.time() - self._due)
        self.stall_cpu = max(self.stall_cpu, time.thread_time() - self._cpu)
        self.tasks = max(self.tasks, len(asyncio.all_tasks(self._loop)))
        self._next()


def resident(field: str) -> float:
    """`VmRSS` (now) or `VmHWM` (the most so far) of this process, in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    message = f"no {field} in /proc/self/status"
    raise RuntimeError(message)


def forget_peak() -> None:
    """Let `VmHWM` begin again from what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def mapped(function: Definition[..., int], count: int) -> Bound[None]:
    """A graph that is one map over `count` numbers, given as the graph's input."""
    builder = GraphBuilder("big_map")
    values = builder.param("values", list[int])
    builder.map(function, each(values))
    return builder.build(inputs={"values": list(range(count))})


async def measure_bounds(log: Log, count: int) -> Bounds:
    """Run a map of `count` trivial nodes, then cancel one whose nodes wait."""
    async with open_engine(log) as engine:
        await engine.run(mapped(task(nodes.item), 100))
        gc.collect()
        await asyncio.sleep(0.1)
        idle = resident("VmRSS")
        forget_peak()
        bound = mapped(task(nodes.item), count)
        cpu, wall = cpu_seconds(processes=False), time.perf_counter()
        with Watch() as watch:
            await engine.run(bound)
        wall, cpu = time.perf_counter() - wall, cpu_seconds(processes=False) - cpu
        memory = resident("VmHWM") - idle
        bound = mapped(task(nodes.waiting_item), count)
        with Watch() as cancelled:
            run = await engine.start(bound)
            # All that may wait at once do so by then: nothing else happens.
            await asyncio.sleep(2.0)
            began = time.perf_counter()
            await run.cancel("measured", grace=1.0)
            cancel = time.perf_counter() - began
        return Bounds(
            log=log,
            nodes=count,
            memory=memory,
            stall=watch.stall,
            stall_cpu=watch.stall_cpu,
            tasks=watch.tasks,
            cpu=cpu,
            wall=wall,
            cancel=cancel,
            cancel_stall=cancelled.stall,
            cancel_tasks=cancelled.tasks,
        )


def run_bounds(log: Log, count: int) -> Bounds:
    """The bounds, measured in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.bounds", log, str(count)],
        stdout=subprocess.PIPE,
        check=True,
        timeout=600,
    )
    return msgspec.json.decode(done.stdout, type=Bounds)


def main() -> None:
    """Measure and print one line of JSON."""
    log, count = sys.argv[1:]
    found = asyncio.run(measure_bounds("sqlite" if log == "sqlite" else "memory", int(count)))
    sys.stdout.write(msgspec.json.encode(found).decode() + "\n")


if __name__ == "__main__":
    main()
