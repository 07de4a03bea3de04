"""What `onready doctor` looks at: each function is one check.

It gives what it found, in a few words, or raises `Trouble` with the cure.

Rule of this room: no printing. What is made to try something is removed again.
"""

from __future__ import annotations

import os
import platform
import re
import sqlite3
import stat
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, get_args

import anyio
import anyio.to_thread

from onready import task
from onready.cli.words import counted, short
from onready.engine.errors import OnreadyError, PluginError
from onready.engine.spi import Catalog

if TYPE_CHECKING:
    from onready.config import Config

SKEW: Final = 5.0
"""Seconds that the clock of the disk may differ from ours: more is another machine's clock."""
BUILT: Final = 1_735_689_600.0
"""Start of 2025, UTC: a clock that says earlier has never been set."""
TRIAL: Final = b"onready doctor\n"
"""What goes through the catalog and back; always the same, so that it is stored once at most."""
_EXTRA: Final = re.compile(r"extra\s*==\s*['\"](?P<name>[^'\"]+)['\"]")
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_NOT_FOR_USERS: Final = frozenset({"dev", "examples"})


class Trouble(Exception):
    """What a check found wrong. `level` is `warn` where runs work all the same."""

    def __init__(self, text: str, cure: str, level: Literal["warn", "fail"] = "fail") -> None:
        self.cure = cure
        self.level: Literal["warn", "fail"] = level
        super().__init__(text)


# --- the machine ----------------------------------------------------------------------------------


async def python(config: Config) -> str:
    """The interpreter and our own version."""
    del config
    name, version = platform.python_implementation(), platform.python_version()
    text = f"{name} {version}, onready {metadata.version('onready')}"
    if name != "CPython":
        raise Trouble(text, "use CPython: nothing else is tested", "warn")
    return f"{text} ({sys.executable})"


async def system(config: Config) -> str:
    """What children need: Linux with pidfd."""
    del config
    text = f"{platform.system()} {platform.release()}, {os.cpu_count()} processors"
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError) as error:
        cure = "the backends process and subprocess need Linux 5.4 or newer; inline and thread work"
        message = f"{text}: no pidfd ({error})"
        raise Trouble(message, cure) from error
    return f"{text}, pidfd"


async def processes(config: Config) -> str:
    """A warm worker process starts, and answers."""
    del config
    from onready import Engine

    began = time.monotonic()
    async with Engine.memory() as engine:
        answer = await engine.run(worker_pid.bind(), backend="process")
    if answer == os.getpid():  # pragma: no cover - a worker is another process by design
        message = "the worker was no process of its own"
        raise OnreadyError(message)
    return f"a worker process answered in {time.monotonic() - began:.1f} s"


@task
def worker_pid() -> int:
    """The process that runs this."""
    return os.getpid()


# --- the folder, the disk's clock -----------------------------------------------------------------


async def folder(config: Config) -> str:
    """The folder can be written to, and nobody else reads it."""
    return await anyio.to_thread.run_sync(_folder, Path(config.folder))


def _folder(path: Path) -> str:
    shown = short(str(path.absolute()))
    place = _existing(path)
    if not place.is_dir():
        message = f"{place} is no folder"
        raise Trouble(message, "set `folder` to another place, or move the file")
    if not os.access(place, os.W_OK | os.X_OK):
        cure = f"chown or chmod it, or set `folder` to another place (you are uid {os.getuid()})"
        message = f"{short(str(place))} cannot be written to"
        raise Trouble(message, cure)
    if place != path.absolute():
        return f"{shown} (is made by the first run)"
    mode = stat.S_IMODE(place.stat().st_mode)
    if mode & 0o077:
        text = f"{shown} has mode {mode:04o}: others can read what your runs wrote"
        raise Trouble(text, f"chmod 700 {shown}", "warn")
    return f"{shown}, mode {mode:04o}"


def _existing(path: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    place = path.absolute()
    while not place.exists():
        place = place.parent
    return place


async def clock(config: Config) -> str:
    """The clock is set, and the disk's is the same."""
    return await anyio.to_thread.run_sync(_clock, Path(config.folder))


def _clock(path: Path) -> str:
    now = time.time()
    said = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(now))
    if now < BUILT:
        message = f"it is not {said}"
        raise Trouble(message, "set the clock: leases and backoffs are told by it")
    with tempfile.NamedTemporaryFile(dir=_existing(path)) as file:
        written = os.fstat(file.fileno()).st_mtime
    if abs(written - now) > SKEW:
        text = f"{said}, but the disk's clock differs by {written - now:+.0f} s"
        raise Trouble(text, "the folder is another machine's: set both clocks by NTP", "warn")
    return said


# --- the stores -----------------------------------------------------------------------------------


async def run_log(config: Config) -> str:
    """The run log opens, and is listed."""
    from onready.engine.host import create_run_log
    from onready.engine.spi import RunFilter

    async with _address(config, config.run_log, "sqlite", "runs.db") as (address, shown):
        settings = await anyio.to_thread.run_sync(create_run_log, address)
        async with settings.open() as log:
            newest = await log.runs(RunFilter(limit=1000))
    number = counted(len(newest), "run") + (" or more" if len(newest) == 1000 else "")
    return f"{shown}: {number} (SQLite {sqlite3.sqlite_version})"


async def catalog(config: Config) -> str:
    """What is put into the catalog comes out of it."""
    from onready.engine.host import create_catalog

    async with _address(config, config.catalog, "file", "catalog") as (address, shown):
        settings = await anyio.to_thread.run_sync(create_catalog, address)
        async with settings.open() as store:
            digest = await store.put(TRIAL)
            if await store.get(digest) != TRIAL:
                message = f"{shown}: what came back is not what was put"
                raise Trouble(message, "check that disk")
    return f"{shown}: {len(TRIAL)} bytes went in and came back"


@asynccontextmanager
async def open_catalog(config: Config) -> AsyncGenerator[Catalog]:
    """The catalog that is configured, open; where it is not made yet, another one for a trial."""
    from onready.engine.host import create_catalog

    async with _address(config, config.catalog, "file", "catalog") as (address, _):
        settings = await anyio.to_thread.run_sync(create_catalog, address)
        async with settings.open() as store:
            yield store


@asynccontextmanager
async def _address(
    config: Config, given: str | Mapping[str, object] | None, kind: str, name: str
) -> AsyncGenerator[tuple[str | Mapping[str, object], str]]:
    """The store that is configured, and how it is called. Where the default one has not been
    made yet, another one beside it stands for it: looking makes nothing.
    """
    path = Path(config.folder, name)
    if given is not None:
        yield given, given if isinstance(given, str) else f"type {given.get('type')}"
    elif await anyio.Path(path).exists():
        yield f"{kind}:{path}", f"{kind}:{short(str(path))}"
    else:
        place = _existing(path)
        with tempfile.TemporaryDirectory(dir=place, prefix=".onready-doctor-") as trial:
            yield f"{kind}:{Path(trial, name)}", f"{kind}:{short(str(path))}, on trial"


# --- what is installed ----------------------------------------------------------------------------


async def plug_ins(config: Config) -> str:
    """Every registered plug-in loads."""
    del config
    found, broken = await anyio.to_thread.run_sync(_plug_ins)
    if broken:
        raise Trouble("; ".join(broken), "install what is missing, or uninstall the plug-in")
    return ", ".join(found)


def _plug_ins() -> tuple[list[str], list[str]]:
    from onready.engine.registry import Group, installed, load

    found: list[str] = []
    broken: list[str] = []
    for group in get_args(Group):
        number = 0
        for plug_in in installed(group):
            try:
                load(group, plug_in.name)
                number += 1
            except PluginError as error:
                optional = isinstance(error.__cause__, ModuleNotFoundError)
                if not (optional and plug_in.distribution == "onready"):
                    broken.append(str(error))
        if number:
            found.append(f"{number} {group.removeprefix('onready.').replace('_', ' ')}")
    return found, broken


async def extras(config: Config) -> str:
    """Which optional parts are installed, and how to get the others."""
    del config
    have: list[str] = []
    lack: list[str] = []
    for name, needs in sorted(_extras().items()):
        missing = [need for need in needs if not _is_installed(need)]
        (lack if missing else have).append(name)
    parts = [f"installed: {', '.join(have)}"] if have else []
    parts += [f"not installed: pip install 'onready[{name}]'" for name in lack]
    return "; ".join(parts) or "none"


def _extras() -> dict[str, list[str]]:
    """The distributions that each extra needs, those for developers left out."""
    found: dict[str, list[str]] = {}
    for line in metadata.requires("onready") or ():
        requirement, _, marker = line.partition(";")
        extra, name = _EXTRA.search(marker), _NAME.match(requirement.strip())
        if extra is not None and name is not None and extra["name"] not in _NOT_FOR_USERS:
            found.setdefault(extra["name"], []).append(name[0])
    return found


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
