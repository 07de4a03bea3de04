"""Folders and files that nobody else may read, whatever the umask.

Rule of this room: only what was made here gets its mode set; what existed is never changed.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

from onready.engine.crashpoints import crash_point
from onready.engine.errors import StoreError

FOLDER_MODE: Final = 0o700
FILE_MODE: Final = 0o600

NETWORK: Final = frozenset(
    {
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "afp",
        "coda",
        "davfs",
        "fuse.ceph",
        "fuse.glusterfs",
        "fuse.davfs",
        "fuse.gcsfuse",
        "fuse.rclone",
        "fuse.s3fs",
        "fuse.sshfs",
        "fuse.mount-s3",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "orangefs",
        "smb3",
        "smbfs",
    }
)
"""File systems on which several machines, or a machine and its guest, see the same file."""

MOUNTS = Path("/proc/self/mounts")


def make_folder(folder: Path) -> None:
    """Make the absolute `folder` and its missing parents, each 0700; what exists stays as it is."""
    missing: list[Path] = []
    while not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for path in reversed(missing):
        try:
            path.mkdir(mode=FOLDER_MODE)
        except FileExistsError:
            if path.is_dir():
                continue  # another process made it meanwhile
            raise
        if stat.S_IMODE(path.stat().st_mode) != FOLDER_MODE:  # a umask that takes our own bits
            path.chmod(FOLDER_MODE)


def create_file(path: Path | str, *, dir_fd: int | None = None) -> int:
    """Create a new file, 0600, and give its descriptor for writing; FileExistsError else."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    crash_point("file.create.before")
    descriptor = os.open(path, flags, FILE_MODE, dir_fd=dir_fd)
    os.fchmod(descriptor, FILE_MODE)
    crash_point("file.create.after")
    return descriptor


@contextmanager
def whole_file(target: Path) -> Generator[BinaryIO]:
    """A new file, 0600, that gets the name `target` once it is whole; FileExistsError if taken."""
    draft = target.with_name(f"~{secrets.token_hex(8)}")
    with os.fdopen(create_file(draft), "wb") as file:
        try:
            yield file
            file.flush()
            crash_point("fetch.link.before")
            os.link(draft, target, follow_symlinks=False)  # unlike a rename, replaces nothing
            crash_point("fetch.link.after")
        finally:
            draft.unlink()


def open_regular(path: Path) -> BinaryIO:
    """Open the user's file `path` for reading; StoreError for a folder, a pipe or a device."""
    # Without O_NONBLOCK opening a named pipe would wait for a writer that never comes.
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        message = f"{path} is not a regular file"
        raise StoreError(message)
    return os.fdopen(descriptor, "rb")


def file_system(path: Path, mounts: str) -> str:
    """The type of the file system that holds `path`, by the text of a mount table; "" unknown."""
    place = os.fsencode(path.resolve())
    best, kind = b"", ""
    for line in mounts.encode("utf-8", "surrogateescape").splitlines():
        fields = line.split()
        if len(fields) < 3:
            continue
        point = _unescape(fields[1])
        inside = place == point or place.startswith(point.rstrip(b"/") + b"/")
        if inside and len(point) >= len(best):
            best, kind = point, fields[2].decode("utf-8", "replace")
    return kind


def refuse_network(folder: Path) -> None:
    """StoreError where `folder` is on a network file system; silent where nobody can tell."""
    try:
        mounts = MOUNTS.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:
        return
    kind = file_system(folder, mounts)
    if kind in NETWORK:
        message = (
            f"{folder} is on a network file system ({kind}), where SQLite's write-ahead log is "
            "not safe: use a run log in files there, for example run_log='files:PATH', or put the "
            "SQLite file on a local disk"
        )
        raise StoreError(message)


def _unescape(text: bytes) -> bytes:
    """A mount point as the kernel writes it: octal for spaces, tabs, newlines, backslashes."""
    for octal, plain in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n")):
        text = text.replace(octal, plain)
    return text.replace(b"\\134", b"\\")
