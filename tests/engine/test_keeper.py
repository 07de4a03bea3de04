"""Leases are kept whatever the host's loop does; a driver that lost one stops, and says so."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from onready import ConfigError, Engine, StoreError, each, graph
from onready.engine import keeper as keeper_module
from onready.engine.errors import RunLeaseHeld, StaleEpoch
from onready.engine.keeper import Keeper, Kept
from onready.engine.spi import Attempt, Capabilities, Lease, Outcome, Reporter, RunLog
from onready.engine.testing.fakes import FakeBackend, Script
from onready.storage.memory import MemoryRunLog
from onready.storage.sqlite import SqliteRunLog
from tests.engine import work
from tests.engine.stores import FaultyRunLog, LaterClock

pytestmark = pytest.mark.anyio


async def until(happened: Callable[[], object]) -> None:
    """Wait for it."""
    with anyio.fail_after(30):
        while not happened():
            await anyio.sleep(0.005)


def keepers() -> list[threading.Thread]:
    """The threads of keepers that live."""
    return [one for one in threading.enumerate() if one.name == "onready-keeper"]


class Leases(MemoryRunLog):
    """Counts renewals. Its dictionary serves the keeper's thread and the host's alike."""

    def __init__(self) -> None:
        super().__init__()
        self.renewed = 0
        self.opened = 0
        self.faults: list[BaseException] = []

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[RunLog]:
        self.opened += 1
        if self.faults:
            raise self.faults.pop()
        yield self

    async def renew(self, lease: Lease) -> None:
        await super().renew(lease)
        self.renewed += 1


def never(error: StaleEpoch) -> None:
    raise AssertionError(error)


@pytest.fixture
async def log(anyio_backend: str) -> AsyncIterator[Leases]:
    del anyio_backend
    yield Leases()
    assert not keepers()


async def test_a_host_that_blocks_keeps_its_leases(log: Leases) -> None:
    keeper = Keeper(log.open, 0.6)
    lease = await log.lease("r", "us", 0.6)
    keeper.keep(lease, log, never)
    end = time.monotonic() + 30
    while log.renewed < 4:
        time.sleep(0.01)  # the loop stands still
        assert time.monotonic() < end
    with pytest.raises(RunLeaseHeld):
        await log.lease("r", "them", 0.6)
    await keeper.close()


async def test_nothing_is_opened_for_a_short_run(log: Leases) -> None:
    keeper = Keeper(log.open, 0.6)
    for number in range(20):
        lease = await log.lease(f"r{number}", "us", 0.6)
        keeper.keep(lease, log, never)
        await anyio.sleep(0.02)
        keeper.drop(lease)
    assert len(keepers()) == 1
    await keeper.close()
    assert (log.opened, log.renewed) == (0, 0)


async def test_no_thread_without_a_run(log: Leases) -> None:
    keeper = Keeper(log.open, 0.6)
    assert not keepers()
    await keeper.close()


async def test_an_old_lease_is_not_dropped_for_a_new_one(log: Leases) -> None:
    keeper = Keeper(log.open, 0.3)
    old = await log.lease("r", "us", 0.3)
    keeper.keep(old, log, never)
    new = await log.lease("r", "us", 0.3)
    keeper.keep(new, log, never)
    keeper.drop(old)
    await until(lambda: log.renewed > 2)
    await keeper.close()


async def test_what_cannot_be_opened_is_tried_again(
    log: Leases, caplog: pytest.LogCaptureFixture
) -> None:
    log.faults = [StoreError("no way"), StoreError("no way")]
    keeper = Keeper(log.open, 0.3)
    keeper.keep(await log.lease("r", "us", 0.3), log, never)
    await until(lambda: log.renewed > 2)
    assert log.opened == 3
    await keeper.close()
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "no way" in caplog.text


async def test_the_host_renews_what_the_thread_does_not(log: Leases) -> None:
    log.faults = [StoreError("no way")] * 10**4
    keeper = Keeper(log.open, 0.6)
    keeper.keep(await log.lease("r", "us", 0.6), log, never)
    async with anyio.create_task_group() as group:
        group.start_soon(keeper.watch, log)
        await until(lambda: log.renewed > 2)
        group.cancel_scope.cancel()
    await keeper.close()


async def test_what_is_lost_is_told_once(log: Leases) -> None:
    told: list[StaleEpoch] = []
    keeper = Keeper(log.open, 0.3)
    keeper.keep(await log.lease("r", "us", 0.3), log, told.append)
    keeper.keep(await log.lease("other", "us", 0.3), log, never)
    log._runs["r"].expires = 0.0
    await log.lease("r", "them", 60.0)
    async with anyio.create_task_group() as group:
        group.start_soon(keeper.watch, log)
        renewed = log.renewed
        await until(lambda: log.renewed > renewed + 10)
        group.cancel_scope.cancel()
    assert [str(error) for error in told] == ["run r: the lease of epoch 1 is gone"]
    await keeper.close()


@pytest.mark.parametrize("lease", [0.0, 0.05, -1.0, float("nan"), float("inf"), 4000.0])
def test_a_lease_has_bounds(lease: float) -> None:
    with pytest.raises(ConfigError, match=r"lease: seconds from 0\.1 to 3600, not"):
        Engine(lease=lease)


# --- in an engine -------------------------------------------------------------------------------


@pytest.mark.may_block("the host of this test does")
async def test_nobody_takes_a_run_whose_host_blocks(tmp_path: Path) -> None:
    async with Engine(folder=tmp_path, grace=0.2, lease=0.6) as engine:
        run = await engine.start(work.forever.bind(), id="ours")
        for _ in range(3):
            time.sleep(1.0)  # the loop stands still
            async with SqliteRunLog(tmp_path / "runs.db") as other:
                with pytest.raises(RunLeaseHeld):
                    await other.lease("ours", "them", 1.0)
        await run.cancel()
        assert (await run.wait()).status == "cancelled"


async def test_an_open_run_log_is_renewed_in_the_loop(tmp_path: Path) -> None:
    log = FaultyRunLog()
    log.durable = True
    async with Engine(
        run_log=log, catalog="memory", folder=tmp_path, grace=0.2, lease=0.1
    ) as engine:
        lost = await engine.start(work.forever.bind(1))
        kept = await engine.start(work.forever.bind(2))
        await until(lambda: log.renewed > 6)
        assert not keepers()
        # As when this process had slept for an hour: the newest epoch counts, whoever asks.
        log.inner._runs[lost.id].expires = 0.0  # type: ignore[attr-defined] # its own
        await log.inner.lease(lost.id, "another driver", 60.0)
        outcome = await lost.wait()
        assert outcome.status == "interrupted"
        assert isinstance(outcome.error, StaleEpoch)
        renewed = log.renewed
        await until(lambda: log.renewed > renewed + 6)
        await kept.cancel()
        assert (await kept.wait()).status == "cancelled"


async def take(path: Path, run: str) -> int:
    """Take the lease of a run as somebody does who comes an hour later; its epoch."""
    async with SqliteRunLog(path) as other:
        other._clock = LaterClock(3600.0)
        return (await other.lease(run, "them", 60.0)).epoch


async def test_a_driver_that_lost_its_run_lets_go_of_what_was_adopted(tmp_path: Path) -> None:
    fake = FakeBackend(lambda _: Script(end="hang"))
    away = work.add_one.with_options(backend="away")
    async with Engine(folder=tmp_path, grace=0.2, lease=0.3, backends={"away": fake}) as engine:
        run = await engine.start(away.bind(1))
        await until(lambda: fake.platform.live)
        # Nobody waits for this run, and it records nothing: only the keeper can know.
        assert await take(tmp_path / "runs.db", run.id) == 2
        outcome = await run.wait()
        assert (outcome.status, type(outcome.error)) == ("interrupted", StaleEpoch)
        # It is the other driver's to go on with.
        assert (len(fake.platform.live), fake.platform.cancelled) == (1, [])
        with pytest.raises(StaleEpoch):
            await run.result()


async def test_a_driver_that_lost_its_run_ends_what_nobody_can_adopt(tmp_path: Path) -> None:
    async with Engine(folder=tmp_path, grace=0.2, lease=0.3) as engine:
        run = await engine.start(work.forever.bind())
        await until(lambda: "begun" in work.calls)
        await take(tmp_path / "runs.db", run.id)
        outcome = await run.wait()
        assert (outcome.status, type(outcome.error)) == ("interrupted", StaleEpoch)
    assert work.calls == ["begun", "ended"]


# --- after the process was stopped for long -----------------------------------------------------


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it: the machine has slept for two hours, and nobody has looked at a clock since."""

    def sleep() -> None:
        monkeypatch.setattr(keeper_module, "since_boot", lambda: real() + 7200.0)

    real = keeper_module.since_boot
    return sleep


@asynccontextmanager
async def driving(fake: FakeBackend, tmp_path: Path) -> AsyncGenerator[tuple[Engine, FaultyRunLog]]:
    """An engine whose leases nobody looks at while the test goes on."""
    log = FaultyRunLog()
    log.durable = True
    async with Engine(
        run_log=log, catalog="memory", folder=tmp_path, grace=0.2, lease=3600.0,
        backends={"away": fake},
    ) as engine:  # fmt: skip
        yield engine, log


@pytest.mark.parametrize("how", ["timeout", "cancel"])
@pytest.mark.parametrize("taken", [True, False])
async def test_a_limit_that_passed_meanwhile_stops_only_what_is_ours(
    tmp_path: Path, slept: Callable[[], None], how: str, *, taken: bool
) -> None:
    fake = FakeBackend(lambda _: Script(end="hang"))
    limit = 0.3 if how == "timeout" else None
    away = work.add_one.with_options(backend="away", timeout=limit)
    async with driving(fake, tmp_path) as (engine, log):
        run = await engine.start(away.bind(1))
        await until(lambda: fake.platform.live)
        slept()
        if taken:
            log.inner._runs[run.id].expires = 0.0  # type: ignore[attr-defined] # its own
            await log.inner.lease(run.id, "another driver", 60.0)
        if how == "cancel":
            await run.cancel()
        outcome = await run.wait()
        if taken:
            assert isinstance(outcome.error, StaleEpoch)
            assert (len(fake.platform.live), fake.platform.cancelled) == (1, [])
        else:
            assert outcome.status == ("failed" if how == "timeout" else "cancelled")
            assert (len(fake.platform.live), len(fake.platform.cancelled)) == (0, 1)


@pytest.mark.parametrize("taken", [True, False])
async def test_what_was_planned_before_starts_only_if_it_is_ours(
    tmp_path: Path, slept: Callable[[], None], *, taken: bool
) -> None:
    release = anyio.Event()

    class Gated(FakeBackend):
        """Its first attempt ends when the test says so."""

        async def execute(self, attempt: Attempt, report: Reporter) -> Outcome:
            done = await super().execute(attempt, report)
            await release.wait()
            return done

    gated = Gated(lambda _: Script(value=2), capabilities=Capabilities(adopt=True, concurrency=1))

    @graph
    def both() -> list[int]:
        return work.add_one.with_options(backend="away").map(each([1, 2]))

    async with driving(gated, tmp_path) as (engine, log):
        run = await engine.start(both.bind())
        await until(lambda: gated.platform.starts)
        slept()
        if taken:
            log.inner._runs[run.id].expires = 0.0  # type: ignore[attr-defined] # its own
            await log.inner.lease(run.id, "another driver", 60.0)
        # The second has been planned, durably: nothing is to be recorded before it starts.
        release.set()
        outcome = await run.wait()
        assert outcome.status == ("interrupted" if taken else "succeeded")
        assert gated.platform.starts.total() == (1 if taken else 2)


async def test_a_run_log_that_is_away_for_a_while_is_asked_again() -> None:
    log = Leases()
    kept = Kept(await log.lease("r", "us", 0.1), log, never)
    renew, tries = log.renew, 0

    async def renewing(lease: Lease) -> None:
        nonlocal tries
        tries += 1
        if tries < 3:
            message = "the network is away"
            raise StoreError(message)
        await renew(lease)

    log.renew = renewing  # type: ignore[method-assign] # one run log that fails for a while
    await until(lambda: not kept.sure)
    assert await kept.confirm()
    assert tries == 3
