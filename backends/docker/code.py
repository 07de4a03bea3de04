"""`code="mount"`: this machine's Python, its packages and the project, mounted read-only.

Each is mounted where it is here, so that paths, links and compiled files stay right.

Rule of this room: looks at the file system, in a thread; knows no containers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from onready.engine.spi import Mount

_NEVER: Final = frozenset(
    map(Path, ("/", "/bin", "/dev", "/etc", "/lib", "/lib64", "/proc", "/run", "/sbin", "/sys"))
)
"""Folders that would take a container's own away."""


def mounts(folder: str, reference: str = "") -> list[Mount]:
    """What Python nodes need of this machine; `folder` is the working folder of the driver.

    `reference` is the function's: where it begins with a file, the file's folder comes too.
    """
    wanted = [Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).parent.parent]
    wanted += [Path(entry or folder) for entry in sys.path]
    if reference.startswith("/"):
        wanted.append(Path(reference.rpartition(":")[0]).parent)
    wanted += _own()
    return [Mount(str(path), str(path), read_only=True) for path in _outermost(wanted)]


def _own() -> list[Path]:
    """Where onready's files are in truth: folders of a checkout are links."""
    package = Path(__file__).parents[2]
    return [package, *(path.resolve() for path in package.iterdir() if path.is_dir())]


def _outermost(paths: Iterable[Path]) -> list[Path]:
    """Those that exist, without the ones that are inside others, each also as what it links to."""
    found: set[Path] = set()
    for path in paths:
        if path.is_absolute() and path.exists():
            found |= {path, path.resolve()}
    found -= _NEVER
    return sorted(path for path in found if found.isdisjoint(path.parents))
