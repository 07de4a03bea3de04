"""Where the daemon is looked for: as the `docker` command does."""

from __future__ import annotations

import hashlib
import json
import socket
from pathlib import Path

import anyio
import pytest

from onready.backends.docker.backend import DockerConfig
from onready.backends.docker.client import find_socket
from onready.engine.errors import BackendError, PluginError


@pytest.fixture(autouse=True)
def nothing_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DOCKER_HOST", "DOCKER_CONTEXT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))


def context(folder: Path, name: str, meta: object) -> None:
    digest = hashlib.sha256(name.encode()).hexdigest()
    place = folder / "config" / "contexts" / "meta" / digest
    place.mkdir(parents=True)
    (place / "meta.json").write_text(json.dumps(meta))


def test_what_is_given_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///from/variable.sock")
    assert find_socket("unix:///given.sock") == "/given.sock"
    assert find_socket("") == "/from/variable.sock"


def test_the_context_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    endpoint = {"Endpoints": {"docker": {"Host": "unix:///of/context.sock"}}}
    context(tmp_path, "mine", endpoint)
    (tmp_path / "config" / "config.json").write_text('{"currentContext": "mine"}')
    assert find_socket("") == "/of/context.sock"
    context(tmp_path, "other", {"Endpoints": {"docker": {"Host": "unix:///other.sock"}}})
    monkeypatch.setenv("DOCKER_CONTEXT", "other")
    assert find_socket("") == "/other.sock"


def test_the_users_own_daemon_and_broken_contexts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    context(tmp_path, "broken", {"Endpoints": None})
    monkeypatch.setenv("DOCKER_CONTEXT", "broken")
    monkeypatch.setattr(Path, "is_socket", lambda path: str(path).startswith(str(tmp_path)))
    assert find_socket("") == str(tmp_path / "run" / "docker.sock")


def test_no_docker_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "is_socket", lambda _: False)
    with pytest.raises(PluginError, match="no Docker socket was found"):
        find_socket("")
    with pytest.raises(BackendError, match="is no socket of this machine"):
        find_socket("tcp://10.0.0.1:2375")


@pytest.mark.anyio
@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 500 Oops\r\nContent-Length: 2\r\n\r\nno"])
async def test_something_else_listens_there(tmp_path: Path, answer: bytes) -> None:
    path = tmp_path / "docker.sock"

    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(answer or b" ")

    async with (
        await anyio.create_unix_listener(path) as listener,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(listener.serve, serve)
        with pytest.raises(BackendError):
            async with DockerConfig(host=f"unix://{path}", deadline=2).open():
                pass
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_nobody_listens_there(tmp_path: Path) -> None:
    path = tmp_path / "docker.sock"
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(str(path))
    with pytest.raises(BackendError, match="no Docker daemon answers at"):
        async with DockerConfig(host=f"unix://{path}").open():
            pass


def test_other_event_loops_are_refused() -> None:
    async def enter() -> None:
        async with DockerConfig(host="unix:///any.sock").open():
            pass

    with pytest.raises(PluginError, match="asyncio"):
        anyio.run(enter, backend="trio")
