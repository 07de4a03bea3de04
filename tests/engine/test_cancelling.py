"""Cancelling a run that another engine drives: by a request in the catalog."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from onready import ConfigError, Engine, GraphBuilder, Run, RunNotFound, StoreError
from onready.engine import cancelling
from onready.engine.cancelling import Listener, new_request
from onready.engine.events import NodeCancelled, NodeLost, RunCancelling, RunResumed
from onready.engine.resuming import read_history
from onready.engine.testing.samples import started
from onready.storage.directory import DirectoryCatalog
from onready.storage.memory import MemoryCatalog
from onready.storage.sqlite import SqliteRunLog
from tests.engine import work
from tests.engine.stores import FaultyRunLog

pytestmark = pytest.mark.anyio


async def until(happened: Callable[[], object]) -> None:
    """Wait for it."""
    with anyio.fail_after(30):
        while not happened():
            await anyio.sleep(0.005)


async def names(folder: Path, run: str) -> list[str]:
    """The requests for a run."""
    async with DirectoryCatalog(folder / "catalog") as catalog:
        return list(await catalog.list(f"runs/{run}/cancel/"))


async def test_a_run_of_this_engine_is_cancelled_directly(engine: Engine, tmp_path: Path) -> None:
    run = await engine.start(work.forever.bind())
    await until(lambda: "begun" in work.calls)
    assert await engine.cancel(run.id, "enough", grace=1.0)
    outcome = await run.wait()
    assert (outcome.status, outcome.reason) == ("cancelled", "enough")
    assert not await engine.cancel(run.id)
    if engine.run_log.durable:
        assert await names(tmp_path / "state", run.id) == []


async def test_a_run_of_another_engine_finds_the_request(tmp_path: Path) -> None:
    async with Engine(folder=tmp_path, grace=0.5) as theirs, Engine(folder=tmp_path) as mine:
        run = await theirs.start(work.forever.bind())
        other = await theirs.start(work.forever.bind(2))
        await until(lambda: work.calls.count("begun") == 2)
        assert await mine.cancel(run.id, "enough", grace=0.25)
        outcome = await run.wait()
        assert (outcome.status, outcome.reason) == ("cancelled", "enough")
        events = [event async for event in mine.history(run.id)]
        assert [e.grace for e in events if isinstance(e, RunCancelling)] == [0.25]
        assert not other.done
        # Without a grace the driver's own counts.
        assert await mine.cancel(other.id)
        await other.wait()
        events = [event async for event in mine.history(other.id)]
        assert [e.grace for e in events if isinstance(e, RunCancelling)] == [0.5]
        assert not await mine.cancel(run.id, "again")
    assert await names(tmp_path, run.id) == [f"runs/{run.id}/cancel/1.json"]


async def test_asked_again_with_less_grace(tmp_path: Path) -> None:
    async with Engine(folder=tmp_path) as theirs, Engine(folder=tmp_path) as mine:
        run = await theirs.start(work.nap_in_thread.bind(4.0))
        await until(lambda: "begun" in work.calls)
        assert await mine.cancel(run.id, "enough", grace=600.0)
        assert await mine.cancel(run.id, "quick", grace=0.1)
        # Had the first grace counted, the thread would have ended well.
        assert (await run.wait()).status == "cancelled"
    assert len(await names(tmp_path, run.id)) == 2


async def test_the_grace_that_is_asked_for_reaches_what_runs(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    g = GraphBuilder("stubborn")
    g.shell(["sh", "-c", f'trap "" TERM; : > {mark}; while :; do sleep 0.1; done'], name="s")
    async with Engine(folder=tmp_path / "state", grace=600.0) as engine:
        run = await engine.start(g.build())
        await until(mark.exists)
        await run.cancel(grace=0.2)
        assert (await run.wait()).status == "cancelled"
        events = [event async for event in run.events()]
    # Had the engine's grace counted, it would have been given up, and would live on.
    ends = [event for event in events if isinstance(event, NodeCancelled | NodeLost)]
    assert [type(end) for end in ends] == [NodeCancelled]


async def test_what_cannot_be_cancelled(tmp_path: Path) -> None:
    async with Engine(folder=tmp_path) as engine:
        with pytest.raises(RunNotFound, match="no run is called 'nobody'"):
            await engine.cancel("nobody")
        run = await engine.start(work.add_one.bind(1))
        await run.wait()
        assert not await engine.cancel(run.id)
        for grace in (-1.0, float("nan"), float("inf")):
            with pytest.raises(ConfigError, match="grace: seconds from 0 on"):
                await engine.cancel(run.id, grace=grace)


async def test_a_catalog_in_memory_reaches_nobody(tmp_path: Path) -> None:
    async with (
        Engine(folder=tmp_path, grace=0.2) as theirs,
        Engine(folder=tmp_path, catalog="memory") as mine,
    ):
        run = await theirs.start(work.forever.bind())
        with pytest.raises(StoreError, match="a catalog in memory reaches no other process"):
            await mine.cancel(run.id)
        await run.cancel()
        assert not await mine.cancel(run.id)


# --- which driver a request is for --------------------------------------------------------------


async def record(folder: Path, run: str, *epochs: int, ended: bool = False) -> None:
    """A run that had drivers of these epochs, and none now."""
    async with Engine(folder=folder) as engine:
        if ended:
            await (await engine.start(work.add_one.bind(1), id=run)).wait()
        else:
            await engine.run_log.append(run, 0, [started(run)])
        seq = [event async for event in engine.history(run)][-1].seq
        for epoch in epochs:
            seq += 1
            await engine.run_log.append(run, epoch, [RunResumed(seq, 1.0, epoch)])


async def test_a_request_is_for_the_newest_driver(tmp_path: Path) -> None:
    await record(tmp_path, "first")
    await record(tmp_path, "resumed", 2, 4)
    await record(tmp_path, "retried", 7, ended=True)
    async with Engine(folder=tmp_path) as engine:
        for run in ("first", "resumed", "retried"):
            assert await engine.cancel(run, "enough")
    for run, epoch in (("first", 1), ("resumed", 4), ("retried", 7)):
        assert await names(tmp_path, run) == [f"runs/{run}/cancel/{epoch}.json"]


async def interrupt(folder: Path, run: str) -> None:
    """Have a driver begin a run, and be gone in the middle of it."""
    log = FaultyRunLog()
    async with SqliteRunLog(folder / "runs.db") as inner:
        log.inner, log.durable = inner, True
        async with Engine(run_log=log, folder=folder, grace=0.1) as engine:
            driven = await engine.start(work.forever.bind(), id=run)
            log.good = 0
            await driven.cancel()
            assert (await driven.wait()).status == "interrupted"


async def test_a_run_that_was_interrupted_is_cancelled_when_it_is_resumed(tmp_path: Path) -> None:
    await interrupt(tmp_path, "r")
    async with Engine(folder=tmp_path, grace=0.2) as engine:
        assert await engine.cancel("r", "enough", grace=0.5)
        assert (await engine.find("r")).status == "interrupted"
        work.calls.clear()
        resumed: Run[object] = await engine.resume("r")
        outcome = await resumed.wait()
        assert (outcome.status, outcome.reason) == ("cancelled", "enough")
        assert not await engine.cancel("r")
        # The request was for that run: who tries it again means it.
        run: Run[object] = await engine.retry("r")
        with anyio.move_on_after(2.5):
            await run.wait()
        assert not run.done
        await run.cancel("later")


async def test_a_request_outlives_drivers_that_could_not_obey(tmp_path: Path) -> None:
    await interrupt(tmp_path, "r")
    async with Engine(folder=tmp_path) as engine:
        assert await engine.cancel("r", "enough")
        history = await read_history(engine.run_log, "r")
        await engine.run_log.append("r", 9, [RunResumed(history.last + 1, 1.0, 9)])
        resumed: Run[object] = await engine.resume("r")
        outcome = await resumed.wait()
        assert (outcome.status, outcome.reason) == ("cancelled", "enough")


class Passing(SqliteRunLog):
    """A run log of a run that passes to another driver after it was read."""

    async def take(self) -> None:
        await self.append("r", 2, [RunResumed(2, 1.0, 2)])


class Watched(MemoryCatalog):
    """Durable for the test; `before` is awaited before the first record is written."""

    durable = True

    def __init__(self, before: Passing) -> None:
        super().__init__()
        self.before: Passing | None = before

    async def put_if_absent(self, name: str, content: bytes) -> bool:
        before, self.before = self.before, None
        if before is not None:
            await before.take()
        return await super().put_if_absent(name, content)


async def test_a_driver_that_comes_meanwhile_is_asked_too(tmp_path: Path) -> None:
    async with Passing(tmp_path / "runs.db") as log:
        await log.append("r", 1, [started("r")])
        catalog = Watched(log)
        assert await cancelling.ask(log, catalog, "r", new_request("enough", None, "me"))
        assert await catalog.list("runs/r/cancel/") == [
            "runs/r/cancel/1.json",
            "runs/r/cancel/2.json",
        ]


# --- looking for requests -----------------------------------------------------------------------


async def test_more_than_anybody_listens_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancelling, "MOST", 3)
    catalog = MemoryCatalog()
    for _ in range(5):
        await cancelling._leave(catalog, "r", 1, new_request("x", None, ""))
    assert len(await catalog.list("runs/r/cancel/")) == 3


class Broken(MemoryCatalog):
    """Cannot be read for a while."""

    def __init__(self) -> None:
        super().__init__()
        self.faults = 2

    async def read(self, name: str) -> bytes:
        if self.faults:
            self.faults -= 1
            message = "the network is away"
            raise StoreError(message)
        return await super().read(name)


async def test_a_look_that_fails_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancelling, "LOOK", 0.01)
    heard: list[tuple[str, float | None]] = []
    catalog = Broken()
    listener = Listener()
    listener.add("gone", 1, lambda reason, grace: heard.append((reason, grace)))
    listener.drop("gone")
    listener.drop("never there")
    listener.add("r", 1, lambda reason, grace: heard.append((reason, grace)))
    for run in ("gone", "r"):
        await catalog.put_if_absent(f"runs/{run}/cancel/1.json", b'{"reason":"why","grace":2}')
        await catalog.put_if_absent(f"runs/{run}/cancel/1.2.json", b"not JSON")
    async with anyio.create_task_group() as group:
        group.start_soon(listener.listen, catalog)
        await until(lambda: len(heard) == 2)
        group.cancel_scope.cancel()
    assert heard == [("why", 2.0), ("cancelled from elsewhere", None)]
    assert catalog.faults == 0
