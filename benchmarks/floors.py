"""The floors: what people would write by hand for the same graph, and nothing more.

No limits, no retries, no events, no names: in-degree counters and the cheapest way to start a
node. They pass the values along the edges as the engine does, and a failure ends them.

Rule of this room: the standard library only.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable
from concurrent.futures import Executor, Future
from functools import partial
from queue import SimpleQueue

from benchmarks.nodes import ASYNC, SYNC, nap
from benchmarks.shapes import Needs


async def run_tasks(needs: Needs, feeds: list[list[int]]) -> None:
    """In-degree counters, one `create_task` a node."""
    loop = asyncio.get_running_loop()
    missing = [len(wanted) for wanted in needs]
    results: list[int] = [0] * len(needs)
    left = len(needs)
    done: asyncio.Future[None] = loop.create_future()
    live: dict[int, asyncio.Task[None]] = {}  # the loop alone would let go of waiting tasks

    async def one(at: int) -> None:
        nonlocal left
        wanted = needs[at]
        try:
            results[at] = await ASYNC[len(wanted)](*[results[need] for need in wanted])
        except BaseException as error:
            if not done.done():
                done.set_exception(error)
            raise
        for follower in feeds[at]:
            missing[follower] -= 1
            if not missing[follower]:
                live[follower] = loop.create_task(one(follower))
        del live[at]
        left -= 1
        if not left:
            done.set_result(None)

    for at, wanted in enumerate(needs):
        if not wanted:
            live[at] = loop.create_task(one(at))
    await done


async def run_naps(count: int, seconds: float) -> None:
    """Bare tasks in a task group."""
    async with asyncio.TaskGroup() as group:
        for _ in range(count):
            group.create_task(nap(seconds))


def run_pool(pool: Executor, needs: Needs, feeds: list[list[int]]) -> None:
    """In-degree counters over a pool that is fed all that is ready, one `submit` a node."""
    missing = [len(wanted) for wanted in needs]
    results: list[int] = [0] * len(needs)
    left = len(needs)
    ended: SimpleQueue[tuple[int, Future[int]]] = SimpleQueue()

    def submit(ready: Iterable[int]) -> None:
        for at in ready:
            wanted = needs[at]
            future = pool.submit(SYNC[len(wanted)], *[results[need] for need in wanted])
            future.add_done_callback(partial(_put, ended, at))

    submit(at for at, wanted in enumerate(needs) if not wanted)
    while left:
        ready: list[int] = []
        drained = [ended.get()]
        while not ended.empty():
            drained.append(ended.get())
        for at, future in drained:
            results[at] = future.result()
            left -= 1
            for follower in feeds[at]:
                missing[follower] -= 1
                if not missing[follower]:
                    ready.append(follower)
        submit(ready)


def _put(queue: SimpleQueue[tuple[int, Future[int]]], at: int, future: Future[int]) -> None:
    queue.put((at, future))


def run_programs(program: str, count: int, window: int) -> None:
    """One `posix_spawn` and `waitpid` loop that keeps `window` programs running."""
    live = 0
    while count or live:
        while count and live < window:
            os.posix_spawn(program, [program], os.environ)
            count -= 1
            live += 1
        _, status = os.waitpid(-1, 0)
        live -= 1
        if status:
            message = f"{program} ended with status {status}"
            raise RuntimeError(message)
