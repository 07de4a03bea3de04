"""What `onready doctor docker` looks at: from the socket to a container that writes as its user.

Rule of this room: looks, and leaves nothing behind; each finding is one line and, where something
is wrong, one cure.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal, cast

import anyio

from onready.backends.docker.backend import DockerConfig
from onready.backends.docker.body import Order, body, log_driver
from onready.backends.docker.client import Client, Refused, find_socket, open_client
from onready.backends.docker.frames import LogFrames
from onready.backends.docker.life import Life, StartRefused
from onready.backends.docker.options import NodeOptions
from onready.engine.errors import BackendError, PluginError
from onready.engine.names import NodeKey, dispatch_name
from onready.engine.options import Resources
from onready.engine.spi import Attempt, Catalog, Mount, Shell

Level = Literal["ok", "warn", "fail"]
_OLDEST: Final = (1, 41)
"""The oldest API that is tested."""
_PATIENCE: Final = 30.0


@dataclass(frozen=True, slots=True)
class Finding:
    """What one look found; `cure` is "" where nothing is wrong."""

    check: str
    level: Level
    text: str
    cure: str = ""


async def look(config: DockerConfig, catalog: Catalog) -> AsyncGenerator[Finding]:
    """Everything in order, until something is so wrong that the rest makes no sense.

    `catalog` is the one whose mounts are tried in the test container. Needs `image` in the
    settings for that; without one this part is left out, and a warning says so.
    """
    try:
        path = await anyio.to_thread.run_sync(find_socket, config.host)
    except (BackendError, PluginError) as error:
        yield Finding("socket", "fail", str(error), "start Docker, or set DOCKER_HOST")
        return
    yield Finding("socket", "ok", path)
    try:
        async with open_client(config.host, config.deadline) as client:
            async for finding in _engine(client):
                yield finding
            async for finding in _container(client, config, catalog):
                yield finding
    except (BackendError, PluginError) as error:
        cure = "is the daemon running, and may this user use the socket (group docker)?"
        yield Finding("daemon", "fail", str(error), cure)


async def _engine(client: Client) -> AsyncGenerator[Finding]:
    version = await client.version()
    api = str(version.get("ApiVersion", "?"))
    text = f"{version.get('Version', '?')}, API {api}"
    parts = tuple(int(part) for part in api.split(".") if part.isdigit())
    if parts < _OLDEST:
        cure = "an engine from 2021 or later is needed: API 1.41"
        yield Finding("daemon", "warn", text, cure)
    else:
        yield Finding("daemon", "ok", text)
    info = await client.info()
    driver = str(info.get("Driver", "?"))
    cure = "vfs copies whole images for each container: use overlay2" if driver == "vfs" else ""
    yield Finding("storage", "warn" if cure else "ok", driver, cure)
    limits = bool(info.get("MemoryLimit"))
    group = f"version {info.get('CgroupVersion', '1')}, driver {info.get('CgroupDriver', '?')}"
    cure = "" if limits else "Resources(memory=...) will not be held: the kernel has no such limit"
    yield Finding("control groups", "ok" if limits else "warn", group, cure)
    said = cast("Sequence[str] | None", info.get("SecurityOptions")) or ()
    mapped = [option for option in said if "rootless" in option or "userns" in option]
    if mapped:
        cure = "files of containers may belong to other users here: see the next lines"
        yield Finding("users", "warn", ", ".join(mapped), cure)


async def _container(
    client: Client, config: DockerConfig, catalog: Catalog
) -> AsyncGenerator[Finding]:
    if not config.image:
        cure = "set image= of the backend, and containers are tried too"
        yield Finding("container", "warn", "not tried: no image is configured", cure)
        return
    folder = Path(await anyio.to_thread.run_sync(partial(tempfile.mkdtemp, prefix="onready-")))
    try:
        mounts = [Mount(str(folder), str(folder))]
        try:
            mounts += catalog.access("container").mounts
        except Exception as error:  # noqa: BLE001 - a store of anybody's: said, not raised
            yield Finding("catalog", "warn", str(error), "nodes get a catalog of their own each")
        async for finding in _try(client, config, catalog, folder, mounts):
            yield finding
    finally:
        with anyio.CancelScope(shield=True):  # a folder of ours
            await anyio.to_thread.run_sync(partial(shutil.rmtree, folder, ignore_errors=True))


async def _try(
    client: Client, config: DockerConfig, catalog: Catalog, folder: Path, mounts: list[Mount]
) -> AsyncGenerator[Finding]:
    attempt = _attempt(catalog, folder)
    script = (
        'for place in "$@"; do [ -w "$place" ] || echo "$place"; done; '
        '(: >"$1/made") 2>/dev/null; true'
    )
    argv = ("sh", "-c", script, "sh", *(mount.target for mount in mounts))
    order = Order(argv, {}, mounts, user=f"{os.getuid()}:{os.getgid()}")
    report = _Said()
    options = NodeOptions(image=config.image, user=config.user, init=config.init)
    life = Life(
        client,
        attempt.name,
        {"onready.attempt-name": attempt.name},
        LogFrames(report.log),
        report,
        start_deadline=config.start_deadline,
        patience=_PATIENCE,
    )
    try:
        log = log_driver(await client.info())
        ending = await life.run(body(attempt, options, config.image, order, log))
    except (Refused, StartRefused) as error:
        cure = f"docker pull {config.image}" if "such image" in str(error) else ""
        yield Finding("container", "fail", str(error), cure)
        return
    finally:
        await life.stop(lambda: 0.0)
    if ending.code:
        text = f"the test container of {config.image} ended with {ending.code}: {report.text}"
        yield Finding("container", "fail", text, "the image needs a shell for this test")
        return
    yield Finding("container", "ok", f"one of {config.image} was made, run and removed")
    made = folder / "made"
    owner = await anyio.to_thread.run_sync(lambda: made.stat().st_uid if made.exists() else -1)
    if report.text:
        cure = "may the user of the containers write there? see user="
        yield Finding("mounts", "fail", f"not writable inside: {report.text}", cure)
    elif owner == -1:
        cure = "is the daemon on another machine, or in a virtual one? Folders must be shared"
        yield Finding("mounts", "fail", "what a container writes does not arrive here", cure)
    elif owner != os.getuid():
        cure = "leave user= unset, or use an engine without user namespaces"
        yield Finding("mounts", "warn", f"files of containers belong to user {owner}", cure)
    else:
        yield Finding("mounts", "ok", "visible, and writable as this user")


def _attempt(catalog: Catalog, folder: Path) -> Attempt:
    run, key = f"doctor-{secrets.token_hex(4)}", NodeKey("doctor")
    return Attempt(
        run=run,
        key=key,
        number=1,
        epoch=1,
        name=dispatch_name(run, key, 1),
        backend="docker",
        work=Shell(("sh",)),
        inputs={},
        resources=Resources(),
        catalog=catalog,
        folder=folder,
    )


class _Said:
    """A `Reporter` that keeps what was written."""

    def __init__(self) -> None:
        self._data = b""

    @property
    def text(self) -> str:
        """All that was written, in one line."""
        return " ".join(self._data.decode("utf-8", "replace").split())

    def started(self, handle: str) -> None:
        """Nothing."""

    def log(self, stream: Literal["stdout", "stderr"], data: bytes) -> None:
        """Keep it."""
        del stream
        self._data += data

    def progress(self, fraction: float | None, message: str) -> None:
        """Nothing."""

    def warning(self, code: str, message: str) -> None:
        """Keep it too."""
        self._data += f"{code}: {message}\n".encode()

    def tail(self, lines: int) -> tuple[str, ...]:
        """The last lines."""
        return tuple(self._data.decode("utf-8", "replace").splitlines()[-lines:])


def settings(given: Mapping[str, object]) -> DockerConfig:
    """The backend's settings, as they are in the configuration."""
    return DockerConfig.model_validate({key: given[key] for key in given if key != "type"})
