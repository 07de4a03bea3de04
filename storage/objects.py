"""A catalog in a bucket of an object store (S3, Google Cloud Storage, Azure): by obstore.

    <prefix>/blobs/ab/cdef...   content whose BLAKE3 hash is abcdef...
    <prefix>/records/<name>     named records, created on the condition that there is none

Rule of this room: calls of the library run in threads (its own futures know asyncio alone), each
with the library's deadline; which service it is, and whose keys, is `object_config.py`'s affair.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, TypeVar

import anyio
import anyio.from_thread
import anyio.to_thread
from blake3 import blake3

from onready.engine.errors import StoreError
from onready.engine.spi import Access
from onready.storage.names import check_digest, check_name, check_prefix
from onready.storage.private import create_file, open_regular, whole_file

if TYPE_CHECKING:
    from obstore.store import ObjectStore

CHUNK: Final = 1024 * 1024
"""Bytes copied and hashed at a time; cancellation is looked at in between."""

PART: Final = 8 * 1024 * 1024
"""Bytes of one part of a large upload; a few are on their way at once."""

THREADS: Final = 16
MARK: Final = "onready-call"
"""The attribute that tells which call created a record."""

T = TypeVar("T")


class ObjectCatalog:
    """A catalog in a bucket. Reading checks the hash: a damaged blob is a `StoreError`.

    `store` is obstore's, with the prefix, the retries and their deadline set; `address` is how
    errors name it; `access` answers `Catalog.access`.
    """

    durable: bool = True

    def __init__(
        self,
        store: ObjectStore,
        address: str,
        access: Callable[[Literal["host", "container", "cluster"]], Access],
    ) -> None:
        self.address = address
        self._store = store
        self._access = access
        self._limiter = anyio.CapacityLimiter(THREADS)

    async def put(self, content: bytes | Path) -> str:
        """See `Catalog`. A file is copied first, so that what is hashed is what is stored."""
        if isinstance(content, Path):
            return await self._work(lambda: self._put_file(content))
        return await self._work(lambda: self._put_bytes(content))

    async def get(self, digest: str) -> bytes:
        """See `Catalog`."""
        check_digest(digest)
        return await self._work(lambda: self._get(digest))

    async def fetch(self, digest: str, target: Path) -> None:
        """See `Catalog`. The blob is written as it arrives, and checked before it gets its name."""
        check_digest(digest)
        await self._work(lambda: self._fetch(digest, target))

    async def put_if_absent(self, name: str, content: bytes) -> bool:
        """See `Catalog`. Decided by the service, on the condition that there is no such object."""
        check_name(name)
        return await self._work(lambda: self._create(name, content))

    async def read(self, name: str) -> bytes:
        """See `Catalog`."""
        check_name(name)
        return await self._work(lambda: self._load(f"records/{name}", name))

    async def remove(self, name: str) -> bool:
        """See `Catalog`. Several that remove it at once may all be told True."""
        check_name(name)
        return await self._work(lambda: self._remove(name))

    async def list(self, prefix: str) -> Sequence[str]:
        """See `Catalog`."""
        check_prefix(prefix)
        return await self._work(lambda: self._list(prefix))

    def access(self, where: Literal["host", "container", "cluster"]) -> Access:
        """See `Catalog`. The same from everywhere; keys by secret reference."""
        return self._access(where)

    # --- in worker threads ---

    async def _work(self, function: Callable[[], T]) -> T:
        with _translated(self.address):
            return await anyio.to_thread.run_sync(function, limiter=self._limiter)

    def _put_bytes(self, content: bytes) -> str:
        digest = blake3(content).hexdigest()
        if self._size(digest) != len(content):
            import obstore

            obstore.put(self._store, _blob(digest), content, mode="overwrite", chunk_size=PART)
        return digest

    def _put_file(self, source: Path) -> str:
        import obstore

        folder = Path(tempfile.mkdtemp(prefix="onready-"))
        try:
            copy, hasher, size = folder / "copy", blake3(), 0
            with open_regular(source) as file, os.fdopen(create_file(copy), "wb") as target:
                while piece := file.read(CHUNK):
                    anyio.from_thread.check_cancelled()
                    hasher.update(piece)
                    target.write(piece)
                    size += len(piece)
            digest = hasher.hexdigest()
            if self._size(digest) != size:
                obstore.put(self._store, _blob(digest), copy, mode="overwrite", chunk_size=PART)
        finally:
            shutil.rmtree(folder)
        return digest

    def _size(self, digest: str) -> int | None:
        import obstore

        try:
            return obstore.head(self._store, _blob(digest))["size"]
        except FileNotFoundError:
            return None

    def _get(self, digest: str) -> bytes:
        content = self._load(_blob(digest), digest)
        if blake3(content).hexdigest() != digest:
            raise self._damaged(digest)
        return content

    def _fetch(self, digest: str, target: Path) -> None:
        import obstore

        try:
            found = obstore.get(self._store, _blob(digest))
        except FileNotFoundError:
            raise KeyError(digest) from None
        with whole_file(target) as file:
            hasher = blake3()
            for piece in found.stream(min_chunk_size=CHUNK):
                anyio.from_thread.check_cancelled()
                data = bytes(piece)
                hasher.update(data)
                file.write(data)
            if hasher.hexdigest() != digest:
                raise self._damaged(digest)

    def _load(self, path: str, key: str) -> bytes:
        import obstore

        try:
            return bytes(obstore.get(self._store, path).bytes())
        except FileNotFoundError:
            raise KeyError(key) from None

    def _create(self, name: str, content: bytes) -> bool:
        import obstore
        from obstore.exceptions import AlreadyExistsError

        mark, path = secrets.token_hex(16), f"records/{name}"
        try:
            obstore.put(
                self._store,
                path,
                content,
                mode="create",
                use_multipart=False,
                attributes={MARK: mark},
            )
        except AlreadyExistsError:
            # A request whose answer was lost is sent again, and then meets its own work.
            try:
                return obstore.get(self._store, path).attributes.get(MARK) == mark
            except FileNotFoundError:
                return False
        return True

    def _remove(self, name: str) -> bool:
        import obstore

        try:
            obstore.head(self._store, f"records/{name}")
            obstore.delete(self._store, f"records/{name}")
        except FileNotFoundError:
            return False
        return True

    def _list(self, prefix: str) -> Sequence[str]:
        import obstore

        root, parent = "records/", prefix.rpartition("/")[0]
        names: list[str] = []
        for batch in obstore.list(self._store, prefix=f"{root}{parent}"):
            names += [meta["path"].removeprefix(root) for meta in batch]
        return sorted(name for name in names if name.startswith(prefix))

    def _damaged(self, digest: str) -> StoreError:
        return StoreError(f"catalog {self.address}: blob {digest} is damaged")


def _blob(digest: str) -> str:
    return f"blobs/{digest[:2]}/{digest[2:]}"


@contextmanager
def _translated(address: str) -> Generator[None]:
    from obstore import exceptions

    try:
        yield
    except OSError as error:
        message = f"catalog {address}: {error.strerror or error}"
        raise StoreError(message) from error
    except exceptions.BaseError as error:
        refused = (exceptions.PermissionDeniedError, exceptions.UnauthenticatedError)
        lasting = (*refused, exceptions.NotSupportedError, exceptions.UnknownConfigurationKeyError)
        text = " ".join(str(error).split())[:600]
        message = f"catalog {address}: {text}"
        raise StoreError(message, retryable=not isinstance(error, lasting)) from error
