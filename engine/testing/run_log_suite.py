"""The contract of `RunLog`, as tests that every run log runs: ours and anybody's.

    class TestMine(RunLogSuite):
        def open_run_log(self, folder):
            return MyConfig(...).open()

Run by pytest with anyio's plug-in, on asyncio and on trio (override the `anyio_backend` fixture
for a run log that works on one of them alone).

Rule of this room: it knows contracts and no implementation; what it asks of a run log is written
in `onready.engine.spi`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from pathlib import Path
from typing import Final

import anyio
import anyio.lowlevel
import pytest

from onready.engine.errors import NoCodec, RunLeaseHeld, StaleEpoch, StoreError
from onready.engine.events import AnyEvent, NodeStarted, NodeSucceeded, RunResumed
from onready.engine.names import NodeKey
from onready.engine.spi import Lease, RunFilter, RunLog
from onready.engine.testing.samples import every_event, failed, started, steps, succeeded
from onready.engine.values.stored import Encoded, Live

LIMIT: Final = 30.0
"""Seconds after which a wait has failed; nothing here takes that long."""

BAD_RUNS: Final = (
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "/etc",
    "-rf",
    "a b",
    "a\n",
    "a\0b",
    "\u00e9",
    "a" * 129,
)


async def read_all(log: RunLog, run: str, after: int = 0) -> list[AnyEvent]:
    """All durable events of a run."""
    return [event async for batch in log.read(run, after) for event in batch]


async def fill(log: RunLog, run: str, epoch: int, parts: Sequence[Sequence[AnyEvent]]) -> None:
    """Append one part after the other."""
    for part in parts:
        await log.append(run, epoch, part)


@pytest.mark.anyio
class RunLogSuite:
    """Subclass it and say how your run log is opened."""

    def open_run_log(self, folder: Path) -> AbstractAsyncContextManager[RunLog]:
        """A run log that keeps what it keeps in `folder`; the same folder, the same run log."""
        raise NotImplementedError  # pragma: no cover - for whoever forgets it

    @pytest.fixture
    async def run_log(self, tmp_path: Path) -> AsyncGenerator[RunLog]:
        """An empty run log, open."""
        async with self.open_run_log(tmp_path / "log") as log:
            yield log

    # --- appending and reading ---

    async def test_reads_what_was_appended_in_order(self, run_log: RunLog) -> None:
        events = every_event()
        await run_log.append("r1", 1, events[:1])
        await run_log.append("r1", 1, events[1:9])
        await run_log.append("r1", 1, events[9:])
        assert await read_all(run_log, "r1") == events

    async def test_reads_after_any_number(self, run_log: RunLog) -> None:
        events = [started(), *steps(2, 9)]
        await fill(run_log, "r1", 1, [events[:1], events[1:4], events[4:5], events[5:]])
        for after in range(len(events) + 2):
            assert await read_all(run_log, "r1", after) == events[after:]

    async def test_a_batch_of_many_events_is_read_in_batches(self, run_log: RunLog) -> None:
        events = [started(), *steps(2, 6_001)]
        await run_log.append("r1", 1, events)
        batches = [batch async for batch in run_log.read("r1")]
        assert [event for batch in batches for event in batch] == events
        assert len(batches) > 1
        assert await read_all(run_log, "r1", 4_321) == events[4_321:]

    async def test_large_values_come_back_as_they_went(self, run_log: RunLog) -> None:
        data = bytes(range(256)) * 128
        value = Encoded("bytes", data, None, len(data))
        events: list[AnyEvent] = [started()]
        events += [NodeSucceeded(seq, 1.0, NodeKey("a"), 1, value) for seq in range(2, 60)]
        await run_log.append("r1", 1, events)
        assert await read_all(run_log, "r1") == events

    async def test_an_unknown_run_has_no_events(self, run_log: RunLog) -> None:
        assert await read_all(run_log, "nobody") == []

    async def test_appending_nothing_changes_nothing(self, run_log: RunLog) -> None:
        await run_log.append("r1", 1, [])
        assert await run_log.runs(RunFilter()) == []

    @pytest.mark.parametrize(
        "numbers", [(2,), (1, 3), (1, 1), (4,), (5, 5), (6,), (4, 5), (5, 7), (0,), (-1,)]
    )
    async def test_events_that_do_not_follow_are_refused(
        self, run_log: RunLog, numbers: tuple[int, ...]
    ) -> None:
        events = [started(), *steps(2, 4)]
        await run_log.append("r1", 1, events)
        with pytest.raises(StoreError):
            await run_log.append("r1", 1, [NodeStarted(n, 1.0, NodeKey("a"), 1) for n in numbers])
        assert await read_all(run_log, "r1") == events
        await run_log.append("r1", 1, steps(5, 5))
        assert await read_all(run_log, "r1") == [*events, *steps(5, 5)]

    async def test_the_first_event_of_a_run_is_number_one(self, run_log: RunLog) -> None:
        with pytest.raises(StoreError):
            await run_log.append("r1", 1, steps(2, 3))
        assert await read_all(run_log, "r1") == []
        assert await run_log.runs(RunFilter()) == []

    async def test_a_run_begins_with_its_start(self, run_log: RunLog) -> None:
        with pytest.raises(StoreError):
            await run_log.append("r1", 1, steps(1, 3))
        assert await run_log.runs(RunFilter()) == []
        await run_log.append("r1", 1, [started(), *steps(2, 3)])

    async def test_many_runs_append_at_once_and_none_sees_another(self, run_log: RunLog) -> None:
        runs = {f"run-{n}": [started(f"name-{n}"), *steps(2, 40, f"n{n}")] for n in range(40)}
        async with anyio.create_task_group() as group:
            for run, events in runs.items():
                parts = [events[at : at + 3] for at in range(0, len(events), 3)]
                group.start_soon(fill, run_log, run, 1, parts)
        for run, events in runs.items():
            assert await read_all(run_log, run) == events

    async def test_a_refusal_leaves_the_appends_beside_it_alone(self, run_log: RunLog) -> None:
        refused: list[str] = []

        async def append(run: str, events: Sequence[AnyEvent]) -> None:
            try:
                await run_log.append(run, 1, events)
            except StoreError:
                refused.append(run)

        async with anyio.create_task_group() as group:
            for number in range(30):
                bad = number % 3 == 0
                events = steps(2, 3) if bad else [started(), *steps(2, 3)]
                group.start_soon(append, f"run-{number}", events)
        assert sorted(refused) == sorted(f"run-{n}" for n in range(0, 30, 3))
        assert len(await run_log.runs(RunFilter())) == 20

    async def test_a_reader_beside_the_writer_sees_a_beginning(self, run_log: RunLog) -> None:
        events = [started(), *steps(2, 300)]

        async def write() -> None:
            await fill(run_log, "r1", 1, [[event] for event in events])

        async with anyio.create_task_group() as group:
            group.start_soon(write)
            with anyio.fail_after(LIMIT):
                seen = 0
                while seen < len(events):
                    got = await read_all(run_log, "r1", seen)
                    assert got == events[seen : seen + len(got)]
                    seen += len(got)
                    await anyio.lowlevel.checkpoint()

    async def test_a_reader_that_goes_away_holds_nothing(self, run_log: RunLog) -> None:
        await run_log.append("r1", 1, [started(), *steps(2, 5_000)])
        batches = run_log.read("r1")
        assert (await anext(batches))[0] == started()
        await run_log.append("r1", 1, steps(5_001, 5_002))
        assert (await read_all(run_log, "r1", 5_000))[0].seq == 5_001
        if isinstance(batches, AsyncGenerator):  # pragma: no cover - none of ours is one
            await batches.aclose()

    async def test_a_cancelled_append_happened_whole_or_not_at_all(self, run_log: RunLog) -> None:
        await run_log.append("r1", 1, [started()])
        with anyio.CancelScope() as scope:
            scope.cancel()
            await run_log.append("r1", 1, steps(2, 101))
        with anyio.fail_after(LIMIT):
            last = len(await read_all(run_log, "r1"))
            try:
                await run_log.append("r1", 1, steps(last + 1, last + 1))
            except StoreError:  # it was still on its way
                await run_log.append("r1", 1, steps(102, 102))
        events = await read_all(run_log, "r1")
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert len(events) in {2, 102}

    async def test_live_values_need_a_log_in_memory(self, run_log: RunLog) -> None:
        value = Live(object())
        event = NodeSucceeded(2, 1.0, NodeKey("train", None, 3), 1, value)
        await run_log.append("r1", 1, [started()])
        if not run_log.durable:
            await run_log.append("r1", 1, [event])
            (seen,) = await read_all(run_log, "r1", 1)
            assert isinstance(seen, NodeSucceeded)
            assert seen.value is value
            return
        with pytest.raises(NoCodec, match=r"train\[3\].*codec"):
            await run_log.append("r1", 1, [event])
        assert await read_all(run_log, "r1") == [started()]

    @pytest.mark.parametrize("run", BAD_RUNS)
    async def test_what_is_no_run_id_is_refused(self, run_log: RunLog, run: str) -> None:
        with pytest.raises(StoreError):
            await run_log.append(run, 1, [started()])
        with pytest.raises(StoreError):
            await run_log.lease(run, "me", 10.0)
        assert await run_log.runs(RunFilter()) == []

    # --- leases ---

    async def test_a_lease_keeps_others_out_until_it_is_released(self, run_log: RunLog) -> None:
        lease = await run_log.lease("r1", "me", 60.0)
        assert (lease.run, lease.owner, lease.duration) == ("r1", "me", 60.0)
        with pytest.raises(RunLeaseHeld, match="r1"):
            await run_log.lease("r1", "you", 60.0)
        other = await run_log.lease("r2", "you", 60.0)
        assert other.run == "r2"
        await run_log.release(lease)
        taken = await run_log.lease("r1", "you", 60.0)
        assert taken.epoch > lease.epoch

    async def test_a_lease_ends_with_its_time(self, run_log: RunLog) -> None:
        first = await run_log.lease("r1", "me", 0.05)
        second = await _take_when_free(run_log, "r1", "you", 60.0)
        assert second.epoch > first.epoch
        with pytest.raises(StaleEpoch):
            await run_log.renew(first)
        await run_log.release(first)  # no error, and not the other's lease
        with pytest.raises(RunLeaseHeld):
            await run_log.lease("r1", "me", 60.0)

    async def test_renewing_extends_a_lease(self, run_log: RunLog) -> None:
        lease = await run_log.lease("r1", "me", 0.02)
        await run_log.renew(replace(lease, duration=60.0))
        await anyio.sleep(0.05)
        with pytest.raises(RunLeaseHeld):
            await run_log.lease("r1", "you", 60.0)

    async def test_an_expired_lease_that_nobody_took_can_be_renewed(self, run_log: RunLog) -> None:
        lease = await run_log.lease("r1", "me", 0.01)
        await anyio.sleep(0.03)
        await run_log.renew(replace(lease, duration=60.0))
        with pytest.raises(RunLeaseHeld):
            await run_log.lease("r1", "you", 60.0)

    async def test_a_released_lease_cannot_be_renewed(self, run_log: RunLog) -> None:
        lease = await run_log.lease("r1", "me", 60.0)
        await run_log.release(lease)
        await run_log.release(lease)
        with pytest.raises(StaleEpoch):
            await run_log.renew(lease)

    async def test_the_owner_itself_may_take_its_lease_again(self, run_log: RunLog) -> None:
        first = await run_log.lease("r1", "me", 60.0)
        second = await run_log.lease("r1", "me", 60.0)
        assert second.epoch > first.epoch
        with pytest.raises(StaleEpoch):
            await run_log.renew(first)

    async def test_of_many_that_want_a_lease_one_gets_it(self, run_log: RunLog) -> None:
        won: list[Lease] = []

        async def try_it(owner: str) -> None:
            try:
                won.append(await run_log.lease("r1", owner, 60.0))
            except RunLeaseHeld:
                return

        async with anyio.create_task_group() as group:
            for number in range(50):
                group.start_soon(try_it, f"owner-{number}")
        assert len(won) == 1

    async def test_an_older_epoch_cannot_append(self, run_log: RunLog) -> None:
        old = await run_log.lease("r1", "me", 0.01)
        await run_log.append("r1", old.epoch, [started()])
        new = await _take_when_free(run_log, "r1", "you", 60.0)
        with pytest.raises(StaleEpoch):
            await run_log.append("r1", old.epoch, steps(2, 3))
        assert await read_all(run_log, "r1") == [started()]
        await run_log.append("r1", new.epoch, [RunResumed(2, 2.0, new.epoch)])
        with pytest.raises(StaleEpoch):
            await run_log.append("r1", old.epoch, steps(3, 3))
        assert len(await read_all(run_log, "r1")) == 2

    async def test_an_older_epoch_cannot_begin_a_run(self, run_log: RunLog) -> None:
        old = await run_log.lease("r1", "me", 60.0)
        await run_log.release(old)
        new = await run_log.lease("r1", "you", 60.0)
        with pytest.raises(StaleEpoch):
            await run_log.append("r1", old.epoch, [started()])
        await run_log.append("r1", new.epoch, [started()])

    async def test_an_expired_epoch_may_append_until_another_is_taken(
        self, run_log: RunLog
    ) -> None:
        lease = await run_log.lease("r1", "me", 0.01)
        await anyio.sleep(0.03)
        await run_log.append("r1", lease.epoch, [started()])
        assert await read_all(run_log, "r1") == [started()]

    # --- the index ---

    async def test_the_index_follows_the_events(self, run_log: RunLog) -> None:
        lease = await run_log.lease("r1", "me", 60.0)
        await run_log.append("r1", lease.epoch, [started("brisk-heron-41", at=100.5), *steps(2, 3)])
        (record,) = await run_log.runs(RunFilter())
        assert (record.run, record.name, record.graph) == ("r1", "brisk-heron-41", "graph")
        assert (record.status, record.created, record.ended) == ("running", 100.5, None)
        assert (record.last_seq, record.target, record.fingerprint) == (3, "file.py:g", "ab" * 32)
        await run_log.append("r1", lease.epoch, [failed(4, 200.25)])
        (record,) = await run_log.runs(RunFilter())
        assert (record.status, record.ended, record.last_seq) == ("failed", 200.25, 4)
        await run_log.append("r1", lease.epoch, [RunResumed(5, 300.0, lease.epoch)])
        (record,) = await run_log.runs(RunFilter())
        assert (record.status, record.ended) == ("running", None)
        await run_log.append("r1", lease.epoch, [*steps(6, 7), succeeded(8, 400.0)])
        (record,) = await run_log.runs(RunFilter())
        assert (record.status, record.ended) == ("succeeded", 400.0)
        await run_log.release(lease)
        (record,) = await run_log.runs(RunFilter())
        assert record.status == "succeeded"

    async def test_a_run_that_lost_its_driver_is_interrupted(self, run_log: RunLog) -> None:
        lease = await run_log.lease("r1", "me", 60.0)
        await run_log.append("r1", lease.epoch, [started()])
        (record,) = await run_log.runs(RunFilter())
        assert (record.status, record.owner) == ("running", "me")
        await run_log.release(lease)
        (record,) = await run_log.runs(RunFilter())
        assert (record.status, record.owner) == ("interrupted", "")
        assert await run_log.runs(RunFilter(status="running")) == []
        assert len(await run_log.runs(RunFilter(status="interrupted"))) == 1
        await run_log.lease("r1", "you", 0.01)
        await anyio.sleep(0.03)
        assert [r.status for r in await run_log.runs(RunFilter())] == ["interrupted"]
        await run_log.lease("r1", "you", 60.0)
        assert [r.status for r in await run_log.runs(RunFilter())] == ["running"]

    async def test_a_run_that_was_never_leased_is_running(self, run_log: RunLog) -> None:
        await run_log.append("r1", 1, [started()])
        assert [r.status for r in await run_log.runs(RunFilter())] == ["running"]

    async def test_a_lease_alone_makes_no_run(self, run_log: RunLog) -> None:
        await run_log.lease("r1", "me", 60.0)
        assert await run_log.runs(RunFilter()) == []

    async def test_lists_the_newest_first_and_no_more_than_asked(self, run_log: RunLog) -> None:
        for number, at in enumerate([30.0, 10.0, 50.0, 20.0, 40.0]):
            await run_log.append(f"r{number}", 1, [started(at=at)])
        listed = [record.created for record in await run_log.runs(RunFilter())]
        assert listed == [50.0, 40.0, 30.0, 20.0, 10.0]
        listed = [record.created for record in await run_log.runs(RunFilter(limit=2))]
        assert listed == [50.0, 40.0]
        assert await run_log.runs(RunFilter(limit=0)) == []

    async def test_finds_runs_by_status_graph_prefix_and_name(self, run_log: RunLog) -> None:
        await run_log.append("abc-1", 1, [started("brisk-heron", graph="left"), succeeded(2)])
        await run_log.append("abc-2", 1, [started("calm-otter", graph="right"), failed(2)])
        await run_log.append("xyz-3", 1, [started("abc", graph="left")])

        async def find(query: RunFilter) -> set[str]:
            return {record.run for record in await run_log.runs(query)}

        assert await find(RunFilter(status="failed")) == {"abc-2"}
        assert await find(RunFilter(graph="left")) == {"abc-1", "xyz-3"}
        assert await find(RunFilter(prefix="abc-")) == {"abc-1", "abc-2"}
        assert await find(RunFilter(prefix="abc")) == {"abc-1", "abc-2", "xyz-3"}
        assert await find(RunFilter(prefix="calm-otter")) == {"abc-2"}
        assert await find(RunFilter(prefix="calm")) == set()
        assert await find(RunFilter(graph="left", status="succeeded")) == {"abc-1"}
        for hostile in ("%", "_bc", "abc-?", "*", "' OR 1=1 --", "\0", "\u00e9"):
            assert await find(RunFilter(prefix=hostile)) == set()
            assert await find(RunFilter(graph=hostile)) == set()

    # --- durability ---

    async def test_a_durable_log_keeps_all_of_it(self, tmp_path: Path) -> None:
        async with self.open_run_log(tmp_path / "kept") as log:
            if not log.durable:
                return
            lease = await log.lease("r1", "me", 60.0)
            await log.append("r1", lease.epoch, every_event())
        async with self.open_run_log(tmp_path / "kept") as log:
            assert await read_all(log, "r1") == every_event()
            assert [record.run for record in await log.runs(RunFilter())] == ["r1"]
            with pytest.raises(RunLeaseHeld):
                await log.lease("r1", "you", 60.0)
            await log.release(lease)
            assert (await log.lease("r1", "you", 60.0)).epoch > lease.epoch


async def _take_when_free(log: RunLog, run: str, owner: str, duration: float) -> Lease:
    with anyio.fail_after(LIMIT):
        while True:
            try:
                return await log.lease(run, owner, duration)
            except RunLeaseHeld:
                await anyio.sleep(0.01)
