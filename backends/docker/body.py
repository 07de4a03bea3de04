"""What the daemon is asked to create: one attempt's container, as its API has it.

Rule of this room: data in, data out; nothing is asked of a daemon or a disk.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, cast

from onready.backends.docker.options import OURS, NodeOptions, read_mount
from onready.engine.options import Resources
from onready.engine.spi import Attempt, Labels, Mount

MARK: Final = f"{OURS}attempt-name"
"""The label that each container of ours has: its dispatch name."""


@dataclass(slots=True)
class Order:
    """What one attempt needs of its container, beside its options."""

    argv: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)
    mounts: list[Mount] = field(default_factory=list)
    workdir: str = ""
    user: str = ""


def identity(attempt: Attempt) -> dict[str, str]:
    """The labels by which a container is known to be this attempt's."""
    return {
        MARK: attempt.name,
        f"{OURS}run": attempt.run,
        f"{OURS}node": str(attempt.key),
        f"{OURS}attempt": str(attempt.number),
    }


def read_labels(labels: Mapping[str, object]) -> Labels | None:
    """Whose a container is, by its labels; None where it is not ours."""
    try:
        return Labels(
            run=str(labels[f"{OURS}run"]),
            node=str(labels[f"{OURS}node"]),
            attempt=int(str(labels[f"{OURS}attempt"])),
            epoch=int(str(labels[f"{OURS}epoch"])),
        )
    except (KeyError, ValueError):
        return None


def invoking_user() -> str:
    """`UID:GID` of this process."""
    return f"{os.getuid()}:{os.getgid()}"


def log_driver(info: Mapping[str, object]) -> dict[str, object]:
    """How the output is kept, of what the daemon says it can.

    Docker's `local` keeps bytes as they are, which the JSON files do not. An engine that has
    neither it nor the files of Kubernetes keeps output as it likes.
    """
    plugins = info.get("Plugins")
    known: object = cast("Mapping[str, object]", plugins).get("Log") if plugins else None
    if isinstance(known, list) and "local" not in known:
        return {"Type": "k8s-file" if "k8s-file" in known else "", "Config": {}}
    return {
        "Type": "local",
        "Config": {"max-size": "64g", "max-file": "1", "compress": "false"},
    }


def body(
    attempt: Attempt,
    options: NodeOptions,
    image: str,
    order: Order,
    log: Mapping[str, object],
) -> dict[str, object]:
    """The request that creates the container; `log` is `log_driver`'s."""
    environment = {**order.environment, **options.environment}
    found: dict[str, object] = {
        "Image": image,
        # Both are given, so that the image's own are not put before what shall run.
        "Entrypoint": [order.argv[0]],
        "Cmd": list(order.argv[1:]),
        "Env": [f"{name}={value}" for name, value in environment.items()],
        "Labels": {
            **options.labels,
            **identity(attempt),
            f"{OURS}epoch": str(attempt.epoch),
        },
        "HostConfig": {**_host(attempt.resources, options, order.mounts), "LogConfig": log},
    }
    user = options.user or order.user
    if user and user != "image":
        found["User"] = user
    workdir = options.workdir or order.workdir
    if workdir:
        found["WorkingDir"] = workdir
    return found


def _host(resources: Resources, options: NodeOptions, mounts: Iterable[Mount]) -> dict[str, object]:
    # What the user mounts goes over what we do.
    by_target = {one.target: one for one in (*mounts, *map(read_mount, options.mounts))}
    found: dict[str, object] = {
        "Init": options.init,
        # Restarts and removal are ours: a daemon that removes by itself loses exit codes.
        "RestartPolicy": {"Name": "no"},
        "AutoRemove": False,
        "Mounts": [_mount(one) for one in by_target.values()],
    }
    if resources.cpu:
        found["NanoCpus"] = int(resources.cpu * 1_000_000_000)
    if resources.memory_bytes:
        # The same for both: no swap beside it.
        found["Memory"] = found["MemorySwap"] = resources.memory_bytes
    if resources.gpu:
        found["DeviceRequests"] = [
            {"Driver": "", "Count": resources.gpu, "Capabilities": [["gpu"]]}
        ]
    if options.network:
        found["NetworkMode"] = options.network
    if options.shm_size:
        found["ShmSize"] = Resources(memory=options.shm_size).memory_bytes
    if options.ulimits:
        found["Ulimits"] = options.ulimit_list()
    if options.hosts:
        found["ExtraHosts"] = options.hosts
    return found


def _mount(one: Mount) -> dict[str, object]:
    # `Mounts` refuses a source that is not there; `Binds` would make it, as root.
    return {
        "Type": "volume" if one.claim else "bind",
        "Source": one.source,
        "Target": one.target,
        "ReadOnly": one.read_only,
    }
