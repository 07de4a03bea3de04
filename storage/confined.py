"""Files below one folder, a store's, reached by descriptors so that nothing leads out of it.

Each step of a way opens one name, never a path, relative to the descriptor of the folder above,
and follows no symbolic link. So neither `..`, an absolute path nor a link leads outside, also
when somebody swaps a folder for a link between two steps.

Rule of this room: system calls only; names come checked, and are refused here if they have a
separator nevertheless.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final

from onready.engine.crashpoints import crash_point
from onready.engine.errors import StoreError
from onready.storage.private import FOLDER_MODE, create_file

DRAFT: Final = "~"
"""Begins the names of files that are being written; no record's name may contain it."""

_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK opening a named pipe would wait for a writer that never comes.
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_LINKS: Final = frozenset({errno.ELOOP, errno.ENOTDIR, errno.EMLINK})


@contextmanager
def open_root(path: Path) -> Generator[Folder]:
    """The folder at `path`. Links on the way to it are the user's own affair."""
    descriptor = os.open(path, _FOLDER & ~os.O_NOFOLLOW)
    try:
        yield Folder(descriptor)
    finally:
        os.close(descriptor)


class Folder:
    """One open folder. Usable from any thread; it is closed by whoever opened it."""

    __slots__ = ("_fd",)

    def __init__(self, descriptor: int) -> None:
        self._fd = descriptor

    @contextmanager
    def folder(self, name: str, *, make: bool = False) -> Generator[Folder]:
        """The folder `name` in this one; made, durably, where missing and `make`.

        FileNotFoundError, NotADirectoryError for a regular file, StoreError for a link.
        """
        _one(name)
        if make:
            self._make(name)
        try:
            descriptor = os.open(name, _FOLDER, dir_fd=self._fd)
        except OSError as error:
            if error.errno in _LINKS and self.size(name) is not None:
                # A record, where the way needs a folder. (For a link `size` has refused it.)
                raise NotADirectoryError(errno.ENOTDIR, "not a folder", name) from None
            raise
        try:
            yield Folder(descriptor)
        finally:
            os.close(descriptor)

    def _make(self, name: str) -> None:
        try:
            os.mkdir(name, FOLDER_MODE, dir_fd=self._fd)
        except FileExistsError:
            return
        status = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode) and stat.S_IMODE(status.st_mode) != FOLDER_MODE:
            os.chmod(name, FOLDER_MODE, dir_fd=self._fd)
        self.sync()

    def reader(self, name: str) -> BinaryIO:
        """The regular file `name`, for reading; FileNotFoundError, or StoreError for a link."""
        _one(name)
        try:
            descriptor = os.open(name, _READ, dir_fd=self._fd)
        except OSError as error:
            if error.errno in _LINKS or error.errno == errno.ENXIO:
                message = f"{name!r} there is not a regular file"
                raise StoreError(message) from error
            raise
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            message = f"{name!r} there is not a regular file"
            raise StoreError(message)
        return os.fdopen(descriptor, "rb")

    def size(self, name: str) -> int | None:
        """Bytes of the regular file `name`; None where there is none. StoreError for others."""
        _one(name)
        try:
            status = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(status.st_mode):
            message = f"{name!r} there is not a regular file"
            raise StoreError(message)
        return status.st_size

    def remove(self, name: str) -> bool:
        """Remove the regular file `name`, durably; False where there is none.

        StoreError for a link or a device: what is not ours is not removed.
        """
        _one(name)
        try:
            status = os.stat(name, dir_fd=self._fd, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                return False
            if not stat.S_ISREG(status.st_mode):
                message = f"{name!r} there is not a regular file"
                raise StoreError(message)
            os.unlink(name, dir_fd=self._fd)
        except FileNotFoundError:
            return False
        self.sync()
        return True

    def names(self) -> list[str]:
        """The names of all that is in it, in any order; one reader at a time."""
        return os.listdir(self._fd)  # noqa: PTH208 - by descriptor, which no path can do

    def files(self) -> Iterator[str]:
        """Names of all regular files below, as `a/b/c`; drafts and links are left out."""
        for where, folders, files, descriptor in os.fwalk(".", dir_fd=self._fd):
            folders[:] = [name for name in folders if not name.startswith(DRAFT)]
            base = "" if where == "." else where.removeprefix("./") + "/"
            for name in files:
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                if stat.S_ISREG(status.st_mode) and DRAFT not in name:
                    yield base + name

    @contextmanager
    def draft(self) -> Generator[Draft]:
        """A file being written, removed at the end unless it was given its name."""
        draft = Draft(self, f"{DRAFT}{secrets.token_hex(16)}")
        try:
            yield draft
        finally:
            with suppress(FileNotFoundError):
                os.unlink(draft.name, dir_fd=self._fd)

    def sync(self) -> None:
        """Make the names in this folder durable."""
        crash_point("folder.sync.before")
        os.fsync(self._fd)
        crash_point("folder.sync.after")

    @property
    def descriptor(self) -> int:
        """For the system calls of a draft."""
        return self._fd


class Draft:
    """A file in a folder under a name of its own, until it is whole and durable."""

    __slots__ = ("folder", "name")

    def __init__(self, folder: Folder, name: str) -> None:
        self.folder = folder
        self.name = name

    def writer(self) -> BinaryIO:
        """The new file, for writing."""
        return os.fdopen(create_file(self.name, dir_fd=self.folder.descriptor), "wb")

    def flush(self, file: BinaryIO) -> None:
        """Make what was written durable."""
        crash_point("file.sync.before")
        file.flush()
        os.fsync(file.fileno())
        crash_point("file.sync.after")

    def create(self, name: str) -> bool:
        """Give it `name`, durably; False, and nothing changed, where that name is taken."""
        _one(name)
        folder = self.folder
        crash_point("record.link.before")
        try:
            os.link(
                self.name,
                name,
                src_dir_fd=folder.descriptor,
                dst_dir_fd=folder.descriptor,
                follow_symlinks=False,
            )
        except FileExistsError:
            created = False
        else:
            created = True
        crash_point("record.link.after")
        folder.sync()
        return created

    def linked(self) -> bool:
        """Whether it has a name besides its own: NFS may do a `create` and report failure."""
        return os.stat(self.name, dir_fd=self.folder.descriptor).st_nlink > 1

    def replace(self, name: str, folder: Folder | None = None) -> None:
        """Give it `name` in `folder`, durably, in place of what had that name."""
        _one(name)
        target = folder or self.folder
        crash_point("blob.rename.before")
        os.rename(self.name, name, src_dir_fd=self.folder.descriptor, dst_dir_fd=target.descriptor)
        crash_point("blob.rename.after")
        target.sync()


def _one(name: str) -> None:
    if not name or "/" in name or "\0" in name or name in {".", ".."}:
        message = f"not the name of one file: {name!r}"
        raise StoreError(message)
