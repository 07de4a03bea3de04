"""Calls to the Docker daemon: aiodocker's, each with a deadline and with two kinds of failure.

`Refused` is the daemon's answer; `Unreachable` means that nobody knows what it did.

Rule of this room: knows the daemon's calls, no attempts. Nothing here is repeated: who calls
decides by inspection what to do next.
"""

from __future__ import annotations

import asyncio
import base64
import json
import math
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Literal, TypeVar, cast

import anyio

from onready.backends.docker.frames import LogFrames
from onready.backends.docker.pump import LogPump, StreamEnd
from onready.engine.errors import BackendError, PluginError

if TYPE_CHECKING:
    import aiohttp
    from aiodocker import Docker
    from aiodocker.types import JSONObject

T = TypeVar("T")
Json = Mapping[str, object]
GONE: Final = 404
CONFLICT: Final = 409
NOT_MODIFIED: Final = 304


class Refused(Exception):
    """The daemon answered, and the answer is no: `status` and `message` are its own."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        self.message = message
        super().__init__(message)


class Unreachable(BackendError):
    """The daemon did not answer, or the answer broke off: what it did is not known."""

    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=True)


class Client:
    """One daemon. `deadline` is in seconds, for each call that does not say otherwise."""

    def __init__(self, docker: Docker, path: str, pump: LogPump, deadline: float) -> None:
        self._docker = docker
        self._path = path
        self._pump = pump
        self.deadline = deadline
        self.server = ""
        """What the daemon calls itself: `Docker/...`, or something that speaks as Docker does."""

    async def ask(
        self, what: str, call: Callable[[], Awaitable[T]], deadline: float | None = None
    ) -> T:
        """The answer of one call. Refused or Unreachable."""
        import aiohttp
        from aiodocker import DockerError

        limit = self.deadline if deadline is None else deadline
        try:
            # Asyncio's own, for aiohttp needs its loop anyhow: it costs a fraction of anyio's.
            async with asyncio.timeout(None if limit == math.inf else limit):
                return await call()
        except TimeoutError as error:
            message = f"Docker does not answer: {what} took more than {limit:g} s"
            raise Unreachable(message) from error
        except aiohttp.ClientConnectorError as error:
            raise self._absent(error) from error
        except DockerError as error:
            if error.status >= 900:  # aiodocker's own, for a connection that was not made
                raise self._absent(error.__context__ or error) from error
            raise Refused(error.status, error.message) from error
        except (aiohttp.ClientError, OSError, ValueError, EOFError, TypeError, KeyError) as error:
            # The last two are aiodocker's for an answer of another kind: whose it is nobody knows.
            message = f"Docker's answer broke off: {what}: {type(error).__name__}: {error}"
            raise Unreachable(message) from error

    def _absent(self, error: BaseException) -> Unreachable:
        return Unreachable(f"no Docker daemon answers at {self._path}: {error}")

    # --- the daemon ----------------------------------------------------------------------------

    async def greet(self) -> None:
        """Agree on the version of the API, by a ping, as the `docker` command does.

        aiodocker would ask for all versions, for which Docker starts three programs.
        """

        async def ping() -> Mapping[str, str]:
            async with self._docker.session.get(f"{self._docker.docker_host}/_ping") as answer:
                said = await answer.read()
                if answer.status >= 400:
                    raise Refused(answer.status, _message(said))
                return answer.headers

        found = await self.ask("ping", ping)
        self.server = found.get("Server", "")
        if "Api-Version" in found:
            self._docker.api_version = f"v{found['Api-Version']}"

    async def version(self) -> Json:
        """What the daemon says of itself."""
        return await self.ask("version", self._docker.version)

    async def info(self) -> Json:
        """More of that: storage driver, control groups, log drivers; nothing where it has none."""
        try:
            return await self.ask("info", self._docker.system.info)
        except Refused:
            return {}

    # --- images --------------------------------------------------------------------------------

    async def has_image(self, image: str) -> bool:
        """Whether the image is there."""
        try:
            await self.ask("inspect image", lambda: self._docker.images.inspect(image))
        except Refused as error:
            if error.status == GONE:
                return False
            raise
        return True

    async def pull(
        self,
        image: str,
        auth: Mapping[str, str] | None,
        tell: Callable[[Json], None],
        silence: float,
    ) -> None:
        """Pull the image; `tell` gets each report. Unreachable after `silence` seconds without."""
        # Not by aiodocker: it leaves the connection open where a pull is given up.
        import aiohttp
        from yarl import URL

        whole = image if ":" in image.rpartition("/")[2] or "@" in image else f"{image}:latest"
        base = f"{self._docker.docker_host}/{self._docker.api_version}/images/create"
        headers = {"X-Registry-Auth": _encoded(auth)} if auth else {}

        async def pull() -> None:
            call = self._docker.session.post(
                URL(base).with_query(fromImage=whole),
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=None),
            )
            with anyio.fail_after(silence) as scope:
                async with call as answer:
                    if answer.status >= 400:
                        raise Refused(answer.status, _message(await answer.read()))
                    async for line in answer.content:
                        scope.deadline = anyio.current_time() + silence
                        _tell(line, tell)

        await self.ask("pull", pull, math.inf)

    # --- containers ----------------------------------------------------------------------------

    async def create(self, name: str, body: Json, deadline: float) -> str:
        """Create a container; its id."""
        made = await self.ask(
            "create container",
            lambda: self._docker.containers.create(cast("JSONObject", body), name=name),
            deadline,
        )
        return made.id

    async def start(self, container: str, deadline: float) -> None:
        """Start it; nothing where it runs."""
        one = self._docker.containers.container(container)
        await self.ask("start container", one.start, deadline)

    async def inspect(self, container: str) -> Json:
        """All that the daemon knows of it, by id or name."""
        one = self._docker.containers.container(container)
        return await self.ask("inspect container", one.show)

    async def wait(self, container: str, patience: float) -> bool:
        """Until the daemon says that it does not run, at most `patience` seconds: whether it did.

        What that means inspection tells.
        """
        # Not by aiodocker: it leaves the connection open where the wait is given up.
        import aiohttp

        url = f"{self._docker.docker_host}/{self._docker.api_version}/containers/{container}/wait"

        async def wait() -> None:
            call = self._docker.session.post(url, timeout=aiohttp.ClientTimeout(total=None))
            async with call as answer:
                said = await answer.read()
                if answer.status >= 400:
                    raise Refused(answer.status, _message(said))

        try:
            async with asyncio.timeout(patience):
                await self.ask("wait for container", wait, math.inf)
        except TimeoutError:
            return False
        return True

    async def stop(self, container: str, grace: int) -> None:
        """Its stop signal, `grace` seconds, KILL."""
        one = self._docker.containers.container(container)
        await self.ask("stop container", lambda: one.stop(t=grace), grace + self.deadline)

    async def remove(self, container: str, *, force: bool = False) -> None:
        """Remove it and its nameless volumes; no error where it is gone or going."""
        one = self._docker.containers.container(container)
        try:
            await self.ask("remove container", lambda: one.delete(force=force, v=True))
        except Refused as error:
            going = error.status == CONFLICT and "already in progress" in error.message
            if error.status != GONE and not going:
                raise

    async def starved(self, container: str, since: float, until: float) -> bool:
        """Whether the daemon has told, or tells, of a want of memory there between these times.

        Both are UTC seconds of its own clock; where `until` is to come it is waited for.
        """
        from yarl import URL

        url = URL(f"{self._docker.docker_host}/{self._docker.api_version}/events").with_query(
            since=f"{since:.6f}",
            until=f"{until:.6f}",
            filters=json.dumps({"container": [container], "event": ["oom"]}),
        )

        async def listen() -> bool:
            async with self._docker.session.get(url) as answer:
                if answer.status >= 400:
                    raise Refused(answer.status, _message(await answer.read()))
                return bool(await answer.content.readline())

        return await self.ask("events of container", listen)

    async def labelled(self, label: str) -> Sequence[Json]:
        """All containers with this label, in whatever state."""
        found = await self.ask(
            "list containers",
            lambda: self._docker.containers.list(all=True, filters='{"label": ["' + label + '"]}'),
        )
        return [cast("Json", one._container) for one in found]  # pyright: ignore[reportPrivateUsage]

    async def logs(self, container: str, frames: LogFrames, *, follow: bool) -> StreamEnd:
        """Read its output, from where `frames` is; returns where the stream ends or breaks.

        One that is followed is never known to be whole.
        """
        target = (
            f"/{self._docker.api_version}/containers/{container}/logs?stdout=1&stderr=1"
            f"&timestamps=1&follow={int(follow)}&since={frames.since}"
        )
        frames.begin()
        silence = math.inf if follow else self.deadline
        end = await self._pump.read(target, frames.feed, self.deadline, silence, bare=follow)
        if end.whole and frames.torn:
            return StreamEnd(whole=False, message="the stream ended in the middle of a message")
        return end


def _encoded(auth: Mapping[str, str]) -> str:
    """Credentials, as the daemon takes them in a header."""
    return base64.urlsafe_b64encode(json.dumps(dict(auth)).encode()).decode()


def _message(answer: bytes) -> str:
    """The daemon's words in a refusal."""
    try:
        return str(json.loads(answer)["message"])
    except (ValueError, KeyError, TypeError):
        return answer.decode("utf-8", "replace").strip()


def _tell(line: bytes, tell: Callable[[Json], None]) -> None:
    """One report of a pull. Refused where it says that the pull has failed: the status was good."""
    if line.strip():
        report = cast("Json", json.loads(line))
        if "error" in report:
            raise Refused(500, str(report["error"]))
        tell(report)


def find_socket(given: str) -> str:
    """The path of the daemon's socket, as the `docker` command finds it; reads files.

    `given`, or DOCKER_HOST, or the current context's, or the usual places. PluginError where
    there is none: Docker is not installed here. BackendError where it is no socket of this machine.
    """
    import os
    from pathlib import Path

    address = given or os.environ.get("DOCKER_HOST", "") or _of_context()
    if address:
        kind: Literal["unix://"] = "unix://"
        if not address.startswith(kind):
            message = (
                f"the Docker address {address!r} is no socket of this machine (unix://...): "
                "folders of this machine could not be mounted there"
            )
            raise BackendError(message)
        return address.removeprefix(kind)
    places = [Path("/run/docker.sock"), Path("/var/run/docker.sock")]
    own = os.environ.get("XDG_RUNTIME_DIR")
    places += [Path(own, "docker.sock")] if own else []
    places.append(Path.home() / ".docker/run/docker.sock")
    for place in places:
        if place.is_socket():
            return str(place)
    message = (
        "no Docker socket was found: is the daemon running? "
        f"Looked at {', '.join(map(str, places))}; set DOCKER_HOST, or host= of the backend"
    )
    raise PluginError(message)


def _of_context() -> str:
    """The address of the current context of the `docker` command; "" for the default one."""
    import hashlib
    import os
    from pathlib import Path

    folder = Path(os.environ.get("DOCKER_CONFIG", Path.home() / ".docker"))
    try:
        name = os.environ.get("DOCKER_CONTEXT", "") or str(
            json.loads((folder / "config.json").read_bytes()).get("currentContext") or ""
        )
        if name in {"", "default"}:
            return ""
        digest = hashlib.sha256(name.encode()).hexdigest()
        meta = json.loads((folder / "contexts/meta" / digest / "meta.json").read_bytes())
        return str(meta["Endpoints"]["docker"]["Host"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


@asynccontextmanager
async def open_client(host: str, deadline: float) -> AsyncGenerator[Client]:
    """A client for the daemon at `host`.

    BackendError where nobody answers there, PluginError where there is no Docker at all, or none
    for this event loop.
    """
    import sniffio

    if sniffio.current_async_library() != "asyncio":
        message = "the docker backend works in asyncio's event loop alone (aiohttp does)"
        raise PluginError(message)
    path = await anyio.to_thread.run_sync(find_socket, host)
    # In a thread: the import reads many files.
    connect, make = await anyio.to_thread.run_sync(_load)
    connector = connect(path, limit=0)
    try:
        # Any address will do for a connector of ours, and with one it looks at no file.
        async with make("unix://localhost", connector=connector) as docker:
            pump = LogPump(path)
            try:
                client = Client(docker, path, pump, deadline)
                try:
                    await client.greet()
                except Refused as error:
                    raise BackendError(str(error)) from error
                yield client
            finally:
                await pump.close()
    finally:
        await connector.close()


def _load() -> tuple[type[aiohttp.UnixConnector], type[Docker]]:
    try:
        from aiodocker import Docker
        from aiohttp import UnixConnector
    except ImportError as error:
        message = "the docker backend needs aiodocker: pip install 'onready[docker]'"
        raise PluginError(message) from error
    return UnixConnector, Docker
