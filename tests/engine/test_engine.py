"""The engine's own life, the ids of its runs, its options; not what graphs do in it."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

import anyio
import anyio.lowlevel
import pytest

from onready import (
    ConfigError,
    Engine,
    GraphError,
    NoCodec,
    OnreadyError,
    PluginError,
    RunConflict,
    RunFailed,
    RunNotFound,
    StoreError,
    graph,
    task,
)
from onready.backends.local.pool import ThreadBackend
from onready.engine.engine import EngineOptions
from onready.engine.errors import RunCancelled, RunLeaseHeld
from onready.engine.events import RunResumed, RunStarted
from onready.engine.spi import RunFilter
from onready.engine.testing.fakes import FakeBackend, Script
from onready.storage.directory import DirectoryCatalog
from onready.storage.memory import MemoryCatalog, MemoryRunLog
from onready.storage.sqlite import SqliteRunLog
from tests.engine import work

pytestmark = pytest.mark.anyio


# --- life -----------------------------------------------------------------------------------------


async def test_an_engine_that_is_not_open_says_what_to_do() -> None:
    engine = Engine.memory()
    with pytest.raises(OnreadyError, match="async with Engine"):
        await engine.start(work.add_one.bind(1))
    with pytest.raises(OnreadyError, match="async with Engine"):
        await engine.runs()
    with pytest.raises(OnreadyError, match="async with Engine"):
        engine.catalog.access("host")
    assert engine.statistics() == {"live_runs": 0, "parallel_used": 0}
    assert await engine.__aexit__(None, None, None) is None


async def test_an_engine_is_opened_once(memory: Engine) -> None:
    with pytest.raises(OnreadyError, match="open already"):
        await memory.__aenter__()
    assert await memory.run(work.add_one.bind(1)) == 2


async def test_a_closed_engine_runs_nothing_more() -> None:
    engine = Engine.memory()
    async with engine:
        await engine.run(work.add_one.bind(1))
    with pytest.raises(OnreadyError, match="async with Engine"):
        await engine.start(work.add_one.bind(1))
    with pytest.raises(OnreadyError, match="one engine per"):
        async with engine:
            pytest.fail("it opened again")


@pytest.mark.parametrize("what", ["run_log", "catalog"])
async def test_a_store_that_cannot_be_opened_leaves_nothing_open(
    tmp_path: Path, what: Literal["run_log", "catalog"]
) -> None:
    # The leak check of every test sees threads and descriptors of the other store.
    (tmp_path / "file").write_text("no folder")
    address = {"run_log": "sqlite", "catalog": "file"}[what] + f":{tmp_path}/file/inside"
    options: EngineOptions = {"folder": tmp_path / "state", what: address}  # type: ignore[misc] # one of two
    with pytest.raises(StoreError):
        async with Engine(**options):
            pytest.fail("it opened")


async def test_a_run_log_that_is_no_run_log(tmp_path: Path) -> None:
    (tmp_path / "runs.db").write_text("this is no database, and long enough to be read" * 50)
    with pytest.raises(StoreError):
        async with Engine(folder=tmp_path):
            pytest.fail("it opened")
    with pytest.raises(PluginError, match="did you mean 'sqlite'"):
        async with Engine(run_log="sqlit:x", folder=tmp_path):
            pytest.fail("it opened")


async def test_stores_that_are_open_already_stay_open(tmp_path: Path) -> None:
    catalog = DirectoryCatalog(tmp_path / "catalog")
    async with SqliteRunLog(tmp_path / "log.db") as log:
        async with catalog:
            for number in (1, 2):
                async with Engine(run_log=log, catalog=catalog, folder=tmp_path / "s") as engine:
                    assert engine.run_log is log
                    assert engine.catalog is catalog
                    assert await engine.run(work.add_one.bind(number)) == number + 1
            plans = await catalog.list("plans/")
            assert len(plans) == 1
        async with Engine.memory(run_log=log) as engine:
            assert len(await engine.runs()) == 2


async def test_settings_instead_of_addresses(tmp_path: Path) -> None:
    options: EngineOptions = {
        "run_log": {"type": "sqlite", "path": str(tmp_path / "log.db")},
        "catalog": {"type": "file", "path": str(tmp_path / "catalog")},
        "backends": {"mine": {"type": "thread", "limit": 1}},
        "folder": tmp_path / "state",
    }
    async with Engine(**options) as engine:
        assert await engine.run(work.double.bind(2), backend="mine") == 4
        assert engine.capabilities["mine"].in_process
    assert (tmp_path / "log.db").exists()
    assert (tmp_path / "catalog").exists()


async def test_memory_leaves_no_folder_behind_unless_it_was_given(tmp_path: Path) -> None:
    async with Engine.memory() as engine:
        first = Path(str((await engine.run(work.context_of.bind(1)))[3])).parents[2]
        assert await anyio.Path(first).exists()
    assert not first.exists()
    async with Engine.memory(folder=tmp_path / "kept") as engine:
        await engine.run(work.context_of.bind(1))
    assert (tmp_path / "kept" / "logs").exists()


async def test_the_engine_is_closed_while_its_host_is_cancelled() -> None:
    closed: list[str] = []
    engines: list[Engine] = []

    @asynccontextmanager
    async def host() -> AsyncGenerator[Engine]:
        async with Engine.memory(grace=0.2) as engine:
            yield engine
        closed.append("never reached when cancelled")

    with anyio.move_on_after(0.05) as scope:
        async with host() as engine:
            engines.append(engine)
            await engine.run(work.forever.bind())
    assert scope.cancelled_caught
    assert closed == []
    assert work.calls in ([], ["begun", "ended"])
    assert [engine.statistics()["live_runs"] for engine in engines] in ([], [0])


# --- ids ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", ["", ".", "../x", "a/b", "a b", "-a", "x" * 129, "a\n"])
async def test_bad_ids_are_refused_before_anything_is_recorded(memory: Engine, bad: str) -> None:
    with pytest.raises(ConfigError, match="not a run id"):
        await memory.start(work.add_one.bind(1), id=bad)
    assert await memory.runs() == []


@pytest.mark.parametrize("ended", [False, True])
async def test_an_id_belongs_to_one_plan_and_one_set_of_inputs(engine: Engine, ended: bool) -> None:
    run = await engine.start(work.nap.bind(0.0 if ended else 0.2), id="mine")
    if ended:
        await run.wait()
    with pytest.raises(RunConflict, match="another plan"):
        await engine.start(work.add_one.bind(1), id="mine")
    with pytest.raises(RunConflict, match="another inputs"):
        await engine.start(work.nap.bind(0.1), id="mine")
    assert await run.result() == (0.0 if ended else 0.2)


async def test_one_id_at_the_same_time_is_one_run(engine: Engine) -> None:
    ids: list[str] = []

    async def start() -> None:
        run = await engine.start(work.note.bind("once"), id="same")
        ids.append((await run.wait()).run)

    async with anyio.create_task_group() as group:
        for _ in range(5):
            group.start_soon(start)
    assert ids == ["same"] * 5
    assert work.calls == ["once"]


async def test_an_ended_run_says_how_it_ended_to_who_asks_later(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with Engine(folder=state, grace=0.2) as engine:
        await (await engine.start(work.diamond.bind(3), id="good")).wait()
        await (await engine.start(work.boom.bind(3), id="bad")).wait()
        await (await engine.start(work.forever.bind(), id="late", timeout=0.01)).wait()
        stopped = await engine.start(work.forever.bind(1), id="stopped")
        await stopped.cancel("enough")
        recorded = [event async for event in stopped.events()]
    work.calls.clear()
    async with Engine(folder=state) as engine:
        good = await engine.start(work.diamond.bind(3), id="good")
        assert good.done
        assert await good.result() == 10
        bad = await engine.start(work.boom.bind(3), id="bad")
        with pytest.raises(RunFailed) as caught:
            await bad.result()
        assert [failure.message for failure in caught.value.failures] == ["no 3"]
        late = await engine.start(work.forever.bind(), id="late", timeout=0.01)
        outcome = await late.wait()
        assert (outcome.status, outcome.failures) == ("failed", ())
        assert "longer than 0.01 s" in outcome.reason
        with pytest.raises(OnreadyError, match="is failed"):
            await late.result()
        again = await engine.start(work.forever.bind(1), id="stopped")
        with pytest.raises(RunCancelled, match="enough"):
            await again.result()
        await again.cancel("no effect")
        assert [event.seq async for event in again.events()] == [e.seq for e in recorded]
        outcome = await again.wait()
        assert (outcome.started, outcome.ended) == (recorded[0].at, recorded[-1].at)
        assert "cancelled" in repr(again)
    assert work.calls == []


async def test_an_interrupted_run_is_gone_on_with(tmp_path: Path) -> None:
    async with SqliteRunLog(tmp_path / "log.db") as log:
        async with Engine(run_log=log, folder=tmp_path / "s") as engine:
            await engine.run(work.add_one.bind(1))
            ended = (await engine.find("last")).run
            first = [event async for event in engine.history(ended)][0]  # noqa: RUF015 - to its end
        assert isinstance(first, RunStarted)
        first.seq = 1
        lease = await log.lease("broken", "somebody", 60.0)
        await log.append("broken", lease.epoch, [first])
        async with Engine(run_log=log, folder=tmp_path / "s") as engine:
            with pytest.raises(RunLeaseHeld, match="somebody"):
                await engine.start(work.add_one.bind(1), id="broken")
            await log.release(lease)
            with pytest.raises(RunConflict):
                await engine.start(work.add_one.bind(2), id="broken")
            assert await engine.run(work.add_one.bind(1), id="broken") == 2
            events = [event async for event in engine.history("broken")]
        assert isinstance(events[1], RunResumed)


async def test_a_run_that_another_driver_drives_is_not_begun(tmp_path: Path) -> None:
    async with SqliteRunLog(tmp_path / "log.db") as log:
        await log.lease("theirs", "somebody", 60.0)
        async with Engine(run_log=log, folder=tmp_path / "s") as engine:
            with pytest.raises(RunLeaseHeld, match="somebody"):
                await engine.start(work.add_one.bind(1), id="theirs")
            assert engine.statistics()["live_runs"] == 0


# --- backends, options ----------------------------------------------------------------------------


async def test_a_backend_may_be_given_as_an_object() -> None:
    fake = FakeBackend(lambda attempt: Script(value=str(attempt.key)))
    async with Engine.memory(backends={"mine": fake}) as engine:
        assert await engine.run(work.note.bind("x"), backend="mine") == "note"
        assert engine.capabilities["mine"] is fake.capabilities
    assert [fake.platform.starts.total(), fake.platform.live] == [1, {}]


async def test_an_object_may_stand_in_for_a_built_in_backend() -> None:
    pool = ThreadBackend(1)
    try:
        async with Engine.memory(backends={"thread": pool}) as engine:
            assert await engine.run(work.double.bind(4)) == 8
    finally:
        assert await pool.close(5.0) == ()


async def test_backends_and_their_settings_are_checked(memory: Engine) -> None:
    with pytest.raises(GraphError, match="nowhere"):
        await memory.start(work.add_one.bind(1), backend="nowhere")
    async with Engine.memory(backends={"odd": {"type": "thread", "limmit": 3}}) as engine:
        with pytest.raises(ConfigError, match="limmit"):
            await engine.start(work.double.bind(1), backend="odd")
        assert await engine.run(work.double.bind(1)) == 2


async def test_options_are_checked_before_anything_is_recorded(memory: Engine) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        await memory.start(work.diamond.bind(1), id="mine", max_parallel=0)
    with pytest.raises(RunNotFound):
        await memory.find("mine")
    # Nobody holds its lease either.
    await memory.run_log.lease("mine", "somebody else", 1.0)
    with pytest.raises(ConfigError, match="disk"):
        Engine.memory(resources={"disk": 3})
    assert memory.statistics() == {"live_runs": 0, "parallel_used": 0}


async def test_statistics_count_what_lives() -> None:
    async with Engine.memory(max_parallel=3, grace=0.2) as engine:
        runs = [await engine.start(work.forever.bind(n)) for n in range(5)]
        with anyio.fail_after(10):
            while len(work.calls) < 3:
                await anyio.sleep(0.001)
        assert engine.statistics() == {"live_runs": 5, "parallel_used": 3}
        assert "running" in repr(runs[0])
        assert not runs[0].done
    assert [(await run.wait()).status for run in runs] == ["cancelled"] * 5


async def test_live_inputs_need_a_store_that_forgets(tmp_path: Path) -> None:
    class Handle:
        pass

    @task
    async def kind(handle: object) -> str:
        return type(handle).__name__

    async with Engine.memory() as engine:
        assert await engine.run(kind.bind(Handle())) == "Handle"
    async with Engine(folder=tmp_path / "state") as engine:
        with pytest.raises(NoCodec, match="input 'handle'"):
            await engine.start(kind.bind(Handle()))
        assert await engine.runs() == []


async def test_a_live_result_of_a_run_in_memory(memory: Engine) -> None:
    class Handle:
        pass

    @task
    async def make():  # type: ignore[no-untyped-def] # noqa: ANN202 - un-annotated on purpose
        return Handle()

    made = await memory.run(make.bind())
    assert type(made) is Handle


async def test_large_inputs_and_results_go_through_the_catalog(tmp_path: Path) -> None:
    @task
    async def same(data: bytes) -> bytes:
        return data

    catalog = MemoryCatalog()
    async with Engine(catalog=catalog, run_log=MemoryRunLog(), folder=tmp_path) as engine:
        run = await engine.start(same.bind(b"x" * 100_000))
        assert await run.result() == b"x" * 100_000
        first = [event async for event in run.events()][0]  # noqa: RUF015 - to its end
        assert isinstance(first, RunStarted)
        assert "x" * 100 not in repr(first.inputs)


async def test_a_result_that_is_gone_is_the_run_s_fault_to_tell(tmp_path: Path) -> None:
    class Forgetful(MemoryCatalog):
        async def get(self, digest: str) -> bytes:
            message = f"{digest[:4]} is gone"
            raise StoreError(message)

    @task
    async def large() -> bytes:
        return b"x" * 100_000

    async with Engine.memory(catalog=Forgetful()) as engine:
        run = await engine.start(large.bind())
        outcome = await run.wait()
        assert outcome.status == "interrupted"
        with pytest.raises(StoreError, match="is gone"):
            await run.result()


async def test_a_start_that_is_cancelled_cancels_its_run(tmp_path: Path) -> None:
    # At each of its steps: nobody will ever hold that run.
    async def cancel_after(steps: int, scope: anyio.CancelScope) -> None:
        for _ in range(steps):
            await anyio.lowlevel.checkpoint()
        scope.cancel()

    async with SqliteRunLog(tmp_path / "log.db") as log:
        async with Engine(run_log=log, folder=tmp_path / "s", grace=0.2) as engine:
            await engine.run(work.add_one.bind(1))
            for steps in (0, 1, 2, 4, 8, 16, 32, 64, 128):
                async with anyio.create_task_group() as group:
                    group.start_soon(cancel_after, steps, group.cancel_scope)
                    await engine.start(work.forever.bind())
                    await anyio.sleep_forever()
        # The engine's end ended those that were started before their caller was cancelled.
        *cancelled, first = [record.status for record in await log.runs(RunFilter())]
    assert first == "succeeded"
    assert set(cancelled) <= {"cancelled"}
    assert work.calls.count("begun") == work.calls.count("ended")


@graph
def unused() -> int:
    return 7


async def test_a_graph_without_nodes(engine: Engine) -> None:
    assert await engine.run(unused.bind()) == 7
