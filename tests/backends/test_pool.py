"""The thread backend: every call runs once, no more at once than allowed, nothing is left."""

from __future__ import annotations

import gc
import logging
import threading
import weakref
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import anyio
import pytest

from onready.backends.local.pool import ThreadBackend
from onready.backends.local.thread import ThreadConfig
from onready.engine.errors import BackendError
from onready.engine.spi import BulkBackend, BulkCall
from tests.backends.kit import PATIENCE, until

pytestmark = pytest.mark.anyio


class Results:
    """What became of calls, by token."""

    def __init__(self) -> None:
        self.values: dict[object, object] = {}
        self.errors: dict[object, BaseException] = {}
        self.threads = set[str]()

    def __call__(self, token: object, value: object, error: BaseException | None) -> None:
        self.threads.add(threading.current_thread().name)
        if error is not None:
            self.errors[token] = error
        else:
            self.values[token] = value


@asynccontextmanager
async def opened(limit: int) -> AsyncGenerator[ThreadBackend]:
    with anyio.fail_after(PATIENCE):
        async with ThreadConfig(limit=limit).open() as backend:
            assert isinstance(backend, BulkBackend)
            yield backend


async def test_every_call_runs_once_off_the_callers_thread() -> None:
    results = Results()
    async with opened(4) as backend:
        backend.submit([BulkCall(n, lambda n=n: n * n) for n in range(500)], results)  # type: ignore[misc] # its own n
        backend.submit([BulkCall(n, lambda n=n: n * n) for n in range(500, 1000)], results)  # type: ignore[misc] # as above
        await until(lambda: len(results.values) == 1000)
    assert results.values == {n: n * n for n in range(1000)}
    assert threading.current_thread().name not in results.threads


async def test_as_many_run_at_once_as_allowed_and_no_more() -> None:
    limit = 4
    barrier = threading.Barrier(limit)
    lock = threading.Lock()
    live = most = 0

    def call() -> None:
        nonlocal live, most
        with lock:
            live += 1
            most = max(most, live)
        barrier.wait(PATIENCE)
        with lock:
            live -= 1

    results = Results()
    async with opened(limit) as backend:
        # One at a time, so that each finds the threads before it busy.
        for number in range(4 * limit):
            backend.submit([BulkCall(number, call)], results)
        await until(lambda: len(results.values) == 4 * limit)
        assert most == limit
        assert backend.threads == limit


async def test_one_after_the_other_needs_one_thread() -> None:
    results = Results()
    async with opened(8) as backend:
        for number in range(50):
            backend.submit([BulkCall(number, int)], results)
            await until(lambda: len(results.values) == number + 1)  # noqa: B023 - awaited here
        assert backend.threads == 1


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
async def test_whatever_a_call_raises_is_its_result(kind: type[BaseException]) -> None:
    def call() -> None:
        raise kind

    results = Results()
    async with opened(1) as backend:
        backend.submit([BulkCall("bad", call), BulkCall("good", int)], results)
        await until(lambda: results.values)
    assert isinstance(results.errors["bad"], kind)
    assert results.values == {"good": 0}


async def test_a_call_that_has_not_begun_can_be_taken_back() -> None:
    gate, begun = threading.Event(), threading.Event()

    def first() -> None:
        begun.set()
        gate.wait(PATIENCE)

    results = Results()
    async with opened(1) as backend:
        backend.submit([BulkCall("first", first), BulkCall("second", int)], results)
        await until(begun.is_set)
        assert not backend.withdraw("first")
        assert backend.withdraw("second")
        assert not backend.withdraw("second")
        backend.submit([BulkCall("third", int)], results)
        gate.set()
        await until(lambda: len(results.values) == 2)
        assert not backend.withdraw("first")
    assert set(results.values) == {"first", "third"}


async def test_an_idle_thread_keeps_nothing_alive() -> None:
    class Thing:
        pass

    thing = Thing()
    gone = weakref.ref(thing)
    results = Results()
    async with opened(1) as backend:
        backend.submit([BulkCall("t", lambda thing=thing: id(thing))], results)  # type: ignore[misc] # its own
        del thing
        await until(lambda: results.values)

        def collected() -> bool:
            gc.collect()
            return gone() is None

        await until(collected)


async def test_closing_leaves_behind_only_what_cannot_end(caplog: pytest.LogCaptureFixture) -> None:
    gate = threading.Event()
    results = Results()
    with caplog.at_level(logging.WARNING):
        async with ThreadConfig(limit=2, close_timeout=0.05).open() as backend:
            backend.submit([BulkCall("stuck", lambda: gate.wait(PATIENCE))], results)
            backend.submit([BulkCall("quick", int)], results)
            await until(lambda: "quick" in results.values)
        assert "onready-1" in caplog.text
        assert "onready-2" not in caplog.text
    with pytest.raises(BackendError, match="closed"):
        backend.submit([BulkCall("late", int)], results)
    gate.set()
    await until(lambda: not backend.threads)


async def test_closing_drops_what_has_not_begun() -> None:
    gate, begun = threading.Event(), threading.Event()

    def first() -> None:
        begun.set()
        gate.wait(PATIENCE)

    results = Results()
    backend = ThreadBackend(1)
    backend.submit([BulkCall("first", first), BulkCall("second", int)], results)
    await until(begun.is_set)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(backend.close)
        await anyio.sleep(0.02)
        gate.set()
    assert set(results.values) == {"first"}
