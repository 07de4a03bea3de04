"""F17: no space, no quota, errors of the disk, read-only: at every write of the stores.

What fails is refused with a StoreError; what was reported before is there; nothing half is taken
for whole; and when the fault is gone, the store goes on. The faults are the system's own where it
can be made to have them (a small tmpfs in a mount namespace of its own, the limit on the size of
files); for the run log in files, where the system calls are ours, each one fails in turn too.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from onready.engine.errors import RunLeaseHeld, StoreError
from onready.engine.events import AnyEvent
from onready.engine.spi import Lease
from onready.engine.testing.samples import started, steps
from onready.storage.clock import LeaseClock
from onready.storage.files.reading import Library, ReadEvents
from onready.storage.files.requests import Append, ReleaseLease, RenewLease, TakeLease
from onready.storage.files.writer import FilesRequest, Store, Writer
from tests.faults.sizes import size

CALLS = ("write", "fsync", "link", "rename", "open", "mkdir", "unlink")
FAULTS = (errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS)


class Failing:
    """Makes one of the system calls that change something fail, the `at`-th one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, number: int, *, half: bool) -> None:
        self.at = -1
        self.count = 0
        self.half = half
        self.number = number
        for name in CALLS:
            monkeypatch.setattr(os, name, self._wrapped(name, getattr(os, name)))

    def _wrapped(self, name: str, real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **options: object) -> object:
            changes = name != "open" or bool(int(str(args[1])) & os.O_CREAT)
            if not changes:
                return real(*args, **options)
            self.count += 1
            if self.count != self.at:
                return real(*args, **options)
            if name == "write" and self.half and isinstance(args[1], memoryview | bytes):
                real(args[0], bytes(args[1])[: len(args[1]) // 2])
            raise OSError(self.number, os.strerror(self.number))

        return call


def serve(store: Store, request: FilesRequest) -> bool:
    """Whether it was done; a refusal is a StoreError that tells the words of the system."""
    Writer(store.path, store.segment_size).serve(store, [request])
    if request.error is None:
        return True
    assert isinstance(request.error, StoreError | RunLeaseHeld), request.error
    return False


def read(path: Path) -> list[AnyEvent]:
    library = Library(path, LeaseClock())
    try:
        events: list[AnyEvent] = []
        while True:
            request = ReadEvents("r1", len(events))
            request.apply(library)
            if not request.events:
                return events
            events += request.events
    finally:
        library.close()


def scenario(store: Store) -> int:
    """A driver's life, each step tried twice; the last event that was reported as durable."""
    clock = LeaseClock()
    take = TakeLease("r1", "me", 60.0, clock)
    if not serve(store, take):
        take = TakeLease("r1", "me", 60.0, clock)
        assert serve(store, take)
    lease = take.value
    assert isinstance(lease, Lease)
    last = 0
    for part in ([started()], steps(2, 4), steps(5, 40), steps(41, 42)):
        for _ in range(2):
            if serve(store, Append("r1", lease.epoch, part)):
                last = part[-1].seq
                break
    serve(store, RenewLease(lease, clock))
    serve(store, ReleaseLease(lease))
    return last


@pytest.mark.parametrize("number", FAULTS, ids=errno.errorcode.get)
@pytest.mark.parametrize("half", [False, True], ids=["nothing", "half"])
def test_every_system_call_of_the_files_run_log_may_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, *, half: bool
) -> None:
    failing = Failing(monkeypatch, number, half=half)
    first = Store(_made(tmp_path / "undisturbed"), 1024)
    assert scenario(first) == 42
    first.close()
    points = failing.count
    assert points > 40
    for at in range(1 + FAULTS.index(number), points + 1, size(4, 1)):
        path = _made(tmp_path / f"at-{at}")
        failing.count, failing.at = 0, at
        store = Store(path, 1024)
        last = scenario(store)
        assert last == 42  # one fault: the second try is done
        store.close()
        failing.at = -1
        assert read(path) == [started(), *steps(2, 42)]
        again = Store(path, 1024)
        take = TakeLease("r1", "you", 60.0, LeaseClock())
        if not serve(again, take):  # giving the lease back was what failed
            take = TakeLease("r1", "me", 60.0, LeaseClock())
            assert serve(again, take)
        assert isinstance(take.value, Lease)
        assert serve(again, Append("r1", take.value.epoch, steps(43, 43)))
        again.close()
        assert read(path) == [started(), *steps(2, 43)]


def _made(path: Path) -> Path:
    path.mkdir()
    return path


# --- the system's own faults, in a process and a mount namespace of their own ---

KIT = """
import asyncio, json, os, resource, signal, subprocess, sys
from pathlib import Path
from onready.engine.errors import RunLeaseHeld, StoreError
from onready.engine.registry import RUN_LOGS, create
from onready.engine.testing.run_log_suite import read_all
from onready.engine.testing.samples import started, steps

async def fill(log, run, last, at_once):
    try:
        while True:
            await log.append(run, 1, steps(last + 1, last + at_once))
            last += at_once
    except StoreError as error:
        return last, str(error)

async def check(log, run, last):
    numbers = [event.seq for event in await read_all(log, run)]
    assert numbers == list(range(1, last + 1)), (len(numbers), last)
"""

FULL = (
    KIT
    + """
async def main():
    place = Path(sys.argv[1])
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", place], check=True)
    ballast = place / "ballast"
    ballast.write_bytes(bytes(300_000))
    config = create(RUN_LOGS, sys.argv[2])
    async with config.open() as log:
        await log.append("r1", 1, [started()])
        last, words = await fill(log, "r1", 1, 50)
        again, _ = await fill(log, "r1", last, 50)
        assert again == last
        await check(log, "r1", last)
        ballast.unlink()
        await log.append("r1", 1, steps(last + 1, last + 50))
        await check(log, "r1", last + 50)
    async with config.open() as log:
        await check(log, "r1", last + 50)
        await log.append("r1", 1, steps(last + 51, last + 51))
    subprocess.run(["mount", "-o", "remount,ro", place], check=True)
    try:
        async with config.open() as log:
            await log.append("r1", 1, steps(last + 52, last + 52))
    except StoreError as error:
        print(json.dumps([words, str(error)]))
    subprocess.run(["mount", "-o", "remount,rw", place], check=True)
    async with config.open() as log:
        await log.append("r1", 1, steps(last + 52, last + 52))
        await check(log, "r1", last + 52)

asyncio.run(main())
"""
)

LIMITED = (
    KIT
    + """
async def main():
    config = create(RUN_LOGS, sys.argv[2])
    start, step, stop = map(int, sys.argv[3:])
    refused = 0
    for number, limit in enumerate(range(start, stop, step)):
        async with config.open() as log:
            run = f"r{number}"
            await log.append(run, 1, [started()])
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
            last = 1
            try:
                while last < 200:
                    await log.append(run, 1, steps(last + 1, last + 7))
                    last += 7
            except StoreError:
                refused += 1
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            await check(log, run, last)
            await log.append(run, 1, steps(last + 1, last + 7))
            await check(log, run, last + 7)
    print(json.dumps(refused))

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
asyncio.run(main())
"""
)


def run(command: list[object]) -> object:
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=size(50, 1500),
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def can_mount() -> bool:
    probe = ["unshare", "-m", "mount", "-t", "tmpfs", "none", "/mnt"]
    try:
        return subprocess.run(probe, capture_output=True, check=False).returncode == 0
    except FileNotFoundError:
        return False


@pytest.mark.skipif(not can_mount(), reason="mounting a small tmpfs needs root and unshare")
@pytest.mark.parametrize("address", ["files:{}/runs", "sqlite:{}/runs.db"], ids=["files", "sqlite"])
def test_a_full_and_a_read_only_disk(tmp_path: Path, address: str) -> None:
    command = ["unshare", "-m", sys.executable, "-W", "error", "-c", FULL, tmp_path]
    words = run([*command, address.format(tmp_path)])
    assert isinstance(words, list)
    full, read_only = words
    assert "no space is left" in full
    assert "read-only" in read_only


@pytest.mark.parametrize(
    ("address", "first", "last"),
    [("files:{}/runs", 100, 6_000), ("sqlite:{}/runs.db", 4_096, 120_000)],
    ids=["files", "sqlite"],
)
def test_a_limit_on_the_size_of_files(tmp_path: Path, address: str, first: int, last: int) -> None:
    rounds = size(12, 300)
    script = [sys.executable, "-W", "error", "-c", LIMITED, tmp_path, address.format(tmp_path)]
    refused = run([*script, first, (last - first) // rounds, last])
    assert isinstance(refused, int)
    assert refused >= rounds // 2
