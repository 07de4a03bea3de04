"""Raw calls to a Docker daemon, real or fake, without any of our client.

Rule of this room: requests in, answers out, as they are.
"""

from __future__ import annotations

import http.client
import json
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import urlencode

from onready.backends.docker.body import log_driver

Json = Mapping[str, object]
TIMEOUT = 60.0


class _Connection(http.client.HTTPConnection):
    """HTTP on a socket of this machine."""

    def __init__(self, path: str) -> None:
        super().__init__("docker", timeout=TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT)
        self.sock.connect(self._path)


@dataclass(frozen=True, slots=True)
class Answer:
    """One answer, whole."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def json(self) -> Json:
        """The body, which must be an object."""
        return cast("Json", json.loads(self.body))

    @property
    def message(self) -> str:
        """The daemon's words in a refusal."""
        return str(self.json["message"])

    @property
    def frames(self) -> list[tuple[int, bytes]]:
        """The body as the frames of a log: which stream, and what it says."""
        found: list[tuple[int, bytes]] = []
        at = 0
        while at < len(self.body):
            stream, length = struct.unpack_from(">BxxxI", self.body, at)
            found.append((stream, self.body[at + 8 : at + 8 + length]))
            at += 8 + length
        assert at == len(self.body), "the log ends in the middle of a frame"
        return found


def call(host: str, method: str, path: str, body: Json | None = None, /, **query: object) -> Answer:
    """One call, at API 1.41 unless the path begins with another version."""
    path = path if path.startswith("/") else f"/v1.41/{path}"
    path = f"{path}?{urlencode(query)}" if query else path
    connection = _Connection(host.removeprefix("unix://"))
    try:
        data = None if body is None else json.dumps(body)
        headers = {} if body is None else {"Content-Type": "application/json"}
        connection.request(method, path, data, headers)
        answer = connection.getresponse()
        return Answer(answer.status, answer.read(), dict(answer.getheaders()))
    finally:
        connection.close()


def create(host: str, name: str, *argv: str, image: str, **host_config: object) -> Answer:
    """Create a container with the log driver that the backend uses."""
    log = log_driver(call(host, "GET", "info").json)
    body = {
        "Image": image,
        "Entrypoint": [argv[0]],
        "Cmd": list(argv[1:]),
        "Labels": {"onready-raw": name},
        "HostConfig": {"Init": True, "LogConfig": log, **host_config},
    }
    return call(host, "POST", "containers/create", body, name=name)


def state(host: str, name: str) -> Json:
    """What inspection says of a container's state."""
    return cast("Json", call(host, "GET", f"containers/{name}/json").json["State"])


def names(host: str, *, everything: bool = True, **filters: list[str]) -> list[str]:
    """The names of the containers that pass these filters."""
    given = json.dumps(filters)
    rows = json.loads(
        call(host, "GET", "containers/json", None, all=int(everything), filters=given).body
    )
    return [str(name).removeprefix("/") for row in rows for name in row["Names"]]
