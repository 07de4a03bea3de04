"""Pulls, by a made-up daemon: no registry is at hand, and a real daemon's cannot be made to fail.

The daemon speaks the three calls of pulling over a real socket.
"""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest
from aiohttp import web

from onready.backends.docker.client import Client, Unreachable, open_client
from onready.backends.docker.images import ImageFault, Images
from onready.engine.secrets import SecretProviders
from onready.engine.spi import Attempt, Shell
from onready.engine.testing.fakes import RecordingReporter
from tests.backends.kit import memory

pytestmark = pytest.mark.anyio


class Registry:
    """A daemon that pulls: `reports` are what it says, `hold` keeps it silent after them."""

    def __init__(self) -> None:
        self.reports: list[dict[str, object]] = []
        self.hold = False
        self.released = anyio.Event()
        self.has: set[str] = set()
        self.pulled: list[str] = []
        self.auth: list[dict[str, str]] = []

    async def ping(self, request: web.Request) -> web.Response:
        del request
        return web.Response(text="OK", headers={"Api-Version": "1.41"})

    async def inspect(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if name in self.has:
            return web.json_response({"Id": "sha256:0"})
        return web.json_response({"message": f"No such image: {name}"}, status=404)

    async def create(self, request: web.Request) -> web.StreamResponse:
        name = f"{request.query['fromImage']}:{request.query.get('tag', '')}".rstrip(":")
        self.pulled.append(name)
        header = request.headers.get("X-Registry-Auth", "")
        if header:
            self.auth.append(json.loads(base64.urlsafe_b64decode(header)))
        answer = web.StreamResponse()
        await answer.prepare(request)
        for report in self.reports:
            await answer.write(json.dumps(report).encode() + b"\r\n")
            await anyio.sleep(0.01)
        if self.hold:
            await self.released.wait()
        self.has.add(name)
        return answer


@asynccontextmanager
async def served(folder: Path) -> AsyncGenerator[tuple[Registry, Client]]:
    registry = Registry()
    app = web.Application()
    app.router.add_get("/_ping", registry.ping)
    app.router.add_get("/v1.41/images/{name:.+}/json", registry.inspect)
    app.router.add_post("/v1.41/images/create", registry.create)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    path = folder / "docker.sock"
    await web.UnixSite(runner, str(path)).start()
    try:
        async with open_client(f"unix://{path}", 5.0) as client:
            yield registry, client
    finally:
        registry.released.set()
        await runner.cleanup()


def attempt(folder: Path) -> Attempt:
    made = memory(folder).attempt(Shell(("true",)))
    made.secrets = SecretProviders()
    return made


async def test_a_pull_is_shared_and_tells_its_progress(tmp_path: Path) -> None:
    async with served(tmp_path) as (registry, client):
        half = {"current": 50, "total": 100}
        registry.reports = [{"status": "Downloading", "id": "a", "progressDetail": half}]
        images = Images(client, {}, 5.0)
        report = RecordingReporter()
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(
                    images.missing, "a:1", "missing", "none", attempt(tmp_path), report
                )
        assert registry.pulled == ["a:1"]
        assert report.progresses == [(0.5, "pulling a:1: Downloading")]


async def test_always_is_once_while_the_backend_is_open(tmp_path: Path) -> None:
    async with served(tmp_path) as (registry, client):
        images = Images(client, {}, 5.0)
        for policy in ("always", "always", "missing", "never"):
            await images.prepare("a:1", policy, attempt(tmp_path), RecordingReporter())
        assert registry.pulled == ["a:1"]


async def test_a_pull_that_fails_has_the_daemons_words(tmp_path: Path) -> None:
    async with served(tmp_path) as (registry, client):
        registry.reports = [{"error": "denied", "errorDetail": {"message": "denied: log in"}}]
        images = Images(client, {}, 5.0)
        told = r"'a:1' cannot be pulled: denied \(it may need a login: login= of the backend\)"
        with pytest.raises(ImageFault, match=told):
            await images.prepare("a:1", "always", attempt(tmp_path), RecordingReporter())


async def test_a_pull_that_falls_silent_is_given_up(tmp_path: Path) -> None:
    async with served(tmp_path) as (registry, client):
        registry.hold = True
        images = Images(client, {}, 0.2)
        with pytest.raises(Unreachable, match="broke off"):
            await images.prepare("a:1", "always", attempt(tmp_path), RecordingReporter())


async def test_logins_are_secrets_by_registry(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ONE", "me:pass:word")
    monkeypatch.setenv("TWO", "nonsense")
    async with served(tmp_path) as (registry, client):
        images = Images(client, {"one.invalid:5000": "ONE", "default": "TWO"}, 5.0)
        report = RecordingReporter()
        await images.prepare("one.invalid:5000/a:1", "always", attempt(tmp_path), report)
        expected = {"username": "me", "password": "pass:word", "serveraddress": "one.invalid:5000"}
        assert registry.auth == [expected]
        await images.prepare("two.invalid/a:1", "always", attempt(tmp_path), report)
        assert registry.auth == [expected]
        with pytest.raises(ImageFault, match="the secret 'TWO' is no USER:PASSWORD"):
            await images.prepare("a:1", "always", attempt(tmp_path), report)
