"""The attempt's folder on this machine, as its container needs it.

Rule of this room: files of our own, private, in a thread.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from onready.backends.docker.body import Order
from onready.engine.crashpoints import crash_point
from onready.engine.folders import make_private
from onready.engine.spi import Mount
from onready.engine.worker.speaking import write_all

SECRETS: Final = "/run/secrets"
"""Where a container finds its secrets, one file each."""


def place_secrets(folder: Path, secrets: Mapping[str, str], order: Order) -> None:
    """Write secrets, values by name, and have them mounted.

    They are files, never variables of the container: those can be read by whoever may ask the
    daemon.
    """
    if secrets:
        here = make_private(folder / "secrets")
        for name, value in secrets.items():
            write_private(here / name, value.encode())
        order.mounts.append(Mount(str(here), SECRETS, read_only=True))


def write_private(path: Path, content: bytes) -> None:
    """A file with mode 0600 in a folder with mode 0700, made where it is not there."""
    make_private(path.parent)
    crash_point("envelope.before")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        write_all(descriptor, content)
    finally:
        os.close(descriptor)
    crash_point("envelope.after")
