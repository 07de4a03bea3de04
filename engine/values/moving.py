"""Large values and files to the catalog, and back.

Rule of this room: asynchronous; whatever touches the disk runs in a thread. It sees stored
values and blobs only, never Python values or annotations.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final, Protocol

from anyio import CancelScope, to_thread

from onready.engine.errors import InternalError, StoreError, ValueMismatch
from onready.engine.values.stored import (
    INLINE_LIMIT,
    Compound,
    Durable,
    Encoded,
    Live,
    Stored,
)

_HELD: Final = frozenset({Encoded, Compound, Live})
_MOVED: Final = frozenset({"file", "dir"})


class Blobs(Protocol):
    """What is needed of a catalog here."""

    async def put(self, content: bytes | Path) -> str: ...

    async def get(self, digest: str) -> bytes: ...

    async def fetch(self, digest: str, target: Path) -> None: ...


def needs_settling(stored: Stored) -> bool:
    """Whether `settle` has something to do: a large value or a file that is not in the catalog."""
    if type(stored) is Encoded:
        return stored.data is not None and (
            stored.codec == "path" or len(stored.data) > INLINE_LIMIT
        )
    if type(stored) is Compound:
        items = stored.items
        return not _HELD.isdisjoint(map(type, items)) and any(map(needs_settling, items))
    return False


async def settle(stored: Stored, catalog: Blobs) -> Durable:
    """The durable form: blobs and files are in the catalog when this returns.

    ValueMismatch where a file is not there; InternalError for a live object.
    """
    if type(stored) is Encoded:
        if stored.data is None:
            return stored
        if stored.codec == "path":
            return await _settle_path(Path(os.fsdecode(stored.data)), stored.meta, catalog)
        if len(stored.data) <= INLINE_LIMIT:
            return stored
        digest = await catalog.put(stored.data)
        return Encoded(stored.codec, None, digest, len(stored.data), stored.meta)
    if type(stored) is Compound:
        if _HELD.isdisjoint(map(type, stored.items)):
            return stored
        items = tuple([await settle(item, catalog) for item in stored.items])
        return Compound(stored.kind, items, stored.keys)
    if isinstance(stored, Live):
        message = f"a live {type(stored.value).__name__} was to be stored"
        raise InternalError(message)
    return stored


async def _settle_path(path: Path, kind: str, catalog: Blobs) -> Encoded:
    status = await to_thread.run_sync(_status, path, kind)
    meta = f"{kind}:{'x' if status.st_mode & stat.S_IXUSR else '-'}:{_name(path)}"
    if not stat.S_ISDIR(status.st_mode):
        digest = await catalog.put(path)
        return Encoded("file", None, digest, status.st_size, meta)
    archive, size = await to_thread.run_sync(_pack, path)
    try:
        digest = await catalog.put(archive)
    finally:
        # A file of ours is removed also when the run is cancelled: it takes no time to speak of.
        with CancelScope(shield=True):
            await to_thread.run_sync(archive.unlink)
    return Encoded("dir", None, digest, size, meta)


def _pack(folder: Path) -> tuple[Path, int]:
    """A new archive of `folder`, and its size."""
    import tempfile

    from onready.engine.values.archive import pack

    handle, name = tempfile.mkstemp(prefix="onready-")
    archive = Path(name)
    try:
        with os.fdopen(handle, "wb") as target:
            return archive, pack(folder, target)
    except BaseException:
        archive.unlink()
        raise


def _name(path: Path) -> str:
    return os.fsencode(path.name).decode("utf-8", "backslashreplace") or "root"


def _status(path: Path, kind: str) -> os.stat_result:
    try:
        status = path.stat()
    except OSError as error:
        message = (
            f"the value is the path {path}, but there is nothing to hand on: {error.strerror}."
            " A path that is only a text is annotated and returned as `str`"
        )
        raise ValueMismatch(message, "$") from None
    is_folder = stat.S_ISDIR(status.st_mode)
    if not is_folder and not stat.S_ISREG(status.st_mode):
        message = f"{path} is neither a file nor a folder"
        raise ValueMismatch(message, "$")
    if (kind == "File" and is_folder) or (kind == "Dir" and not is_folder):
        message = f"expected a {kind}, but {path} is a {'folder' if is_folder else 'file'}"
        raise ValueMismatch(message, "$")
    return status


def needs_bringing(stored: Stored) -> bool:
    """Whether `bring` has something to do: a blob or a file that is only in the catalog."""
    if type(stored) is Encoded:
        return stored.data is None
    if type(stored) is Compound:
        items = stored.items
        return not _HELD.isdisjoint(map(type, items)) and any(map(needs_bringing, items))
    return False


async def bring(stored: Stored, catalog: Blobs, folder: Path) -> Stored:
    """The form that `decode` takes: blobs inline, files fetched into new folders in `folder`.

    `folder` is made (0700) if a file needs it, and is the caller's to remove. StoreError where
    the catalog has lost a blob.
    """
    if type(stored) is Encoded:
        return await _bring_one(stored, catalog, folder) if stored.data is None else stored
    if type(stored) is Compound and not _HELD.isdisjoint(map(type, stored.items)):
        items = tuple([await bring(item, catalog, folder) for item in stored.items])
        return Compound(stored.kind, items, stored.keys)
    return stored


async def _bring_one(stored: Encoded, catalog: Blobs, folder: Path) -> Encoded:
    digest = stored.digest
    if digest is None:
        message = f"a stored value ({stored.codec}) has neither data nor digest"
        raise StoreError(message)
    try:
        if stored.codec in _MOVED:
            return await _bring_path(stored, digest, catalog, folder)
        data = await catalog.get(digest)
    except KeyError:
        message = f"the catalog has no blob {digest} ({stored.codec}, {stored.size} bytes)"
        raise StoreError(message) from None
    return Encoded(stored.codec, data, None, stored.size, stored.meta)


async def _bring_path(stored: Encoded, digest: str, catalog: Blobs, folder: Path) -> Encoded:
    kind, executable, name = stored.meta.split(":", 2)
    place = await to_thread.run_sync(_new_folder, folder)
    target = place / _safe(name)
    if stored.codec == "file":
        await catalog.fetch(digest, target)
        await to_thread.run_sync(os.chmod, target, 0o700 if executable == "x" else 0o600)
    else:
        archive = place / ".archive"
        await catalog.fetch(digest, archive)
        from onready.engine.values.archive import unpack

        await to_thread.run_sync(unpack, archive, target)
        await to_thread.run_sync(os.unlink, archive)
    data = os.fsencode(target)
    return Encoded("path", data, None, len(data), kind)


def _new_folder(folder: Path) -> Path:
    import tempfile

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Path(tempfile.mkdtemp(prefix="input-", dir=folder)).absolute()


def _safe(name: str) -> str:
    """The name of a file that was stored, so that it stays in its folder."""
    plain = name.replace("/", "_").replace("\0", "_")
    return "_" if plain in {"", ".", "..", ".archive"} else plain
