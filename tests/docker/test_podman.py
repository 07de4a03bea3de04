"""Podman's compatible socket: the same backend, where another engine answers.

The whole contract suite passes there too (`ONREADY_DOCKER` names its socket); here is what differs.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio
import pytest

from onready.engine.spi import Succeeded
from onready.engine.testing.fakes import RecordingReporter
from tests.backends import nodes
from tests.backends.kit import failure
from tests.docker import engines
from tests.docker.engines import PYTHON
from tests.docker.test_containers import Room, make_room

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def podman(engine: str) -> Iterator[str]:
    """The address of a Podman service of our own; not in CI, whose machines have none."""
    lack = engines.podman_lack()
    if lack:
        pytest.skip(f"NO PODMAN, its tests do not run: {lack}")
    # Podman takes no longer path than 50 characters.
    with (
        TemporaryDirectory(prefix="onready-podman-", ignore_cleanup_errors=True) as folder,
        engines.podman(Path(folder), engine) as host,
    ):
        yield host


@pytest.fixture
async def room(podman: str, tmp_path: Path) -> AsyncGenerator[Room]:
    async with make_room(podman, tmp_path, network="none") as made:
        yield made
    assert not await made.left()


async def test_programs_and_functions_run(room: Room) -> None:
    text = "head -c 40000 /dev/zero | tr '\\0' x; echo; echo no >&2; echo 7 > n; exit 0"
    report = RecordingReporter()
    outcome = await room.backend.execute(room.script(text, "n"), report)
    assert isinstance(outcome, Succeeded), outcome
    assert report.output("stdout") == b"x" * 40_000 + b"\n"
    assert report.output("stderr") == b"no\n"
    found = failure(await room.run(room.script("echo last words; exit 7")))
    assert (found.kind, found.exit_code, found.log) == ("exit", 7, ("last words",))
    report = RecordingReporter()
    attempt = room.attempt(nodes.context)
    attempt = replace(attempt, options={"image": PYTHON, "code": "mount"})
    value = await room.value(await room.backend.execute(attempt, report))
    assert isinstance(value, list)
    assert report.progresses == [(0.5, "half")]


async def test_one_name_is_one_container(room: Room) -> None:
    attempt = room.script("sleep 1; echo once")
    async with make_room(room.host, room.folder, network="none") as other:
        outcomes: list[object] = []

        async def run(one: Room) -> None:
            outcomes.append(await one.value(await one.run(attempt)))

        async with anyio.create_task_group() as tasks:
            for one in (room, other):
                tasks.start_soon(run, one)
    assert outcomes == ["once", "once"]


async def test_cancelling_leaves_nothing(room: Room) -> None:
    attempt = room.script("sleep 600")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(room.run, attempt)
        with anyio.fail_after(60):
            while attempt.name not in await room.docker("ps", "--format", "{{.Names}}"):
                await anyio.sleep(0.1)
        tasks.cancel_scope.cancel()
