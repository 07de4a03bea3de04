"""The fake daemon on its socket: routes, refusals, faults.

Rule of this room: HTTP, and who answers what; the answers are in `api.py`.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from aiohttp import web

from tests.docker.fake.api import Daemon
from tests.docker.fake.bodies import answer
from tests.docker.fake.containers import Refusal
from tests.docker.fake.faults import Handler

IMAGES = ("onready-test-shell:1", "onready-test-python:1")
_VERSION = re.compile(r"/v(\d+)\.(\d+)(?=/)")


def _routes(daemon: Daemon) -> list[tuple[str, str, Handler, str]]:
    one = "/containers/{name}"
    return [
        ("GET", "/_ping", daemon.ping, "ping"),
        ("GET", "/version", daemon.version, "version"),
        ("GET", "/info", daemon.info, "info"),
        ("GET", "/events", daemon.events, "events"),
        ("GET", "/images/{image:.+}/json", daemon.image, "image"),
        ("POST", "/images/create", daemon.pull, "pull"),
        ("GET", "/containers/json", daemon.list, "list"),
        ("POST", "/containers/create", daemon.create, "create"),
        ("POST", f"{one}/start", daemon.start, "start"),
        ("POST", f"{one}/wait", daemon.wait, "wait"),
        ("POST", f"{one}/stop", daemon.stop, "stop"),
        ("POST", f"{one}/kill", daemon.kill, "kill"),
        ("GET", f"{one}/json", daemon.inspect, "inspect"),
        ("GET", f"{one}/logs", daemon.logs, "logs"),
        ("DELETE", one, daemon.remove, "remove"),
    ]


def _application(daemon: Daemon) -> web.Application:
    names: dict[object, str] = {}

    @web.middleware
    async def answered(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            _check_version(daemon, request)
            if request.match_info.http_exception is not None:
                return answer({"message": "page not found"}, status=404)
            call = names[request.match_info.handler]
            daemon.calls[call] += 1
            act = daemon.faults.next(call)
            return await (handler(request) if act is None else act(request, handler))
        except Refusal as error:
            if error.status == 304:
                return web.Response(status=304)
            return answer({"message": str(error)}, status=error.status)

    application = web.Application(middlewares=[answered])
    for method, path, handler, name in _routes(daemon):
        names[handler] = name
        for whole in (path, f"/v{{version:[0-9.]+}}{path}"):
            application.router.add_route(method, whole, handler)
    return application


def _check_version(daemon: Daemon, request: web.Request) -> None:
    match = _VERSION.match(request.path)
    if match is None:
        return
    asked = (int(match[1]), int(match[2]))
    said = f"client version {asked[0]}.{asked[1]} is too"
    if asked > tuple(map(int, daemon.api.split("."))):
        raise Refusal(400, f"{said} new. Maximum supported API version is {daemon.api}")
    if asked < tuple(map(int, daemon.least.split("."))):
        words = f"Minimum supported API version is {daemon.least}"
        raise Refusal(400, f"{said} old. {words}, please upgrade your client to a newer version")


@asynccontextmanager
async def served(folder: Path, *, api: str = "1.41", least: str = "1.12") -> AsyncGenerator[Daemon]:
    """A fake daemon in this event loop; gone afterwards, with all it holds."""
    folder.mkdir(exist_ok=True)
    daemon = Daemon(folder, api=api, least=least)
    daemon.images |= set(IMAGES)
    runner = web.AppRunner(
        _application(daemon), shutdown_timeout=0.05, handler_cancellation=True, access_log=None
    )
    await runner.setup()
    path = folder / "docker.sock"
    await web.UnixSite(runner, str(path)).start()
    try:
        yield daemon
    finally:
        daemon.faults.clear()
        await daemon.close()
        await runner.cleanup()
        with suppress(FileNotFoundError):
            path.unlink()
