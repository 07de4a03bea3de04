"""Folders as archives: the same bytes for the same content, and nothing outside when unpacked.

A tar of files and folders in sorted order, without links, owners, times or other modes than the
owner's executable bit.

Rule of this room: blocking; called in a thread. Links are never followed and never made.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Final

from onready.engine.errors import StoreError, ValueMismatch

_FILE: Final = 0o600
_EXECUTABLE: Final = 0o700


def pack(folder: Path, target: BinaryIO) -> int:
    """Write the archive of `folder` to `target`; its size in bytes."""
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        _add(archive, folder, "")
    return target.tell()


def _add(archive: tarfile.TarFile, folder: Path, prefix: str) -> None:
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: os.fsencode(entry.name))
    for entry in found:
        info = tarfile.TarInfo(prefix + entry.name)
        if entry.is_dir(follow_symlinks=False):
            info.type = tarfile.DIRTYPE
            info.mode = _EXECUTABLE
            archive.addfile(info)
            _add(archive, Path(entry.path), f"{prefix}{entry.name}/")
        elif entry.is_file(follow_symlinks=False):
            status = entry.stat(follow_symlinks=False)
            info.size = status.st_size
            info.mode = _EXECUTABLE if status.st_mode & 0o100 else _FILE
            handle = os.open(entry.path, os.O_RDONLY | os.O_NOFOLLOW)
            with os.fdopen(handle, "rb") as content:
                archive.addfile(info, content)
        else:
            message = f"{entry.path}: a Dir holds files and folders only, no links or devices"
            raise ValueMismatch(message, "$")


def unpack(source: Path, target: Path) -> None:
    """Unpack the archive `source` into the new folder `target` (0700); StoreError if it is bad."""
    target.mkdir(mode=0o700)
    try:
        with tarfile.open(source, "r:") as archive:
            for info in archive:
                place = _place(target, info)
                if info.isdir():
                    place.mkdir(mode=0o700)
                    continue
                content = archive.extractfile(info)
                if content is None:  # pragma: no cover - _place lets files and folders pass only
                    continue
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
                handle = os.open(place, flags, _EXECUTABLE if info.mode & 0o100 else _FILE)
                with content, os.fdopen(handle, "wb") as out:
                    shutil.copyfileobj(content, out, 1 << 20)
    except (tarfile.TarError, OSError) as error:
        message = f"the archive of a folder does not unpack: {error}"
        raise StoreError(message) from error


def _place(target: Path, info: tarfile.TarInfo) -> Path:
    """Where a member goes: only plain names below `target`, only files and folders."""
    name = PurePosixPath(info.name)
    good = (info.isdir() or info.isreg()) and not info.issparse()
    if not good or name.is_absolute() or ".." in name.parts or not name.parts:
        message = f"the archive of a folder has a member that does not belong there: {info.name!r}"
        raise StoreError(message)
    return target.joinpath(*name.parts)
