"""What every test gets: both event loops, a leak check, and a watch on blocking calls.

An async test is marked `@pytest.mark.anyio` and runs on asyncio and on trio. A file whose subject
works on asyncio alone overrides `anyio_backend` and says why.
"""

from __future__ import annotations

import functools
import os
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Generator, Iterator
from dataclasses import dataclass
from inspect import iscoroutinefunction
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest
from blockbuster import BlockBuster
from hypothesis import HealthCheck, settings

GRACE = float(os.environ.get("PYTEST_ONREADY_GRACE", "5"))
"""Seconds within which what a test started must be gone after it."""

_TAG = "PYTEST_ONREADY_SESSION"
_passed = pytest.StashKey[bool]()
# How fast examples are drawn says more about the machine's other work than about the strategy.
settings.register_profile("onready", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("onready")
_blockbuster = BlockBuster(scanned_modules=["onready"])


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """Both event loops: the engine with in-process backends runs on either."""
    return str(request.param)


# --- what is left behind ------------------------------------------------------------------------


@dataclass(frozen=True)
class Traces:
    """Threads, descriptors and processes that exist: names by identity."""

    threads: dict[int, str]
    descriptors: dict[tuple[int, str], str]
    processes: dict[int, str]

    @classmethod
    def now(cls) -> Traces:
        return cls(_threads(), _descriptors(), _processes())

    def added_to(self, before: Traces) -> list[str]:
        """What is here and was not there before, one line each."""
        return [
            f"{kind} {name}"
            for kind, mine, theirs in (
                ("thread", self.threads, before.threads),
                ("descriptor", self.descriptors, before.descriptors),
                ("process", self.processes, before.processes),
            )
            for identity, name in mine.items()
            if identity not in theirs
        ]


def _threads() -> dict[int, str]:
    # Trio keeps idle threads for some seconds in a cache of its own; busy ones are renamed.
    return {
        id(thread): thread.name
        for thread in threading.enumerate()
        if not thread.name.startswith("Trio thread")
    }


def _descriptors() -> dict[tuple[int, str], str]:
    found: dict[tuple[int, str], str] = {}
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except OSError:  # the one that lists this folder
            continue
        found[int(entry.name), target] = f"{entry.name} -> {target}"
    return found


_KERNEL = 0x0020_0000
"""PF_KTHREAD, of the flags in /proc/PID/stat."""
_strangers: set[int] = set()
"""Processes that were looked at and are not ours: each is looked at once."""


def _processes() -> dict[int, str]:
    """Our descendants, and those that left us but still carry the tag of this session."""
    tag = f"{_TAG}={os.environ[_TAG]}".encode()
    pids = {int(entry.name) for entry in os.scandir("/proc") if entry.name.isdigit()}
    _strangers.intersection_update(pids)
    found: dict[int, str] = {}
    for pid in pids - _strangers - {os.getpid()}:
        if _descends(pid) or _carries(pid, tag):
            found[pid] = _described(pid)
        else:
            _strangers.add(pid)
    return found


def _descends(pid: int) -> bool:
    """Whether this process is among its ancestors."""
    me = os.getpid()
    while pid > 1:
        try:
            stat = Path(f"/proc/{pid}/stat").read_bytes()
        except OSError:
            return False
        pid = int(stat.rpartition(b")")[2].split()[1])
        if pid == me:
            return True
    return False


def _carries(pid: int, tag: bytes) -> bool:
    """Whether it has the tag, or may have: while it becomes another program nobody can see."""
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
        return tag in environment or not (environment or _has_none(pid))
    except OSError:
        return False


def _has_none(pid: int) -> bool:
    """Whether it will never have an environment: a zombie, or a thread of the kernel."""
    fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    return fields[0] in b"ZX" or bool(int(fields[6]) & _KERNEL)


def _described(pid: int) -> str:
    try:
        process = psutil.Process(pid)
        return f"{process.pid} {process.status()} {' '.join(process.cmdline())[:120]}"
    except psutil.Error:
        return f"{pid} (gone meanwhile)"


@pytest.fixture(autouse=True)
def nothing_left_behind(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test that leaves a thread, a descriptor or a process behind."""
    if request.node.get_closest_marker("may_leak") is not None:
        yield
        return
    before = Traces.now()
    yield
    if not request.node.stash.get(_passed, False):
        return  # it has failed already; what it left behind follows from that
    deadline = time.monotonic() + GRACE
    while left := Traces.now().added_to(before):
        if time.monotonic() > deadline:
            pytest.fail("left behind:\n  " + "\n  ".join(left), pytrace=False)
        time.sleep(0.01)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if call.when == "call":
        item.stash[_passed] = report.passed
    return report


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, object, object]:
    """Make every async test look for tasks that outlive it, inside its own loop."""
    if "anyio_backend" in pyfuncitem.funcargs and not pyfuncitem.get_closest_marker("may_leak"):
        test = pyfuncitem.obj
        handle = getattr(test, "hypothesis", None)
        if handle is not None:
            if iscoroutinefunction(handle.inner_test):
                handle.inner_test = _without_leaking_tasks(handle.inner_test)
        elif iscoroutinefunction(test):
            pyfuncitem.obj = _without_leaking_tasks(test)
    return (yield)


def _without_leaking_tasks(
    test: Callable[..., Awaitable[object]],
) -> Callable[..., Awaitable[None]]:
    @functools.wraps(test)
    async def watched(*args: Any, **kwargs: Any) -> None:
        before = {task.id for task in anyio.get_running_tasks()}
        await test(*args, **kwargs)
        deadline = time.monotonic() + GRACE
        while left := [task for task in anyio.get_running_tasks() if task.id not in before]:
            if time.monotonic() > deadline:
                pytest.fail("left behind:\n  " + "\n  ".join(f"task {task}" for task in left))
            await anyio.sleep(0.01)

    return watched


# --- blocking calls -----------------------------------------------------------------------------


def pytest_configure() -> None:
    os.environ[_TAG] = uuid.uuid4().hex
    # Only calls with a frame of onready on the stack count; tests themselves may touch files.
    # It sees asyncio's loop alone, which is enough: the code is the same on trio.
    _blockbuster.activate()
    for call in ("os.stat", "os.mkdir", "io.BufferedReader.read"):
        # A node that asks for its scratch folder, or prints, waits for its own file: as `print`
        # does anywhere. The engine itself never does.
        _blockbuster.functions[call].can_block_in("onready/engine/folders.py", "make_private")
        _blockbuster.functions[call].can_block_in("onready/engine/logs.py", "_open")
    # What measures coverage waits for its own lock now and then, in whatever line that happens.
    for call in ("threading.Lock.acquire", "threading.Lock.acquire_lock"):
        _blockbuster.functions[call].can_block_in("coverage/collector.py", "lock_data")


def pytest_unconfigure() -> None:
    _blockbuster.deactivate()


@pytest.fixture(autouse=True)
def blocking_where_allowed(request: pytest.FixtureRequest) -> Iterator[None]:
    """Switch the watch off for a test marked `may_block`."""
    if request.node.get_closest_marker("may_block") is None:
        yield
        return
    _blockbuster.deactivate()
    try:
        yield
    finally:
        _blockbuster.activate()
