"""When events are stored: after they have gathered for a while, at once where somebody waits."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import pytest

from onready import Engine, GraphBuilder
from onready.engine.dispatcher.journal import ENOUGH, GATHER, RELAXED, Journal
from onready.engine.dispatcher.loop import AsyncioLoop, Handle, Loop
from onready.engine.events import AnyEvent, NodeProgress
from onready.engine.names import NodeKey
from onready.engine.spi import Capabilities
from onready.engine.testing.fakes import FakeBackend
from onready.storage.memory import MemoryRunLog
from tests.engine import work

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    """Asyncio alone: what its loop is asked is looked at."""
    return "asyncio"


class Timer:
    """A timer that nobody fires but the test."""

    def __init__(self, delay: float) -> None:
        self.delay = delay
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Counting(MemoryRunLog):
    """Keeps the sizes of its appends."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    async def append(self, run: str, epoch: int, events: Sequence[AnyEvent]) -> None:
        del run, epoch
        self.sizes.append(len(events))


class Desk:
    """A journal that is written, and the timers that it has asked for."""

    def __init__(self, *, relaxed: bool) -> None:
        self.log = Counting()
        self.journal = Journal(self.log, "run", 1, relaxed=relaxed)
        self.timers: list[Timer] = []

    def later(self, delay: float, action: Callable[[], None]) -> Handle:
        del action
        self.timers.append(Timer(delay))
        return self.timers[-1]

    async def record(self, count: int = 1) -> None:
        key = NodeKey.parse("node")
        self.journal.extend([NodeProgress(0, 0.0, key, 1, None, "") for _ in range(count)])
        await anyio.wait_all_tasks_blocked()


@asynccontextmanager
async def written(*, relaxed: bool = False) -> AsyncGenerator[Desk]:
    desk = Desk(relaxed=relaxed)
    async with AsyncioLoop(_never) as loop, anyio.create_task_group() as tasks:
        loop.later = desk.later
        tasks.start_soon(desk.journal.write, loop)
        await anyio.wait_all_tasks_blocked()
        yield desk
        tasks.cancel_scope.cancel()


def _never(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize(
    ("relaxed", "watched", "pause"),
    [(False, False, GATHER), (True, False, RELAXED), (False, True, GATHER), (True, True, GATHER)],
)
async def test_how_long_events_gather(*, relaxed: bool, watched: bool, pause: float) -> None:
    async with written(relaxed=relaxed) as desk, anyio.create_task_group() as tasks:
        if watched:
            tasks.start_soon(_watch, desk.journal)
            await anyio.wait_all_tasks_blocked()
        for _ in range(3):
            await desk.record()
        assert [timer.delay for timer in desk.timers] == [pause]
        assert desk.log.sizes == []
        tasks.cancel_scope.cancel()


async def _watch(journal: Journal) -> None:
    async for _ in journal.events(journal.last):
        pass


async def test_many_events_gather_no_longer() -> None:
    async with written() as desk:
        await desk.record(ENOUGH - 1)
        assert desk.log.sizes == []
        await desk.record()
        assert desk.log.sizes == [ENOUGH]
        assert desk.timers[0].cancelled


async def test_who_waits_is_not_kept_waiting() -> None:
    async with written() as desk, anyio.create_task_group() as tasks:
        await desk.record()
        await desk.journal.flushed()
        assert desk.log.sizes == [1]
        await desk.record()
        tasks.start_soon(_watch, desk.journal)
        await anyio.wait_all_tasks_blocked()
        assert desk.log.sizes == [1, 1], "a subscriber has not asked to wait either"
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("places", "expected"),
    [(("far",), True), (("far", "near"), False), (("far", "inline"), False)],
)
async def test_runs_are_relaxed_whose_attempts_all_outlive_their_driver(
    monkeypatch: pytest.MonkeyPatch, places: tuple[str, ...], *, expected: bool
) -> None:
    seen: list[bool] = []
    write = Journal.write

    async def writes(journal: Journal, loop: Loop) -> None:
        seen.append(journal.relaxed)
        await write(journal, loop)

    monkeypatch.setattr(Journal, "write", writes)
    backends = {
        "far": FakeBackend(),
        "near": FakeBackend(capabilities=Capabilities(adopt=False)),
    }
    g = GraphBuilder("places")
    for place in places:
        g.add(work.add_one.with_options(backend=place), 1)
    async with Engine.memory(backends=backends) as engine:
        await engine.run(g.build())
    assert seen == [expected]
