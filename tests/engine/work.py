"""Tasks and graphs for the tests of the engine: importable, so that any backend can run them."""

from __future__ import annotations

import threading
import time

import anyio

from onready import NodeContext, Provided, Retry, each, graph, task

calls: list[str] = []
"""What ran, where a test cares: cleared by the fixture `ledger`."""


@task
async def add_one(x: int) -> int:
    return x + 1


@task
def double(x: int) -> int:
    return x * 2


@task
async def total(xs: list[int]) -> int:
    return sum(xs)


@task
async def boom(x: int) -> int:
    message = f"no {x}"
    raise ValueError(message)


@task
def boom_in_thread(x: int) -> int:
    message = f"no {x}"
    raise ValueError(message)


@task
async def note(name: str, after: object = None) -> str:
    calls.append(name)
    return name


@task
async def nap(seconds: float) -> float:
    await anyio.sleep(seconds)
    return seconds


@task
async def forever(x: int = 0) -> int:
    calls.append("begun")
    try:
        await anyio.sleep_forever()
    finally:
        calls.append("ended")
    return x


@task
def nap_in_thread(seconds: float) -> float:
    calls.append("begun")
    time.sleep(seconds)
    return seconds


@task
async def flaky(times: int) -> int:
    """Fails until it was called more than `times` times."""
    calls.append("tried")
    if len(calls) <= times:
        message = f"try {len(calls)}"
        raise OSError(message)
    return len(calls)


@task
def thread_name(x: int) -> str:
    return threading.current_thread().name


@task
async def context_of(x: int, context: NodeContext = Provided(NodeContext)) -> list[object]:
    await anyio.Path(context.folder / "scratch").write_text("x")
    context.progress(0.5, "half")
    context.log("stdout", b"hello\n")
    return [
        context.node,
        context.attempt,
        await anyio.Path(context.folder).exists(),
        str(context.folder),
    ]


@graph
def diamond(x: int) -> int:
    left, right = add_one(x), double(x)
    return total([left, right])


@graph
def twice(x: int) -> int:
    return double(add_one(x))


@graph
def nested(xs: list[int]) -> int:
    return total(twice.map(each(xs)))


@graph
def mapped(xs: list[int]) -> list[int]:
    return add_one.map(each(xs))


@graph
def grid(rows: list[list[int]]) -> list[list[int]]:
    return mapped.map(each(rows))


@graph
def fails_early(x: int) -> str:
    bad = boom(x)
    slow = nap(0.05)
    return note.with_options(name="last")("last", [bad, slow])


@graph
def fails_beside(x: int) -> str:
    boom(x)
    first = note.with_options(name="first")("first", nap(0.05))
    return note.with_options(name="second")("second", first)


retried = flaky.with_options(retry=Retry(3))
