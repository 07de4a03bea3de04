"""What the fake daemon says of itself and of what it has: the fields that matter, as a real one's.

Rule of this room: data in, data out.
"""

from __future__ import annotations

import hashlib
import json

from aiohttp import web

from tests.docker.fake.containers import Container


def answer(body: object, status: int = 200) -> web.Response:
    """JSON, called so and no more: clients compare the type's name."""
    data = json.dumps(body).encode() + b"\n"
    return web.Response(body=data, status=status, content_type="application/json")


def version(api: str, least: str) -> dict[str, object]:
    """The answer of `version`."""
    engine = {"Name": "Engine", "Version": "fake", "Details": {"ApiVersion": api}}
    return {
        "Platform": {"Name": "onready's fake"},
        "Components": [engine],
        "Version": "fake",
        "ApiVersion": api,
        "MinAPIVersion": least,
        "Os": "linux",
    }


def info(containers: int, images: int) -> dict[str, object]:
    """The answer of `info`."""
    return {
        "ID": "FAKE",
        "Containers": containers,
        "Images": images,
        "Driver": "none",
        "MemoryLimit": True,
        "CgroupDriver": "none",
        "CgroupVersion": "1",
        "ServerVersion": "fake",
        "SecurityOptions": [],
        "Runtimes": {"runc": {"path": "inside.py"}},
        "LiveRestoreEnabled": False,
    }


def image(name: str) -> dict[str, object]:
    """The answer of an image's inspection."""
    digest = hashlib.sha256(name.encode()).hexdigest()
    return {"Id": f"sha256:{digest}", "RepoTags": [name], "Os": "linux", "Config": {}}


def inspection(one: Container) -> dict[str, object]:
    """The answer of a container's inspection."""
    argv = one.argv
    given = {key: value for key, value in one.body.items() if key != "HostConfig"}
    return {
        "Id": one.id,
        "Created": one.created,
        "Path": argv[0],
        "Args": argv[1:],
        "State": one.state(),
        "Image": image(str(one.body["Image"]))["Id"],
        "Name": f"/{one.name}",
        "RestartCount": 0,
        "HostConfig": dict(one.host),
        "Config": {"Tty": False, **given, "Labels": dict(one.labels)},
    }


def row(one: Container) -> dict[str, object]:
    """One line of a list of containers."""
    return {
        "Id": one.id,
        "Names": [f"/{one.name}"],
        "Image": str(one.body["Image"]),
        "Command": " ".join(one.argv),
        "Labels": dict(one.labels),
        "State": str(one.state()["Status"]),
        "Status": "Up" if one.runs else one.status,
    }
