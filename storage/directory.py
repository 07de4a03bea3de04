"""A catalog in a folder: blobs by content, records by name.

    blobs/ab/cdef...     content whose BLAKE3 hash is abcdef...
    records/<name>       named records
    .../~...             files that are being written; `~` is in no name

Rule of this room: everything inside the folder is reached through `confined.py`, never by a path
that is put together from text; and nothing is reported before it is durable.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, Final, Literal, Self, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread
from blake3 import blake3

from onready.engine.errors import StoreError
from onready.engine.spi import Access, Mount
from onready.storage.confined import Folder, open_root
from onready.storage.names import check_digest, check_name, check_prefix
from onready.storage.private import make_folder, open_regular, whole_file

if TYPE_CHECKING:
    from onready.storage.catalog_config import DirectoryConfig

__all__ = ["DirectoryCatalog", "DirectoryConfig"]

CHUNK: Final = 1024 * 1024
"""Bytes copied and hashed at a time; cancellation is looked at in between."""

IN_CONTAINER: Final = "/onready/catalog"
THREADS: Final = 8

T = TypeVar("T")


class DirectoryCatalog:
    """A catalog in a folder: `async with DirectoryCatalog(path) as catalog`.

    The folder and all in it are made for the owner only (0700, 0600). Reading checks the hash:
    a damaged blob is a `StoreError`, never wrong bytes. Any number of processes may share it.
    """

    durable: bool = True

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._limiter = anyio.CapacityLimiter(THREADS)
        self._open = ExitStack()
        self._blobs: Folder | None = None
        self._records: Folder | None = None

    async def __aenter__(self) -> Self:
        """Open or create the folder; `StoreError` where it cannot serve."""
        await self._work(self._enter)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Let go of the folder."""
        self._blobs = self._records = None
        self._open.close()

    async def put(self, content: bytes | Path) -> str:
        """See `Catalog`. A file is copied in pieces, and hashed as it is copied."""
        if isinstance(content, Path):
            return await self._work(lambda: self._put_file(content))
        return await self._work(lambda: self._put_bytes(content))

    async def get(self, digest: str) -> bytes:
        """See `Catalog`."""
        check_digest(digest)
        return await self._work(lambda: self._get(digest))

    async def fetch(self, digest: str, target: Path) -> None:
        """See `Catalog`."""
        check_digest(digest)
        await self._work(lambda: self._fetch(digest, target))

    async def put_if_absent(self, name: str, content: bytes) -> bool:
        """See `Catalog`. `StoreError` where `name` is also the folder of other records."""
        check_name(name)
        return await self._work(lambda: self._create(name, content))

    async def read(self, name: str) -> bytes:
        """See `Catalog`."""
        check_name(name)
        return await self._work(lambda: self._read(name))

    async def remove(self, name: str) -> bool:
        """See `Catalog`. The folders on the way stay: others may be writing in them."""
        check_name(name)
        return await self._work(lambda: self._remove(name))

    async def list(self, prefix: str) -> Sequence[str]:
        """See `Catalog`."""
        check_prefix(prefix)
        return await self._work(lambda: self._list(prefix))

    def access(self, where: Literal["host", "container", "cluster"]) -> Access:
        """See `Catalog`. A container sees the folder mounted; a cluster cannot see it."""
        if where == "host":
            return Access(f"file:{self.path}")
        if where == "container":
            mount = Mount(source=str(self.path), target=IN_CONTAINER)
            return Access(f"file:{IN_CONTAINER}", (mount,))
        message = f"the catalog in {self.path} is a folder of this machine: a cluster cannot see it"
        raise StoreError(message)

    # --- in worker threads ---

    async def _work(self, function: Callable[[], T]) -> T:
        try:
            return await anyio.to_thread.run_sync(function, limiter=self._limiter)
        except OSError as error:
            place = f" ({error.filename})" if error.filename else ""
            message = f"catalog {self.path}: {error.strerror or error}{place}"
            raise StoreError(message) from error

    def _enter(self) -> None:
        # Once, here in the thread: the host may change its working folder later.
        self.path = Path(os.path.abspath(self.path))  # noqa: PTH100 - keeps links
        make_folder(self.path)
        with ExitStack() as stack:
            root = stack.enter_context(open_root(self.path))
            self._blobs = stack.enter_context(root.folder("blobs", make=True))
            self._records = stack.enter_context(root.folder("records", make=True))
            root.sync()
            self._open = stack.pop_all()

    def _put_bytes(self, content: bytes) -> str:
        digest = blake3(content).hexdigest()
        blobs = _opened(self._blobs)
        with blobs.folder(digest[:2], make=True) as folder:
            if folder.size(digest[2:]) == len(content):
                folder.sync()
                return digest
            with folder.draft() as draft:
                with draft.writer() as file:
                    file.write(content)
                    draft.flush(file)
                draft.replace(digest[2:])
        return digest

    def _put_file(self, source: Path) -> str:
        blobs = _opened(self._blobs)
        with open_regular(source) as file, blobs.draft() as draft:
            with draft.writer() as copy:
                digest = _copy(file, copy)
                draft.flush(copy)
            with blobs.folder(digest[:2], make=True) as folder:
                draft.replace(digest[2:], folder)
        return digest

    def _get(self, digest: str) -> bytes:
        with self._blob(digest) as file:
            content = file.read()
        if blake3(content).hexdigest() != digest:
            raise self._damaged(digest)
        return content

    def _fetch(self, digest: str, target: Path) -> None:
        with self._blob(digest) as file, whole_file(target) as copy:
            if _copy(file, copy) != digest:
                raise self._damaged(digest)

    def _blob(self, digest: str) -> BinaryIO:
        try:
            with _opened(self._blobs).folder(digest[:2]) as folder:
                return folder.reader(digest[2:])
        except FileNotFoundError:
            raise KeyError(digest) from None

    def _damaged(self, digest: str) -> StoreError:
        return StoreError(f"catalog {self.path}: blob {digest} is damaged")

    def _create(self, name: str, content: bytes) -> bool:
        *parents, last = name.split("/")
        with ExitStack() as stack:
            folder = _opened(self._records)
            for part in parents:
                folder = stack.enter_context(folder.folder(part, make=True))
            if folder.size(last) is not None:
                folder.sync()
                return False
            draft = stack.enter_context(folder.draft())
            with draft.writer() as file:
                file.write(content)
                draft.flush(file)
            return draft.create(last)

    def _read(self, name: str) -> bytes:
        *parents, last = name.split("/")
        with ExitStack() as stack:
            folder = _opened(self._records)
            try:
                for part in parents:
                    folder = stack.enter_context(folder.folder(part))
                with folder.reader(last) as file:
                    return file.read()
            except (FileNotFoundError, NotADirectoryError):
                raise KeyError(name) from None

    def _remove(self, name: str) -> bool:
        *parents, last = name.split("/")
        with ExitStack() as stack:
            folder = _opened(self._records)
            try:
                for part in parents:
                    folder = stack.enter_context(folder.folder(part))
            except (FileNotFoundError, NotADirectoryError):
                return False
            return folder.remove(last)

    def _list(self, prefix: str) -> Sequence[str]:
        parents = prefix.split("/")[:-1]
        with ExitStack() as stack:
            folder = _opened(self._records)
            try:
                for part in parents:
                    folder = stack.enter_context(folder.folder(part))
            except (FileNotFoundError, NotADirectoryError):
                return []
            base = "".join(f"{part}/" for part in parents)
            found = [base + name for name in folder.files()]
        return sorted(name for name in found if name.startswith(prefix))


def _opened(folder: Folder | None) -> Folder:
    if folder is None:
        message = (
            "the catalog is not open: use it as 'async with DirectoryCatalog(path) as catalog'"
        )
        raise StoreError(message)
    return folder


def _copy(source: BinaryIO, target: BinaryIO) -> str:
    """Copy to the end; the BLAKE3 hash of what was copied."""
    hasher = blake3()
    while piece := source.read(CHUNK):
        anyio.from_thread.check_cancelled()
        hasher.update(piece)
        target.write(piece)
    return hasher.hexdigest()


def __getattr__(name: str) -> object:
    # The plug-in class needs pydantic, which whoever uses the catalog directly need not load.
    if name == "DirectoryConfig":
        from onready.storage.catalog_config import DirectoryConfig

        return DirectoryConfig
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
