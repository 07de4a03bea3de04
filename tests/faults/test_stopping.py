"""Stopping: by signals (F13), by a host that leaves at any point (F14), of what resists (F15).

That no task, thread, descriptor or process is left is looked at after every test: tests/conftest.py.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path

import anyio
import psutil
import pytest

from onready import Engine
from onready.engine.events import NodeCancelled, NodeLost
from tests.faults import nodes
from tests.faults.drivers import until
from tests.faults.sizes import NIGHTLY, size

ROUNDS = size(60, 500) // 3
DEADLINE = 30.0


def is_alive(pid: int) -> bool:
    """Whether that process has not ended."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def pids(folder: Path) -> list[int]:
    """The processes that left their numbers."""
    return [int(path.name) for path in folder.iterdir() if path.name.isdigit()]


def survivors(folder: Path) -> list[int]:
    """Those of them that have not ended."""
    return [pid for pid in pids(folder) if is_alive(pid)]


# --- F15: what resists --------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("what", "count"),
    [
        ("program", nodes.FAMILY),
        ("process", 2 * nodes.FAMILY + 1),
        ("subprocess", 2 * nodes.FAMILY + 1),
    ],
)
async def test_what_ignores_everything_is_killed_with_its_family(
    tmp_path: Path, what: str, count: int
) -> None:
    folder = tmp_path / "family"
    folder.mkdir()
    bound = nodes.program.bind(str(folder))
    if what != "program":
        bound = nodes.stubborn.with_options(backend=what).bind(str(folder))
    async with Engine(folder=tmp_path, grace=0.2) as engine:
        run = await engine.start(bound)
        with anyio.fail_after(DEADLINE):
            while len(pids(folder)) < count:
                await anyio.sleep(0.02)
            await run.cancel("enough")
        assert survivors(folder) == []
        assert (await run.wait()).status == "cancelled"
        ends = [e async for e in run.events() if isinstance(e, NodeCancelled | NodeLost)]
        assert [type(end) for end in ends] == [NodeCancelled]


# --- F13: signals -------------------------------------------------------------------------------


@pytest.mark.parametrize("signals", [1, 2])
def test_sigterm_ends_the_command_line_and_all_below_it(tmp_path: Path, signals: int) -> None:
    folder = tmp_path / "family"
    folder.mkdir()
    # One signal leaves time to end well, which a thread that hears nothing does not use.
    graph = "hard" if signals == 2 else "willing"
    command = [sys.executable, "-m", "onready", "run", f"tests.faults.nodes:{graph}"]
    with subprocess.Popen(
        [*command, "--folder", str(folder), "--run-log", f"sqlite:{tmp_path}/runs.db"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"ONREADY_GRACE": "60" if signals == 2 else "0.5"},
    ) as child:
        try:
            family = 4 * nodes.FAMILY + 2
            until(lambda: len(pids(folder)) == family or child.poll() is not None, "no family")
            until((folder / "patient").exists, "no patient")
            child.send_signal(signal.SIGTERM)
            if signals == 2:
                until((folder / "patient.ended").exists, "not cancelled")
                child.send_signal(signal.SIGTERM)
            said, _ = child.communicate(timeout=DEADLINE)
        finally:
            child.kill()
    assert child.returncode == 143, said
    assert survivors(folder) == []
    assert "Traceback" not in said


# --- F14: hosts that leave ----------------------------------------------------------------------


Using = Callable[[], Coroutine[object, object, None]]
"""A host that uses an engine until it is stopped."""


class Left(Exception):
    """What the host raises."""


async def use(folder: Path, draw: random.Random) -> None:
    """What a host does with an engine, until it is stopped."""
    durable = draw.random() < 0.5
    made = Engine(folder=folder, grace=0.2, lease=0.1) if durable else Engine.memory(grace=0.2)
    async with made as engine:
        if draw.random() < 0.5:
            await engine.run(nodes.everything.bind())
        else:
            run = await engine.start(nodes.everything.bind())
            async for _ in run.events():
                pass


async def cancelled(using: Using, delay: float) -> None:
    with anyio.move_on_after(delay) as scope:
        await using()
    assert scope.cancelled_caught


async def timed_out(using: Using, delay: float) -> None:
    with pytest.raises(TimeoutError):
        with anyio.fail_after(delay):
            await using()


async def left_with_an_error(using: Using, delay: float) -> None:
    async def leave() -> None:
        await anyio.sleep(delay)
        raise Left

    raised: list[BaseException] = []
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(using)
            group.start_soon(leave)
    except ExceptionGroup as group_of:
        raised.extend(group_of.exceptions)
    assert [type(error) for error in raised] == [Left]


def children() -> set[psutil.Process]:
    """Our descendants; those of earlier tests' services among them."""
    return set(psutil.Process().children(recursive=True))


WAYS = [cancelled, timed_out, left_with_an_error]


@pytest.mark.anyio
@pytest.mark.timeout(3600 if NIGHTLY else 120)
async def test_a_host_may_leave_at_any_point(tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    draw = random.Random(seed)
    family = children()
    for number in range(ROUNDS):
        before = len(anyio.get_running_tasks())
        way = WAYS[number % len(WAYS)]
        said = f"seed {seed}, round {number}, {way.__name__}"
        with anyio.fail_after(DEADLINE):
            await way(partial(use, tmp_path / "state", draw), 0.8 * draw.random() ** 2)
        # At once, and not after a while: nothing may be on its way out when the host goes on.
        assert children() <= family, said
        with anyio.fail_after(DEADLINE):
            while len(anyio.get_running_tasks()) > before:
                await anyio.sleep(0.01)


@pytest.mark.timeout(3600 if NIGHTLY else 120)
def test_the_loop_may_close_at_any_point(tmp_path: Path) -> None:
    seed = random.randrange(1 << 30)
    draw = random.Random(seed)
    family = children()
    for number in range(ROUNDS):
        ends: list[bool] = []

        async def host(ends: list[bool] = ends) -> None:
            task = asyncio.ensure_future(use(tmp_path / "state", draw))
            task.add_done_callback(lambda task: ends.append(task.cancelled()))
            await asyncio.sleep(0.8 * draw.random() ** 2)
            # `asyncio.run` cancels what is left, and waits for it.

        asyncio.run(host())
        assert ends == [True], f"seed {seed}, round {number}"
        assert children() <= family, f"seed {seed}, round {number}"
