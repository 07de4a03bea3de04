"""Removing what drivers that died have left: attempts on backends, work folders, drafts.

Only what belongs to a run of this run log that nobody drives is touched. While it is removed its
lease is held, so that nobody can resume the run at the same moment.

Rule of this room: asks backends and the run log through their contracts; files only below the
engine's own folder. Whether a run is worth keeping is not decided here.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import AsyncGenerator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from onready.engine.errors import EnvironmentFault, RunLeaseHeld
from onready.engine.names import is_run_id
from onready.engine.resuming import take_over
from onready.engine.spi import Backend, BulkBackend, Labels, Lease, RunFilter, RunLog

HOLD: Final = 60.0
"""Seconds that the lease of a run is held while its leftovers are removed."""
DRAFT: Final = "~"
"""Begins the names of files that are being written: no finished file has it."""


@dataclass(slots=True)
class Swept:
    """What was removed, or would be. `problems` are backends that could not be asked, and why."""

    attempts: dict[str, int] = field(default_factory=dict)
    """By backend: attempts of which something was left."""
    folders: int = 0
    """Work folders of runs."""
    files: int = 0
    """Half-written files elsewhere."""
    bytes: int = 0
    runs: tuple[str, ...] = ()
    """The runs that these belonged to, sorted."""
    outputs: int = 0
    """Old runs whose output files are gone; their bytes count too, their events stay."""
    problems: dict[str, str] = field(default_factory=dict)


async def sweep(
    backends: Mapping[str, Backend | BulkBackend],
    run_log: RunLog,
    folder: Path,
    owner: str,
    *,
    dry_run: bool = False,
) -> Swept:
    """Remove the leftovers of runs that nobody drives; `folder` is the engine's own.

    `owner` is the name under which leases are taken: no other lease holder's. `dry_run` removes
    nothing. A backend that fails is named in `problems`, and the others are
    still asked.
    """
    swept = Swept()
    asked = {name: each for name, each in backends.items() if isinstance(each, Backend)}
    found: dict[str, set[Labels]] = {}
    for name, backend in asked.items():
        try:
            found[name] = await _look(backend)
        except EnvironmentFault as error:
            swept.problems[name] = str(error)
    files = await anyio.to_thread.run_sync(_files, folder)
    runs = {labels.run for those in found.values() for labels in those} | files.keys()
    async with _dead(run_log, runs, owner) as dead:
        for name, those in found.items():
            number = len({labels for labels in those if labels.run in dead})
            if number and not dry_run:
                try:
                    number = await asked[name].sweep(lambda labels: labels.run not in dead)
                except EnvironmentFault as error:
                    swept.problems[name] = str(error)
                    continue
            if number:
                swept.attempts[name] = number
        mine = [path for run in dead for path in files.get(run, ())]
        await anyio.to_thread.run_sync(lambda: _remove(mine, swept, dry_run=dry_run))
    touched = {labels.run for those in found.values() for labels in those} | files.keys()
    swept.runs = tuple(sorted(touched & dead))
    return swept


async def _look(backend: Backend) -> set[Labels]:
    """What the backend knows to be left, by whatever run; nothing is removed."""
    seen: set[Labels] = set()

    def keep(labels: Labels) -> bool:
        seen.add(labels)
        return True

    await backend.sweep(keep)
    return seen


async def forget_outputs(
    run_log: RunLog, logs: Path, owner: str, before: float, swept: Swept, *, dry_run: bool = False
) -> None:
    """Remove what the nodes of old runs wrote: of those that ended before `before` (UTC seconds).

    `logs` is the log store's folder. The events of a run, its values and its result stay.
    """
    written = {path.name: path for path in await anyio.to_thread.run_sync(_runs_in, logs)}
    records = await run_log.runs(RunFilter(limit=sys.maxsize)) if written else ()
    old = {
        record.run
        for record in records
        if record.run in written and record.ended is not None and record.ended < before
    }
    async with _dead(run_log, old, owner) as dead:
        await anyio.to_thread.run_sync(
            lambda: _forget([written[run] for run in sorted(dead)], swept, dry_run=dry_run)
        )


@asynccontextmanager
async def _dead(run_log: RunLog, runs: Collection[str], owner: str) -> AsyncGenerator[set[str]]:
    """Those of `runs` that this run log knows and nobody drives, their leases held meanwhile."""
    dead: set[str] = set()
    leases: list[Lease] = []
    try:
        for run in sorted(runs):
            known = await run_log.runs(RunFilter(prefix=run, limit=sys.maxsize))
            if all(record.run != run for record in known):
                continue  # another run log's, and none of our business
            with suppress(RunLeaseHeld):
                leases.append(await take_over(run_log, run, owner, HOLD))
                dead.add(run)
        yield dead
    finally:
        with anyio.move_on_after(HOLD, shield=True):
            for lease in leases:
                await run_log.release(lease)


# --- files, in a thread ---------------------------------------------------------------------------


def _files(folder: Path) -> dict[str, list[Path]]:
    """By run: its work folder, and drafts among the files of its result."""
    found: dict[str, list[Path]] = {}
    for path in _runs_in(folder / "work"):
        found.setdefault(path.name, []).append(path)
    for path in _runs_in(folder / "results"):
        drafts = [
            Path(place, name)
            for place, _, names in os.walk(path)
            for name in names
            if name.startswith(DRAFT)
        ]
        if drafts:
            found.setdefault(path.name, []).extend(drafts)
    return found


def _runs_in(folder: Path) -> list[Path]:
    """The folders in it that are named as runs are; no links."""
    if not folder.is_dir():
        return []
    with os.scandir(folder) as entries:
        return [
            Path(entry.path)
            for entry in entries
            if is_run_id(entry.name) and entry.is_dir(follow_symlinks=False)
        ]


def _remove(paths: list[Path], swept: Swept, *, dry_run: bool) -> None:
    for path in paths:
        swept.bytes += size_of(path)
        if path.is_dir():
            swept.folders += 1
            if not dry_run:
                shutil.rmtree(path, ignore_errors=True)
        else:
            swept.files += 1
            if not dry_run:
                path.unlink(missing_ok=True)


def _forget(paths: list[Path], swept: Swept, *, dry_run: bool) -> None:
    for path in paths:
        swept.outputs += 1
        swept.bytes += size_of(path)
        if not dry_run:
            shutil.rmtree(path, ignore_errors=True)


def size_of(path: Path) -> int:
    """Bytes of a file, or of all files below a folder; what goes away meanwhile counts nothing."""
    places = [path]
    if path.is_dir():
        places = [Path(place, name) for place, _, names in os.walk(path) for name in names]
    total = 0
    for place in places:
        try:
            total += place.lstat().st_size
        except FileNotFoundError:
            continue
    return total
