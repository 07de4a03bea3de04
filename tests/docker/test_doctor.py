"""What the doctor finds: on a real engine, and where there is none."""

from __future__ import annotations

from pathlib import Path

import pytest

from onready.backends.docker.doctor import Finding, look, settings
from onready.storage.memory import MemoryCatalog
from tests.backends.kit import directory
from tests.docker import engines

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


async def test_a_good_engine_is_found_good(engine: str, tmp_path: Path) -> None:
    config = settings({"type": "docker", "host": engine, "image": engines.SHELL})
    async with directory(tmp_path) as catalog:
        found = {one.check: one async for one in look(config, catalog)}
    assert [name for name in found if name != "users"] == [
        "socket",
        "daemon",
        "storage",
        "control groups",
        "container",
        "mounts",
    ]
    assert {one.level for one in found.values()} <= {"ok", "warn"}, found
    assert found["container"].level == found["mounts"].level == "ok"
    assert not engines.docker(engine, "ps", "-aq", "--filter", "label=onready.node=doctor")


async def test_what_is_wrong_has_a_cure(engine: str, tmp_path: Path) -> None:
    async def last(**given: object) -> Finding:
        config = settings({"host": engine, **given})
        return [one async for one in look(config, MemoryCatalog())][-1]

    nowhere = await last(host=f"unix://{tmp_path}/none.sock")
    assert (nowhere.check, nowhere.level) == ("daemon", "fail")
    assert "none.sock" in nowhere.text
    far = await last(host="tcp://10.0.0.1:2375")
    assert (far.check, far.level) == ("socket", "fail")
    absent = await last(image="onready-no-such:1")
    assert (absent.level, absent.cure) == ("fail", "docker pull onready-no-such:1")
    assert (await last()).text == "not tried: no image is configured"
    other = await last(image=engines.SHELL, user="4321:4321")
    assert (other.check, other.level) == ("mounts", "fail")
