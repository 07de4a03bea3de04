"""The run log in files: whose segments count, what is refused, and what is only said."""

from __future__ import annotations

import logging
import shutil
import struct
from pathlib import Path
from zlib import crc32

import anyio
import pytest

from onready.engine.errors import RunLeaseHeld, StaleEpoch, StoreError
from onready.engine.spi import RunFilter
from onready.engine.testing.run_log_suite import read_all
from onready.engine.testing.samples import started, steps, succeeded
from onready.engine.wire import encode_events
from onready.storage.clock import LeaseClock
from onready.storage.files import FilesRunLog
from onready.storage.files.format import (
    HEADER,
    Header,
    Place,
    encode_header,
    encode_record,
    place_of,
)
from onready.storage.files.requests import Append, TakeLease
from onready.storage.files.writer import FilesRequest, Store, Writer


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


def serve(store: Store, request: FilesRequest) -> None:
    Writer(store.path, store.segment_size).serve(store, [request])


def segments(path: Path, run: str = "r1") -> list[str]:
    return sorted(file.name for file in (path / run).glob("*.log"))


def test_names_of_segments_sort_as_their_places_do() -> None:
    places = [Place(1, 1), Place(1, 2), Place(1, 10), Place(2, 1), Place(10, 1)]
    assert sorted(place.name for place in places) == [place.name for place in places]
    assert [place_of(place.name) for place in places] == places
    for name in ("summary", "1-1.log", "x-000001.log", "~1", Place(1, 1).name + "~"):
        assert place_of(name) is None


# --- who counts ---


@pytest.mark.anyio
async def test_a_late_write_of_an_old_driver_is_no_history(path: Path) -> None:
    """It has passed its check, sleeps, and writes after another has taken the run."""
    async with FilesRunLog(path) as log:
        old = await log.lease("r1", "me", 60.0)
        await log.append("r1", old.epoch, [started()])
        new = await log.lease("r1", "me", 60.0)
        await log.append("r1", new.epoch, steps(2, 3))
        late = encode_record("r1", Place(1, 1), 2, 4, encode_events(steps(2, 4, "late")))
        with (path / "r1" / Place(1, 1).name).open("ab") as file:
            file.write(late)
        assert await read_all(log, "r1") == [started(), *steps(2, 3)]
        await log.append("r1", new.epoch, steps(4, 4))
    async with FilesRunLog(path) as log:
        assert await read_all(log, "r1") == [started(), *steps(2, 4)]
        (record,) = await log.runs(RunFilter())
        assert record.last_seq == 4


def test_a_driver_that_was_overtaken_while_it_wrote_is_told(path: Path) -> None:
    """Between its write and its report: the record is not durable history, and not reported."""
    old, new, clock = Store(path, 2**20), Store(path, 2**20), LeaseClock()
    take = TakeLease("r1", "old", 60.0, clock)
    serve(old, take)
    serve(old, Append("r1", 1, [started()]))
    append = Append("r1", 1, steps(2, 2))
    assert append.prepare()
    append.apply(old)
    serve(new, TakeLease("r1", "new", 60.0, clock, "old"))
    with pytest.raises(StaleEpoch):
        append.finish(old)
    old.close()
    new.close()


def test_two_writers_under_one_epoch_do_not_mix(path: Path) -> None:
    one, two = Store(path, 2**20), Store(path, 2**20)
    serve(one, Append("r1", 1, [started()]))
    serve(two, Append("r1", 1, steps(2, 2)))
    late = Append("r1", 1, steps(2, 3, "late"))
    serve(one, late)
    assert isinstance(late.error, StoreError)
    fresh = Append("r1", 1, steps(3, 3))
    serve(one, fresh)
    assert fresh.error is None
    assert len(segments(path)) == 3
    one.close()
    two.close()


@pytest.mark.anyio
async def test_a_claim_that_was_given_up_changes_nothing(path: Path) -> None:
    async with FilesRunLog(path) as log:
        lease = await log.lease("r1", "me", 60.0)
        await log.append("r1", lease.epoch, [started()])
        for serial, content in ((2, b""), (3, bytes(30)), (4, bytes(HEADER))):
            (path / "r1" / Place(1, serial).name).write_bytes(content)
            assert await read_all(log, "r1") == [started()]
        await log.append("r1", lease.epoch, steps(2, 2))
        assert await read_all(log, "r1") == [started(), *steps(2, 2)]
        assert segments(path)[-1] == Place(1, 5).name


@pytest.mark.anyio
async def test_a_refused_append_leaves_no_file(path: Path) -> None:
    async with FilesRunLog(path) as log:
        with pytest.raises(StoreError, match="do not follow 0"):
            await log.append("r1", 1, steps(2, 3))
        assert list(path.iterdir()) == []
        await log.append("r1", 1, [started()])
    async with FilesRunLog(path) as log:
        with pytest.raises(StoreError, match="do not follow 1"):
            await log.append("r1", 1, steps(3, 3))
    assert len(segments(path)) == 1


@pytest.mark.anyio
async def test_a_run_goes_on_in_new_files(path: Path) -> None:
    async with FilesRunLog(path, segment_size=4096) as log:
        await log.append("r1", 1, [started()])
        for seq in range(2, 602, 20):
            await log.append("r1", 1, steps(seq, seq + 19))
        assert await read_all(log, "r1") == [started(), *steps(2, 601)]
        assert await read_all(log, "r1", 300) == steps(301, 601)
    assert len(segments(path)) > 3
    assert max(file.stat().st_size for file in (path / "r1").glob("*.log")) < 3 * 4096


@pytest.mark.anyio
async def test_more_runs_than_files_may_be_open(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onready.storage.files.writer.OPEN", 2)
    async with FilesRunLog(path) as log:
        runs = [f"r{number}" for number in range(6)]
        for run in runs:
            await log.append(run, 1, [started(run)])
        for run in runs:
            await log.append(run, 1, steps(2, 3, run))
        for run in runs:
            assert await read_all(log, run) == [started(run), *steps(2, 3, run)]
            assert len(segments(path, run)) == 1


# --- what is refused ---


@pytest.mark.anyio
async def test_a_newer_format_is_refused(path: Path) -> None:
    async with FilesRunLog(path) as log:
        await log.append("r1", 1, [started()])
    file = path / "r1" / Place(1, 1).name
    data = file.read_bytes()
    start = struct.pack("<4sHH", b"onrS", 2, 99)
    newer = start + struct.pack("<I", crc32(start)) + data[12:]
    file.write_bytes(newer)
    async with FilesRunLog(path) as log:
        with pytest.raises(StoreError, match=r"format 2.*upgrade onready"):
            await read_all(log, "r1")
        with pytest.raises(StoreError, match="upgrade onready"):
            await log.lease("r1", "me", 60.0)
    assert file.read_bytes() == newer


@pytest.mark.anyio
async def test_a_copy_of_another_run_or_segment_is_refused(path: Path) -> None:
    async with FilesRunLog(path) as log:
        for run in ("r1", "r2"):
            await log.append(run, 1, [started(run)])
        shutil.copyfile(path / "r1" / Place(1, 1).name, path / "r2" / Place(1, 1).name)
        with pytest.raises(StoreError, match="damaged"):
            await read_all(log, "r2")
        shutil.copyfile(path / "r1" / Place(1, 1).name, path / "r1" / Place(1, 2).name)
        with pytest.raises(StoreError, match="copy of another segment"):
            await read_all(log, "r1")


@pytest.mark.anyio
async def test_a_loop_of_segments_is_refused(path: Path) -> None:
    (path / "r1").mkdir()
    place = Place(1, 1)
    (path / "r1" / place.name).write_bytes(encode_header("r1", Header(place, Place(1, 2), 1)))
    async with FilesRunLog(path) as log:
        with pytest.raises(StoreError, match="damaged"):
            await read_all(log, "r1")


@pytest.mark.anyio
async def test_a_damaged_lease_is_refused(path: Path) -> None:
    async with FilesRunLog(path) as log:
        lease = await log.lease("r1", "me", 60.0)
        (path / "r1" / "lease" / "000000000001").write_bytes(b"00000000 {}")
        with pytest.raises(StoreError, match="lease is damaged"):
            await log.renew(lease)


@pytest.mark.anyio
async def test_links_lead_nowhere(path: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (path / "r1").symlink_to(outside)
    async with FilesRunLog(path) as log:
        with pytest.raises(StoreError):
            await log.append("r1", 1, [started()])
        with pytest.raises(StoreError):
            await log.lease("r1", "me", 60.0)
        assert await log.runs(RunFilter()) == []
    assert list(outside.iterdir()) == []


@pytest.mark.anyio
async def test_what_cannot_serve_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file"):
        async with FilesRunLog(tmp_path / "file"):
            pass
    log = FilesRunLog(tmp_path / "runs")
    with pytest.raises(StoreError, match="not open"):
        await log.append("r1", 1, [started()])
    async with log:
        await log.append("r1", 1, [started()])
        await anyio.to_thread.run_sync(shutil.rmtree, tmp_path / "runs")
        with pytest.raises(StoreError):
            await log.append("r1", 1, steps(2, 2))
    with pytest.raises(StoreError, match="closed"):
        await log.append("r1", 1, steps(2, 2))


# --- the index ---


@pytest.mark.anyio
async def test_the_index_does_without_summaries_and_with_false_ones(path: Path) -> None:
    async with FilesRunLog(path) as log:
        for run in ("r1", "r2"):
            lease = await log.lease(run, "me", 60.0)
            await log.append(run, lease.epoch, [started(f"name-{run}", at=5.0), *steps(2, 9)])
            await log.append(run, lease.epoch, [succeeded(10, 7.0)])
            await log.release(lease)
        expected = await log.runs(RunFilter())
    assert [record.status for record in expected] == ["succeeded", "succeeded"]
    (path / "r1" / "summary").unlink()
    shutil.copyfile(path / "r2" / "summary", path / "r1" / "summary")  # of another run
    (path / "r2" / "summary").write_bytes(b"nonsense")
    (path / "no run").mkdir()
    (path / "file").write_text("")
    async with FilesRunLog(path) as log:
        assert await log.runs(RunFilter()) == expected


@pytest.mark.anyio
async def test_a_damaged_run_does_not_hide_the_others(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with FilesRunLog(path) as log:
        for run in ("r1", "r2"):
            await log.append(run, 1, [started(run)])
            await log.append(run, 1, steps(2, 3))
            await log.append(run, 1, steps(4, 5))
    file = path / "r1" / Place(1, 1).name
    data = bytearray(file.read_bytes())
    data[-200] ^= 1
    file.write_bytes(data)
    (path / "r1" / "summary").unlink()
    async with FilesRunLog(path) as log:
        records = {record.run: record.last_seq for record in await log.runs(RunFilter())}
    assert records["r2"] == 5
    assert records["r1"] < 5
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert file.name in caplog.text


@pytest.mark.anyio
async def test_another_process_that_appends_is_followed(path: Path) -> None:
    async with FilesRunLog(path) as mine, FilesRunLog(path) as theirs:
        lease = await theirs.lease("r1", "them", 60.0)
        await theirs.append("r1", lease.epoch, [started()])
        for seq in range(2, 20):
            await theirs.append("r1", lease.epoch, steps(seq, seq))
            (record,) = await mine.runs(RunFilter())
            assert record.last_seq == seq
            assert await read_all(mine, "r1", seq - 1) == steps(seq, seq)
        with pytest.raises(RunLeaseHeld) as caught:
            await mine.lease("r1", "me", 60.0)
        assert caught.value.owner == "them"
        taken = await mine.lease("r1", "me", 60.0, "them")
        assert taken.epoch == lease.epoch + 1
        with pytest.raises(StaleEpoch):
            await theirs.append("r1", lease.epoch, steps(20, 20))
        assert await read_all(theirs, "r1") == [started(), *steps(2, 19)]


@pytest.mark.anyio
async def test_few_files_of_a_lease_are_kept(path: Path) -> None:
    async with FilesRunLog(path) as log:
        lease = await log.lease("r1", "me", 60.0)
        for _ in range(40):
            await log.renew(lease)
        assert len(list((path / "r1" / "lease").iterdir())) <= 17
        with pytest.raises(RunLeaseHeld):
            await log.lease("r1", "you", 60.0)
