"""Sweeping: a backend that fails hinders no other; the real thing is in tests/faults/test_gc.py."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from onready import BackendError, Engine
from onready.engine.events import RunStarted
from onready.engine.host import Given
from onready.engine.names import NodeKey, dispatch_name
from onready.engine.spi import Labels
from onready.engine.sweeping import size_of
from onready.engine.testing.fakes import FakeBackend, FakePlatform
from onready.storage.memory import MemoryRunLog

pytestmark = pytest.mark.anyio


class Sulking(FakeBackend):
    """Fails at the nth time that it is asked."""

    def __init__(self, nth: int, platform: FakePlatform) -> None:
        super().__init__({}, platform=platform)
        self.left = nth

    async def sweep(self, keep: Callable[[Labels], bool]) -> int:
        self.left -= 1
        if not self.left:
            message = "the platform does not answer"
            raise BackendError(message)
        return await super().sweep(keep)


def platform(run: str) -> FakePlatform:
    name = dispatch_name(run, NodeKey("n"), 1)
    return FakePlatform(live={name: Labels(run, "n", 1, 1)})


@pytest.mark.parametrize("nth", [1, 2])
async def test_a_backend_that_fails_hinders_no_other(tmp_path: Path, nth: int) -> None:
    log = MemoryRunLog()
    lease = await log.lease("r1", "gone", 60.0)
    await log.append("r1", 1, [RunStarted(1, 1.0, "g", "n", "f", {})])
    await log.release(lease)
    good, bad = platform("r1"), platform("r1")
    backends: dict[str, Given] = {
        "good": FakeBackend({}, platform=good),
        "bad": Sulking(nth, bad),
        "missing": {"type": "no-such-plug-in"},
    }
    async with Engine.memory(run_log=log, backends=backends, folder=tmp_path) as engine:
        swept = await engine.sweep()
    assert swept.attempts == {"good": 1}
    assert (good.live, len(bad.live)) == ({}, 1)
    assert swept.problems["bad"] == "the platform does not answer"
    assert "no plug-in 'no-such-plug-in'" in swept.problems["missing"]
    assert swept.problems.keys() == {"bad", "missing"}


def test_sizes(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"123")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "c").write_bytes(b"4567")
    assert size_of(tmp_path) == 7
    assert size_of(tmp_path / "a") == 3
    assert size_of(tmp_path / "none") == 0
