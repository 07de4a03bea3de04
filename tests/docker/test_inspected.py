"""Every option, as the daemon itself says that it has it: `docker inspect` of a real container."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import anyio
import pytest

from onready import Engine, GraphBuilder
from onready.backends.docker.body import Order, body
from onready.backends.docker.options import NAMES, NodeOptions
from onready.engine.errors import GraphError
from onready.engine.options import Resources
from onready.engine.spi import Shell
from tests.backends.kit import RUN, failure, memory
from tests.docker.engines import SHELL
from tests.docker.test_containers import begun, make_room
from tests.docker.test_options import BAD

pytestmark = [pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Asyncio alone: aiohttp, which aiodocker stands on, knows no other loop."""
    return "asyncio"


@pytest.mark.anyio
async def test_the_daemon_has_every_option(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_TOKEN", "canary")
    options: dict[str, object] = {
        "image": SHELL,
        "pull": "never",
        "environment": {"COLOUR": "blue"},
        "mounts": [f"{tmp_path}:/data:ro", "onready-test-volume:/cache"],
        "workdir": "/data",
        "user": "1234:1235",
        "network": "none",
        "shm_size": "1Mi",
        "ulimits": {"nofile": "99:100", "core": "0"},
        "hosts": ["db:10.0.0.7"],
        "labels": {"team": "red"},
        "init": False,
    }
    async with make_room(engine, tmp_path) as room:
        attempt = replace(
            room.attempt(Shell(("sleep", "600"))),
            options=options,
            resources=Resources(cpu=0.5, memory="32Mi"),
        )
        told: dict[str, Any] = {}
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(room.run, attempt)
            await begun(room, attempt)
            (told,) = json.loads(await room.docker("inspect", attempt.name))
            tasks.cancel_scope.cancel()
        await room.docker("volume", "rm", "onready-test-volume")
    _check_config(told["Config"])
    _check_host(told["HostConfig"], str(tmp_path))


def _check_config(config: dict[str, Any]) -> None:
    assert config["Image"] == SHELL
    assert "COLOUR=blue" in config["Env"]
    assert (config["WorkingDir"], config["User"]) == ("/data", "1234:1235")
    assert config["Labels"]["team"] == "red"
    assert config["Labels"]["onready.run"] == RUN
    assert (config["Entrypoint"], config["Cmd"]) == (["sleep"], ["600"])


def _check_host(host: dict[str, Any], folder: str) -> None:
    mounts = [
        (one["Type"], one["Source"], one["Target"], one.get("ReadOnly", False))
        for one in host["Mounts"]
    ]
    assert ("bind", folder, "/data", True) in mounts
    assert ("volume", "onready-test-volume", "/cache", False) in mounts
    assert host["NetworkMode"] == "none"
    assert host["NanoCpus"] == 500_000_000
    assert host["Memory"] == host["MemorySwap"] == 32 * 1024 * 1024
    assert host["ShmSize"] == 1024 * 1024
    limits = {(one["Name"], one["Soft"], one["Hard"]) for one in host["Ulimits"]}
    assert limits == {("nofile", 99, 100), ("core", 0, 0)}
    assert host["ExtraHosts"] == ["db:10.0.0.7"]
    assert host["Init"] is False
    assert (host["AutoRemove"], host["RestartPolicy"]["Name"]) == (False, "no")


def test_gpus_are_asked_for(tmp_path: Path) -> None:
    # No machine of ours has one to give: what the daemon is asked is looked at.
    attempt = replace(memory(tmp_path).attempt(Shell(("x",))), resources=Resources(gpu=2))
    asked = body(attempt, NodeOptions(), "a", Order(("x",)), {})
    host = cast("dict[str, object]", asked["HostConfig"])
    assert host["DeviceRequests"] == [{"Driver": "", "Count": 2, "Capabilities": [["gpu"]]}]


@pytest.mark.anyio
async def test_an_engine_without_gpus_says_so(engine: str, tmp_path: Path) -> None:
    async with make_room(engine, tmp_path, network="none") as room:
        attempt = replace(room.script("true"), resources=Resources(gpu=1))
        found = failure(await room.run(attempt))
    assert not await room.left()
    assert found.kind == "unschedulable"
    assert "the daemon has no such device" in found.message


@pytest.mark.anyio
async def test_every_wrong_value_is_an_error_with_file_and_line(engine: str) -> None:
    settings = {"type": "docker", "host": engine}
    async with Engine.memory(backends={"docker": settings}) as made:
        for own, expected in BAD:
            g = GraphBuilder("g")
            g.shell(["true"], backend="docker", options={"image": SHELL, **own})
            with pytest.raises(GraphError) as raised:
                await made.run(g.build())
            told = str(raised.value)
            assert "test_inspected.py:" in told
            assert "G055" in told
            assert expected in told
    checked = {name for own, _ in BAD for name in own}
    assert checked == NAMES - {"python"}  # any text may name an interpreter
