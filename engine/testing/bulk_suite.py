"""The contract of `BulkBackend`, as tests that every such backend runs: ours and anybody's.

    class TestMine(BulkBackendSuite):
        def open_backend(self, folder):
            return MyConfig(...).open()

Rule of this room: as in `backend_suite.py`.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

import anyio
import pytest

from onready.engine.spi import BulkBackend, BulkCall


@dataclass(slots=True)
class Results:
    """What became of the calls; `done` may be called from any thread."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    ended: list[tuple[object, object, BaseException | None]] = field(
        default_factory=list["tuple[object, object, BaseException | None]"]
    )
    threads: dict[object, int] = field(default_factory=dict["object", "int"])

    def done(self, token: object, value: object, error: BaseException | None) -> None:
        """Keep the result and the thread that brought it."""
        with self.lock:
            self.ended.append((token, value, error))
            self.threads[token] = threading.get_ident()

    def count(self) -> int:
        """How many calls have ended."""
        with self.lock:
            return len(self.ended)


@dataclass(slots=True)
class Gate:
    """Calls that wait until the test lets them go."""

    opened: threading.Event = field(default_factory=threading.Event)
    begun: list[int] = field(default_factory=list["int"])
    lock: threading.Lock = field(default_factory=threading.Lock)

    def call(self, number: int) -> Callable[[], int]:
        """A call that says that it has begun, waits, and gives `number`."""

        def run() -> int:
            with self.lock:
                self.begun.append(number)
            self.opened.wait(60)
            return number

        return run


class BulkBackendSuite:
    """Subclass it in a test module and override `open_backend`."""

    pytestmark: ClassVar[list[pytest.MarkDecorator]] = [pytest.mark.anyio]

    patience: float = 30.0
    """Seconds after which a test gives up waiting for the backend."""

    def open_backend(self, folder: Path) -> AbstractAsyncContextManager[BulkBackend]:
        """A new instance of the backend; `folder` is the test's own."""
        raise NotImplementedError

    @asynccontextmanager
    async def opened(self, folder: Path) -> AsyncGenerator[tuple[BulkBackend, Results]]:
        """An open backend, within the suite's patience."""
        with anyio.fail_after(self.patience):
            async with self.open_backend(folder) as backend:
                yield backend, Results()

    async def test_each_call_ends_once_in_the_thread_that_ran_it(self, tmp_path: Path) -> None:
        count = 1000
        async with self.opened(tmp_path) as (backend, results):
            calls = [BulkCall(number, threading.get_ident) for number in range(count)]
            backend.submit(calls[:1], results.done)
            backend.submit([], results.done)
            backend.submit(calls[1:], results.done)
            await self._until(lambda: results.count() >= count)
            assert sorted(str(token) for token, _, _ in results.ended) == sorted(
                map(str, range(count))
            )
            assert {token: value for token, value, _ in results.ended} == results.threads
            assert threading.get_ident() not in results.threads.values()

    async def test_whatever_a_call_raises_is_its_result(self, tmp_path: Path) -> None:
        errors: list[BaseException] = [ValueError("x"), SystemExit(3), KeyboardInterrupt()]

        def raiser(error: BaseException) -> Callable[[], object]:
            def run() -> object:
                raise error

            return run

        async with self.opened(tmp_path) as (backend, results):
            calls = [BulkCall(number, raiser(error)) for number, error in enumerate(errors)]
            backend.submit(calls, results.done)
            await self._until(lambda: results.count() == len(errors))
            backend.submit([BulkCall("after", lambda: 5)], results.done)
            await self._until(lambda: results.count() == len(errors) + 1)
            found = {token: error for token, _, error in results.ended}
            assert [found[number] for number in range(len(errors))] == errors
            assert results.ended[-1] == ("after", 5, None)

    async def test_no_more_than_the_limit_at_once_and_no_less(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as (backend, results):
            gate, limit = Gate(), backend.limit
            count = limit * 2 + 1
            backend.submit([BulkCall(n, gate.call(n)) for n in range(count)], results.done)
            await self._until(lambda: len(gate.begun) >= limit)
            await anyio.sleep(0.05)
            assert len(gate.begun) == limit
            gate.opened.set()
            await self._until(lambda: results.count() == count)

    async def test_only_what_has_not_begun_can_be_withdrawn(self, tmp_path: Path) -> None:
        async with self.opened(tmp_path) as (backend, results):
            gate, limit = Gate(), backend.limit
            backend.submit([BulkCall(n, gate.call(n)) for n in range(limit + 2)], results.done)
            await self._until(lambda: len(gate.begun) == limit)
            waiting = set(range(limit + 2)) - set(gate.begun)
            assert not backend.withdraw(gate.begun[0])
            assert not backend.withdraw("never submitted")
            gone = waiting.pop()
            assert backend.withdraw(gone)
            assert not backend.withdraw(gone)
            gate.opened.set()
            await self._until(lambda: results.count() == limit + 1)
            assert gone not in gate.begun
            assert gone not in results.threads

    async def test_nothing_is_left_when_it_is_closed(self, tmp_path: Path) -> None:
        before = set(threading.enumerate())
        async with self.opened(tmp_path) as (backend, results):
            calls = [BulkCall(number, threading.current_thread) for number in range(50)]
            backend.submit(calls, results.done)
            await self._until(lambda: results.count() == 50)
            used = {value for _, value, _ in results.ended if isinstance(value, threading.Thread)}
        await self._until(lambda: not any(thread.is_alive() for thread in used - before))

    async def _until(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(self.patience):
            while not condition():  # noqa: ASYNC110 - other threads change it
                await anyio.sleep(0.005)
