"""Leases: who may drive a run, and under which epoch; agreed upon without locks.

A lease is a chain of small files, `lease/000000000001` and so on; the highest number counts. Every
change (taken, renewed, given back) is the next number, written whole under another name and then
linked to its own, which only one can do. So no lock is left behind by whoever dies, and it holds
between processes and on network file systems, where `link` is atomic too. (It may report failure
there although it was done: the count of links tells.) Times are those of `clock.py`.

Rule of this room: runs in the writer's thread, the reader's for `current`; knows no segments.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final
from zlib import crc32

import msgspec

from onready.engine.errors import RunLeaseHeld, StaleEpoch, StoreError
from onready.engine.spi import Lease
from onready.storage.clock import Clock, Moment
from onready.storage.confined import Folder

FOLDER: Final = "lease"
KEPT: Final = 16
"""Older numbers that stay: whoever lists the folder meanwhile must not miss the highest."""
TRIES: Final = 1_000
"""Changes by others that one change puts up with."""


class State(msgspec.Struct, frozen=True):
    """What one number says; `owner` is "" where the lease was given back."""

    epoch: int
    owner: str
    boot: str = ""
    until_boot: float = 0.0
    until_wall: float = 0.0

    def lapsed(self, now: Moment) -> bool:
        """Whether nobody holds it any more."""
        if not self.owner:
            return True
        if self.boot and self.boot == now.boot:
            return self.until_boot <= now.since_boot
        return self.until_wall <= now.wall


_decode: Final = msgspec.json.Decoder(State).decode


def take(
    run: str,
    folder: Folder,
    path: Path,
    owner: str,
    duration: float,
    clock: Clock,
    *,
    dead: str,
    beyond: int,
) -> Lease:
    """Take the lease of a run, under an epoch higher than `beyond`; `RunLeaseHeld` otherwise.

    That of the owner `dead` counts as expired.
    """
    for _ in range(TRIES):
        number, state = current(folder, path)
        now = clock()
        if state.owner not in {owner, dead} and not state.lapsed(now):
            message = f"run {run} is driven by {state.owner} (epoch {state.epoch})"
            raise RunLeaseHeld(message, state.owner)
        epoch = max(state.epoch, beyond) + 1
        if _change(folder, number, _held(epoch, owner, now, duration)):
            return Lease(run, epoch, duration, owner)
    raise _busy(path)


def renew(lease: Lease, folder: Folder, path: Path, clock: Clock) -> None:
    """Extend where it is still this holder's, expired or not; `StaleEpoch` otherwise."""
    for _ in range(TRIES):
        number, state = current(folder, path)
        if (state.epoch, state.owner) != (lease.epoch, lease.owner):
            message = f"run {lease.run}: the lease of epoch {lease.epoch} is gone"
            raise StaleEpoch(message)
        if _change(folder, number, _held(lease.epoch, lease.owner, clock(), lease.duration)):
            return
    raise _busy(path)


def release(lease: Lease, folder: Folder, path: Path) -> None:
    """Forget the owner, where it is this holder; the epoch stays, so that it can only rise."""
    for _ in range(TRIES):
        number, state = current(folder, path)
        if (state.epoch, state.owner) != (lease.epoch, lease.owner):
            return
        if _change(folder, number, State(lease.epoch, "")):
            return
    raise _busy(path)


def current(folder: Folder, path: Path) -> tuple[int, State]:
    """The highest number and what it says; 0 and epoch 0 for a run that was never leased."""
    try:
        with folder.folder(FOLDER) as leases:
            for _ in range(TRIES):
                number = _highest(leases)
                if number == 0:
                    break
                with suppress(FileNotFoundError):  # it was followed by more than are kept
                    return number, _read(leases, number, path)
    except FileNotFoundError:
        pass
    return 0, State(0, "")


def _read(leases: Folder, number: int, path: Path) -> State:
    with leases.reader(_name(number)) as file:
        data = file.read()
    check, _, body = data.partition(b" ")
    try:
        if int(check, 16) == crc32(body):
            return _decode(body)
    except ValueError:
        pass
    message = f"run log {path / FOLDER / _name(number)}: the lease is damaged"
    raise StoreError(message)


def _change(folder: Folder, number: int, state: State) -> bool:
    """Make `state` the number after `number`; False where another was faster."""
    body = msgspec.json.encode(state)
    mine = number + 1
    with folder.folder(FOLDER, make=True) as leases:
        with leases.draft() as draft:
            with draft.writer() as file:
                file.write(b"%08x " % crc32(body) + body)
                draft.flush(file)
            if not draft.create(_name(mine)) and not draft.linked():
                return False
        if _highest(leases) > mine:
            # Ours is a number that was used and cleared away before: it never counted.
            leases.remove(_name(mine))
            return False
        for old in _numbers(leases):
            if old <= mine - KEPT:
                leases.remove(_name(old))
    return True


def _held(epoch: int, owner: str, now: Moment, duration: float) -> State:
    return State(epoch, owner, now.boot, now.since_boot + duration, now.wall + duration)


def _name(number: int) -> str:
    return f"{number:012d}"


def _numbers(leases: Folder) -> list[int]:
    names = leases.names()
    return [int(name) for name in names if name.isdecimal() and _name(int(name)) == name]


def _highest(leases: Folder) -> int:
    return max(_numbers(leases), default=0)


def _busy(path: Path) -> StoreError:
    message = f"run log {path}: too many processes want the lease at once"
    return StoreError(message, retryable=True)
