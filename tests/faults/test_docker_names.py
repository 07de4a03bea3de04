"""Names of containers that clash (F11): told of loudly, and what has the name is never adopted."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from onready.backends.docker.body import identity
from onready.engine.errors import BackendError
from onready.engine.names import NodeKey, dispatch_name
from onready.engine.spi import Attempt, Outcome
from onready.engine.testing.fakes import RecordingReporter
from tests.docker import daemons
from tests.faults.docker_fake import make_room
from tests.faults.sizes import NIGHTLY, size

LACK = daemons.lack()
pytestmark = pytest.mark.timeout(600 if NIGHTLY else 120)
needs_fake = pytest.mark.skipif(bool(LACK), reason=f"NO NAMESPACES FOR FAKE CONTAINERS: {LACK}")


@pytest.fixture
def anyio_backend() -> str:
    """Asyncio alone: as aiodocker is."""
    return "asyncio"


def test_real_names_do_not_clash() -> None:
    seen: set[bytes] = set()
    count = size(100_000, 1_000_000)
    for number in range(count // 10):
        key = NodeKey("train", NodeKey("fold", None, number % 97), number // 97)
        for attempt in range(10):
            seen.add(bytes.fromhex(dispatch_name("run", key, attempt).removeprefix("onready-")))
    assert len(seen) == count


def short(attempt: Attempt) -> Attempt:
    """The attempt under a name of 16 bits, as a worse hash would give it."""
    return replace(attempt, name=attempt.name[: len("onready-") + 4])


@needs_fake
@pytest.mark.anyio
async def test_every_clash_of_short_names_is_told(tmp_path: Path) -> None:
    async with make_room(tmp_path) as room:
        taken: dict[str, Attempt] = {}
        clashes = 0
        for _ in range(size(1_500, 6_000)):
            attempt = short(room.script("true"))
            if attempt.name not in taken:
                # It stands for a container that another attempt has made, and that has not ended.
                taken[attempt.name] = attempt
                room.plant(attempt.name, identity(attempt))
                continue
            clashes += 1
            with pytest.raises(BackendError, match="is not this attempt's") as raised:
                await room.run(attempt)
            assert not raised.value.retryable
            assert str(taken[attempt.name].key) in str(raised.value)
        assert clashes, "there is nothing to tell of"
        whose = Counter(one.labels["onready.node"] for one in room.daemon.containers.values())
        assert whose == Counter(str(one.key) for one in taken.values()), "one was touched"
        assert not room.daemon.starts
        room.daemon.containers.clear()


@needs_fake
@pytest.mark.anyio
@pytest.mark.parametrize(
    "labels", [{}, {"onready.run": "test"}, {"onready.attempt-name": "onready-0"}]
)
async def test_a_foreign_container_with_our_name_is_left_alone(
    tmp_path: Path, labels: dict[str, str]
) -> None:
    async with make_room(tmp_path) as room:
        attempt = room.script("true")
        foreign = room.plant(attempt.name, labels)
        with pytest.raises(BackendError, match="is not this attempt's"):
            await room.run(attempt)
        with pytest.raises(BackendError, match="is not this attempt's"):
            await room.backend.recover(attempt, RecordingReporter())
        assert room.daemon.containers.pop(foreign.id) is foreign
        assert not room.daemon.starts


@needs_fake
@pytest.mark.anyio
async def test_two_attempts_of_one_backend_do_not_share_a_name(tmp_path: Path) -> None:
    async with make_room(tmp_path) as room:
        first = room.script("echo first; sleep 0.5")
        second = replace(room.script("echo second"), name=first.name)
        outcomes: list[Outcome] = []

        async def run() -> None:
            outcomes.append(await room.run(first))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            with anyio.fail_after(30):
                while not room.daemon.starts:
                    await anyio.sleep(0.01)
            with pytest.raises(BackendError, match="is in use for another attempt") as raised:
                await room.run(second)
            assert str(first.key) in str(raised.value)
        assert await room.value(outcomes[0]) == "first"
