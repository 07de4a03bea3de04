"""The log store: complete, in order, capped, private, and whole after a crash."""

from __future__ import annotations

import os
import resource
import stat
import threading
from pathlib import Path

import pytest

from onready.engine.logs import LogStore


def test_frames_come_back_in_order_with_their_streams(tmp_path: Path) -> None:
    store = LogStore(tmp_path / "logs")
    writer = store.writer("run-1", "onready-a")
    writer.write("stdout", b"one\ntw")
    writer.write("stderr", b"oops\n")
    writer.write("stdout", b"o\n")
    writer.close()
    frames = list(store.read("run-1", "onready-a"))
    assert [(frame.stream, frame.data) for frame in frames] == [
        ("stdout", b"one\ntw"),
        ("stderr", b"oops\n"),
        ("stdout", b"o\n"),
    ]
    assert frames[0].at <= frames[-1].at
    assert writer.sizes == {"stdout": 8, "stderr": 5}


def test_no_file_before_the_first_byte_then_private_ones(tmp_path: Path) -> None:
    store = LogStore(tmp_path / "deep" / "logs")
    writer = store.writer("run-1", "onready-a")
    previous = os.umask(0)
    try:
        writer.write("stdout", b"")
        assert not (tmp_path / "deep").exists()
        writer.write("stdout", b"x")
    finally:
        os.umask(previous)
        writer.close()
    path = store.path("run-1", "onready-a")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(store.folder.stat().st_mode) == 0o700


def test_a_log_that_is_not_there_reads_as_empty(tmp_path: Path) -> None:
    assert list(LogStore(tmp_path).read("run-1", "onready-a")) == []


@pytest.mark.parametrize(("run", "name"), [("..", "a"), ("a/b", "a"), ("run", "../x"), ("run", "")])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, run: str, name: str) -> None:
    with pytest.raises(ValueError, match="no log can have the name"):
        LogStore(tmp_path).writer(run, name)


def test_every_cut_of_the_tail_leaves_the_whole_frames(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    writer = store.writer("run-1", "a")
    for number in range(4):
        writer.write("stdout", b"%d" % number * 20)
    writer.close()
    path = store.path("run-1", "a")
    whole = path.read_bytes()
    frame = len(whole) // 4
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert len(list(store.read("run-1", "a"))) == length // frame


def test_a_writer_after_a_crash_goes_on_behind_the_last_whole_frame(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    writer = store.writer("run-1", "a")
    writer.write("stdout", b"first")
    writer.write("stdout", b"torn")
    writer.close()
    path = store.path("run-1", "a")
    path.write_bytes(path.read_bytes()[:-2])
    again = store.writer("run-1", "a")
    again.write("stderr", b"second")
    again.close()
    assert [frame.data for frame in store.read("run-1", "a")] == [b"first", b"second"]


def test_only_what_is_torn_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was cut to nothing is written to the disk when it is closed, on ext4.

    That is in the event loop: a few MiB of output held it up for 50 ms.
    """
    cuts: list[int] = []
    truncate = os.ftruncate

    def note(fd: int, length: int) -> None:
        cuts.append(length)
        truncate(fd, length)

    monkeypatch.setattr(os, "ftruncate", note)
    store = LogStore(tmp_path)
    for _ in range(2):
        writer = store.writer("run-1", "a")
        writer.write("stdout", b"whole")
        writer.close()
    assert cuts == []
    path = store.path("run-1", "a")
    whole = path.stat().st_size
    path.write_bytes(path.read_bytes() + b"torn")
    writer = store.writer("run-1", "a")
    writer.write("stdout", b"whole")
    writer.close()
    assert cuts == [whole]
    assert [frame.data for frame in store.read("run-1", "a")] == [b"whole"] * 3


def test_output_past_the_limit_is_dropped_and_says_so(tmp_path: Path) -> None:
    store = LogStore(tmp_path, limit=10)
    writer = store.writer("run-1", "a")
    writer.write("stdout", b"12345")
    writer.write("stdout", b"67890abc")
    writer.write("stdout", b"last words\n")
    writer.close()
    frames = list(store.read("run-1", "a"))
    assert b"".join(frame.data for frame in frames if frame.stream == "stdout") == b"1234567890"
    assert [frame.data for frame in frames if frame.stream == "note"] == [
        b"[output is cut here: the limit of 10 bytes is reached]\n"
    ]
    assert writer.sizes["stdout"] == 24
    assert writer.tail(1) == ("1234567890abclast words",)


def test_the_tail_has_the_last_lines_of_much_output(tmp_path: Path) -> None:
    writer = LogStore(tmp_path).writer("run-1", "a")
    for number in range(20_000):
        writer.write("stdout", b"line %d\n" % number)
    writer.write("stderr", b"bad \xff\n")
    writer.close()
    assert writer.tail(3) == ("line 19998", "line 19999", "bad �")
    assert writer.tail(0) == ()


def test_large_output_is_split_into_frames(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    writer = store.writer("run-1", "a")
    data = os.urandom(3_000_000)
    writer.write("stdout", data)
    writer.close()
    frames = [frame.data for frame in store.read("run-1", "a")]
    assert max(map(len, frames)) <= 1 << 20
    assert b"".join(frames) == data


def test_many_threads_write_whole_frames(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    writer = store.writer("run-1", "a")

    def write(number: int) -> None:
        for count in range(200):
            writer.write("stdout", b"%d:%d\n" % (number, count))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.close()
    lines = [frame.data for frame in store.read("run-1", "a")]
    for number in range(8):
        mine = [line for line in lines if line.startswith(b"%d:" % number)]
        assert mine == [b"%d:%d\n" % (number, count) for count in range(200)]


def test_a_full_disk_is_remembered_and_leaves_no_torn_frame(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    writer = store.writer("run-1", "a")
    writer.write("stdout", b"fits")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        writer.write("stdout", b"does not" * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    writer.write("stdout", b"too late")
    writer.close()
    assert writer.fault is not None
    assert [frame.data for frame in store.read("run-1", "a")] == [b"fits"]
    assert store.path("run-1", "a").stat().st_size == 20
