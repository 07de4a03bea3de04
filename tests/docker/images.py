"""Images made for tests, without a registry: one that really contains Python and onready.

Rule of this room: `docker build` and its contexts; what is done with the images is the tests'.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Mapping
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

import onready
from tests.docker.engines import PYTHON

WORKER: Final = "onready-test-worker:1"
"""Python with onready and what it depends on in `/opt/python`, the command on PATH."""
SITE: Final = (
    f"/opt/python/lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
)
_LEFT_OUT: Final = frozenset(
    {
        "__pycache__",
        "site-packages",
        "dist-packages",
        "test",
        "tests",
        "idlelib",
        "ensurepip",
        "lib2to3",
    }
)
_COMMAND: Final = (
    "#!/opt/python/bin/python3\nimport sys\nfrom onready.cli import main\nsys.exit(main())\n"
)


def build(host: str, tag: str, dockerfile: str, files: Mapping[str, str]) -> str:
    """An image from a Dockerfile and the files beside it; its tag."""
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w") as archive:
        for name, text in {"Dockerfile": dockerfile, **files}.items():
            _add(archive, name, text)
    return _build(host, tag, context.getvalue())


def worker(host: str) -> str:
    """The image of that name, made where it is not there."""
    there = subprocess.run(
        ["docker", "-H", host, "image", "inspect", WORKER], check=False, capture_output=True
    )
    if there.returncode == 0:
        return WORKER
    context = io.BytesIO()
    with tarfile.open(fileobj=context, mode="w", dereference=True) as archive:
        dockerfile = (
            f"FROM {PYTHON}\nCOPY opt /opt\n"
            "ENV PATH=/opt/python/bin:/bin LD_LIBRARY_PATH=/opt/python/lib\n"
        )
        _add(archive, "Dockerfile", dockerfile)
        archive.add(os.path.realpath(sys.executable), "opt/python/bin/python3")
        _add(archive, "opt/python/bin/onready", _COMMAND, 0o755)
        shared = Path(sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("LDLIBRARY"))
        if shared.suffix != ".a" and shared.exists():
            archive.add(str(shared.resolve()), f"opt/python/lib/{shared.resolve().name}")
        library = Path(SITE.removeprefix("/")).parent
        for kind in ("stdlib", "platstdlib"):
            archive.add(sysconfig.get_path(kind), str(library), filter=_without_ballast)
        for one in _needed("onready"):
            _add_distribution(archive, one)
        _add_distribution(archive, distribution("onready"), ".dist-info")  # its entry points
        package = Path(onready.__file__).parent
        archive.add(package, SITE.removeprefix("/") + "/onready")
    return _build(host, WORKER, context.getvalue())


def _build(host: str, tag: str, context: bytes) -> str:
    done = subprocess.run(
        ["docker", "-H", host, "build", "--network", "none", "--quiet", "--tag", tag, "-"],
        check=False,
        input=context,
        capture_output=True,
        timeout=120,
        env={**os.environ, "DOCKER_BUILDKIT": "0"},
    )
    assert done.returncode == 0, done.stderr.decode()
    return tag


def _add(archive: tarfile.TarFile, name: str, text: str, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(text.encode()), mode
    archive.addfile(entry, io.BytesIO(text.encode()))


def _without_ballast(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    left = _LEFT_OUT.isdisjoint(Path(entry.name).parts) and not _is_spare(entry.name)
    return entry if left else None


def _is_spare(name: str) -> bool:
    return name.endswith((".a", ".opt-1.pyc", ".opt-2.pyc"))


def _needed(name: str) -> list[Distribution]:
    """What a package depends on, and what that does, without extras and the package itself."""
    found: dict[str, Distribution] = {}
    todo = [name]
    while todo:
        for text in distribution(todo.pop()).requires or []:
            match = re.match(r"[A-Za-z0-9._-]+", text)
            if match is None or "extra ==" in text:
                continue
            key = re.sub(r"[-_.]+", "-", match[0]).lower()
            try:
                one = distribution(match[0])
            except PackageNotFoundError:  # for other versions of Python
                continue
            if key not in found:
                found[key] = one
                todo.append(match[0])
    return list(found.values())


def _add_distribution(archive: tarfile.TarFile, one: Distribution, only: str = "") -> None:
    for file in one.files or []:
        if ".." not in file.parts and Path(str(file.locate())).exists():
            if only and not file.parts[0].endswith(only):
                continue
            archive.add(str(file.locate()), f"{SITE.removeprefix('/')}/{file}")
