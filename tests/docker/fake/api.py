"""The calls that the docker backend makes, answered as a real daemon answers them.

Rule of this room: requests and answers; containers are in `containers.py`, faults in `faults.py`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

from aiohttp import web

from tests.docker.fake import bodies
from tests.docker.fake.containers import Container, Json, Refusal
from tests.docker.fake.faults import CUT, EDIT, POLITE, SINCE, Edit, Faults, hang_up
from tests.docker.fake.output import Message

NOT_HELD = ("DeviceRequests", "ExtraHosts", "Ulimits", "ShmSize")


def _parts(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


class Daemon:
    """The fake daemon. `api` is the version that it speaks, `least` the oldest that it takes."""

    def __init__(self, folder: Path, *, api: str = "1.41", least: str = "1.12") -> None:
        self.folder = folder
        self.host = f"unix://{folder}/docker.sock"
        self.api, self.least = api, least
        self.containers: dict[str, Container] = {}
        self.images: set[str] = set()
        self.registry: set[str] = set()
        """Images that can be pulled."""
        self.faults = Faults()
        self.calls: Counter[str] = Counter()
        """How often each call came."""
        self.starts: Counter[str] = Counter()
        """How often a process was started, by the container's name."""
        self.tells_after = 0.0
        """That of the containers that are made from now on."""
        self._tasks: set[asyncio.Task[object]] = set()

    def container(self, name: str) -> Container:
        """By name, id, or the beginning of an id; Refusal for none."""
        for one in self.containers.values():
            if name in {one.name, one.id}:
                return one
        found = [one for one in self.containers.values() if one.id.startswith(name)]
        if len(found) != 1 or not name:
            raise Refusal(404, f"No such container: {name}")
        return found[0]

    async def close(self) -> None:
        """End all that runs."""
        for one in tuple(self.containers.values()):
            await one.destroy()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _whole(self, work: Coroutine[object, object, object]) -> None:
        """Do it to its end, also when who asked has gone."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        task.add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.shield(task)

    # --- the daemon and its images ------------------------------------------------------------

    async def ping(self, request: web.Request) -> web.StreamResponse:
        """GET /_ping."""
        del request
        return web.Response(
            text="OK", headers={"Api-Version": self.api, "Server": "Docker/fake (linux)"}
        )

    async def version(self, request: web.Request) -> web.StreamResponse:
        """GET /version."""
        del request
        return bodies.answer(bodies.version(self.api, self.least))

    async def info(self, request: web.Request) -> web.StreamResponse:
        """GET /info."""
        del request
        return bodies.answer(bodies.info(len(self.containers), len(self.images)))

    async def image(self, request: web.Request) -> web.StreamResponse:
        """GET /images/NAME/json."""
        name = _tagged(request.match_info["image"])
        if name not in self.images:
            raise Refusal(404, f"no such image: {name}: No such image: {name}")
        return bodies.answer(bodies.image(name))

    async def pull(self, request: web.Request) -> web.StreamResponse:
        """POST /images/create."""
        name = _tagged(request.query["fromImage"])
        if name not in self.registry:
            host = name.partition("/")[0]
            raise Refusal(500, f'Get "https://{host}/v2/": dial tcp: lookup {host}: no such host')
        answer = web.StreamResponse()
        await answer.prepare(request)
        for status in ("Pulling from", "Pull complete"):
            await answer.write(json.dumps({"status": status, "id": "a"}).encode() + b"\r\n")
        self.images.add(name)
        return answer

    # --- containers ---------------------------------------------------------------------------

    async def create(self, request: web.Request) -> web.StreamResponse:
        """POST /containers/create."""
        body = cast("Json", await request.json())
        image = _tagged(str(body.get("Image") or ""))
        if image not in self.images:
            raise Refusal(404, f"No such image: {image}")
        _check(body)
        name = request.query.get("name", "")
        for other in self.containers.values():
            if name == other.name:
                words = (
                    f'Conflict. The container name "/{name}" is already in use by container '
                    f'"{other.id}". You have to remove (or rename) that container to be able to '
                    "reuse that name."
                )
                raise Refusal(409, words)
        forgetful = _parts(self.api) < (1, 42)
        made = Container(name, body, self.folder, forgetful=forgetful)
        made.tells_after = self.tells_after
        self.containers[made.id] = made
        return bodies.answer({"Id": made.id, "Warnings": []}, status=201)

    async def start(self, request: web.Request) -> web.StreamResponse:
        """POST /containers/NAME/start."""
        one = self.container(request.match_info["name"])

        async def start() -> None:
            await one.start()
            self.starts[one.name] += 1

        await self._whole(start())
        return web.Response(status=204)

    async def inspect(self, request: web.Request) -> web.StreamResponse:
        """GET /containers/NAME/json."""
        return bodies.answer(bodies.inspection(self.container(request.match_info["name"])))

    async def list(self, request: web.Request) -> web.StreamResponse:
        """GET /containers/json."""
        filters = cast(
            "Mapping[str, Sequence[str]]", json.loads(request.query.get("filters", "{}"))
        )
        everything = request.query.get("all", "") in {"1", "true", "True"}
        return bodies.answer(
            [
                bodies.row(one)
                for one in self.containers.values()
                if (everything or one.runs) and one.matches(filters)
            ]
        )

    async def wait(self, request: web.Request) -> web.StreamResponse:
        """POST /containers/NAME/wait: headers at once, the code when it does not run."""
        one = self.container(request.match_info["name"])
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        await one.ended.wait()
        error = {"Message": one.error} if one.error else None
        await answer.write(json.dumps({"Error": error, "StatusCode": one.code}).encode() + b"\n")
        return answer

    async def stop(self, request: web.Request) -> web.StreamResponse:
        """POST /containers/NAME/stop."""
        one = self.container(request.match_info["name"])
        await self._whole(one.stop(float(request.query.get("t", "10"))))
        return web.Response(status=204)

    async def kill(self, request: web.Request) -> web.StreamResponse:
        """POST /containers/NAME/kill."""
        name = request.match_info["name"]
        try:
            one = self.container(name)
        except Refusal as error:
            raise Refusal(error.status, f"Cannot kill container: {name}: {error}") from None
        one.kill(request.query.get("signal", "KILL"), name)
        return web.Response(status=204)

    async def remove(self, request: web.Request) -> web.StreamResponse:
        """DELETE /containers/NAME."""
        one = self.container(request.match_info["name"])
        force = request.query.get("force", "") in {"1", "true", "True"}

        async def remove() -> None:
            await one.remove(force=force)
            del self.containers[one.id]

        await self._whole(remove())
        return web.Response(status=204)

    async def events(self, request: web.Request) -> web.StreamResponse:
        """GET /events: those of a want of memory in one container, to the end of the time."""
        filters = cast("Mapping[str, Sequence[str]]", json.loads(request.query["filters"]))
        if filters["event"] != ["oom"]:
            raise Refusal(501, "the fake daemon has no other events")
        one = self.container(filters["container"][0])
        answer = web.StreamResponse(headers={"Content-Type": "application/json"})
        await answer.prepare(request)
        with suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, float(request.query["until"]) - time.time())):
                await one.told_starved.wait()
        if one.told_starved.is_set():
            said = {"Type": "container", "Action": "oom", "Actor": {"ID": one.id}}
            await answer.write(json.dumps(said).encode() + b"\n")
        return answer

    # --- output -------------------------------------------------------------------------------

    async def logs(self, request: web.Request) -> web.StreamResponse:
        """GET /containers/NAME/logs."""
        one = self.container(request.match_info["name"])
        asked = {number for number, word in ((1, "stdout"), (2, "stderr")) if _flag(request, word)}
        if not asked:
            raise Refusal(400, "Bad parameters: you must choose at least one stream")
        begin = request.get(SINCE, _nanoseconds(request.query.get("since", "0")))
        answer = web.StreamResponse()
        await answer.prepare(request)
        sender = _Sender(request, answer, stamped=_flag(request, "timestamps"))
        seen = 0
        while True:
            new = one.log.messages[seen:]
            seen += len(new)
            found = [each for each in new if each.stream in asked and each.at >= begin]
            if not await sender.send(found):
                break
            if not _flag(request, "follow") or not await one.log.after(seen, one.ended):
                break
        return answer


class _Sender:
    """Sends messages, as far as the request's fault lets it."""

    def __init__(self, request: web.Request, answer: web.StreamResponse, *, stamped: bool) -> None:
        self._request, self._answer, self._stamped = request, answer, stamped
        self._left = request.get(CUT, -1)
        self._edit = cast("Edit | None", request.get(EDIT, None))

    async def send(self, messages: Sequence[Message]) -> bool:
        """False where the stream has been cut."""
        if self._edit is not None:
            messages = self._edit(messages)
        data = b"".join(each.frame(stamped=self._stamped) for each in messages)
        if 0 <= self._left <= len(data):
            await self._answer.write(data[: self._left])
            if not self._request.get(POLITE, False):
                hang_up(self._request)
            return False
        self._left -= len(data) if self._left >= 0 else 0
        await self._answer.write(data)
        return True


def _flag(request: web.Request, name: str) -> bool:
    return request.query.get(name, "") in {"1", "true", "True"}


def _tagged(name: str) -> str:
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _nanoseconds(text: str) -> int:
    seconds, _, fraction = text.partition(".")
    return int(seconds or 0) * 1_000_000_000 + int((fraction or "0").ljust(9, "0"))


def _check(body: Json) -> None:
    """Refusal for what a real daemon refuses, and for what this one cannot do."""
    if not body.get("Entrypoint") and not body.get("Cmd"):
        raise Refusal(400, "No command specified")
    host = cast("Json", body.get("HostConfig") or {})
    for mount in cast("Sequence[Mapping[str, object]]", host.get("Mounts") or ()):
        if mount["Type"] == "bind" and not Path(str(mount["Source"])).exists():
            words = f"bind source path does not exist: {mount['Source']}"
            raise Refusal(400, f'invalid mount config for type "bind": {words}')
    lacking = [name for name in NOT_HELD if host.get(name)]
    lacking += [str(one) for one in (host.get("NetworkMode"),) if one not in {None, "", "default"}]
    lacking += [
        "volumes"
        for mount in cast("Sequence[Json]", host.get("Mounts") or ())
        if mount["Type"] != "bind"
    ]
    if lacking:
        raise Refusal(501, f"the fake daemon has no {', '.join(lacking)}: use a real one")
