"""The records of the cache in the catalog: `cache/<format>/<task>/<key>.json`.

A record holds the value and what it was made of, so that a look-up is one read, and so that
people can be told why one was not found. Values are as in events: small ones inline, large ones
by the digest of their blob.

Rule of this room: reads, writes and removes records; whether a value may be used is also decided
here, but not when.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import msgspec

from onready.engine.cache.key import Ingredients
from onready.engine.errors import DamagedEntry, StoreError, ValueMismatch
from onready.engine.folders import make_private
from onready.engine.spi import Catalog
from onready.engine.values import ValueType
from onready.engine.values.stored import Compound, Durable, Encoded, Stored
from onready.engine.worker.record import finite

ENTRY_VERSION: Final = 1
EVERYTHING: Final = "cache/"
MOVED: Final = frozenset({"file", "dir"})
PICKLE: Final = "pickle"

LARGE: Final = 64 * 1024
"""Bytes from which a value is read in a thread, to see whether it still fits."""


class CacheEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One value: whose it is, which run's node made it, and what of. `created` is UTC seconds."""

    key: str
    task: str
    run: str
    node: str
    attempt: int
    created: float
    ingredients: Ingredients
    value: Durable = None
    version: int = ENTRY_VERSION


@dataclass(frozen=True, slots=True)
class Listed:
    """One record as `entries` finds it; `entry` is None where it cannot be read. Sizes in bytes."""

    name: str
    entry: CacheEntry | None
    size: int


class Cache:
    """The cache in one catalog."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def read(self, ingredients: Ingredients) -> CacheEntry | None:
        """The entry for these ingredients; None where there is none.

        DamagedEntry where there is one that cannot be used, StoreError where the catalog fails.
        """
        try:
            data = await self._catalog.read(ingredients.name)
        except KeyError:
            return None
        entry = _decode(data)
        if entry.ingredients != ingredients:
            message = "the record holds the value of other ingredients"
            raise DamagedEntry(message)
        return entry

    async def write(self, entry: CacheEntry, *, replace: bool = False) -> bool:
        """Keep an entry; False where there is one already. `replace` one that is damaged."""
        if replace:
            await self._catalog.remove(entry.ingredients.name)
        value = finite(entry.value)
        data = msgspec.json.encode(msgspec.structs.replace(entry, value=value))
        return await self._catalog.put_if_absent(entry.ingredients.name, data)

    async def check(self, entry: CacheEntry, reader: ValueType, codec: str, folder: Path) -> None:
        """DamagedEntry where the value cannot be had any more, or no longer fits its task.

        `codec` is the task's own; `folder` a scratch folder that is made if files need it.
        """
        if codec != PICKLE and _holds(entry.value, frozenset({PICKLE})):
            message = "the record holds a pickle, and the task has not asked for codec='pickle'"
            raise DamagedEntry(message)
        try:
            whole = await self._brought(entry.value, folder)
        except KeyError as error:
            message = f"the catalog has no blob {error.args[0]} any more"
            raise DamagedEntry(message) from None
        except StoreError as error:
            if error.retryable:
                raise
            raise DamagedEntry(str(error)) from error
        if _holds(whole, MOVED):
            return
        try:
            if size_of(whole) > LARGE:
                await anyio.to_thread.run_sync(partial(reader.decode, whole))
            else:
                reader.decode(whole)
        except ValueMismatch as error:
            message = f"the value no longer fits the task: {error}"
            raise DamagedEntry(message) from None

    async def _brought(self, value: Stored, folder: Path) -> Stored:
        """The value with its blobs inline; of files it is only seen that they are whole."""
        if type(value) is Compound:
            items = [await self._brought(item, folder) for item in value.items]
            return Compound(value.kind, tuple(items), value.keys)
        if type(value) is not Encoded or value.digest is None:
            return value
        if value.codec not in MOVED:
            try:
                data = await self._catalog.get(value.digest)
            except KeyError:
                raise KeyError(value.digest) from None
            return Encoded(value.codec, data, None, value.size, value.meta)
        await anyio.to_thread.run_sync(make_private, folder)
        target = folder / f"look-{secrets.token_hex(8)}"
        try:
            await self._catalog.fetch(value.digest, target)
        except KeyError:
            raise KeyError(value.digest) from None
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.to_thread.run_sync(partial(target.unlink, missing_ok=True))
        return value

    # --- for people -------------------------------------------------------------------------------

    async def entries(self, task: str = "", place: str = EVERYTHING) -> Sequence[Listed]:
        """The records, those of `task` alone if given (its name or its reference); oldest first.

        Records that cannot be read are among them where no task is given.
        """
        found: list[Listed] = []
        for name in await self._catalog.list(place):
            try:
                data = await self._catalog.read(name)
            except KeyError:
                continue  # somebody clears the cache
            try:
                entry = _decode(data)
            except DamagedEntry:
                if not task:
                    found.append(Listed(name, None, len(data)))
                continue
            if not task or task in _names_of(entry):
                found.append(Listed(name, entry, size_of(entry.value)))
        found.sort(key=lambda listed: listed.entry.created if listed.entry is not None else 0.0)
        return found

    async def clear(self, task: str = "") -> int:
        """Remove the records, those of `task` alone if given; how many. Blobs stay: see `gc`."""
        if task:
            names = [listed.name for listed in await self.entries(task)]
        else:
            names = list(await self._catalog.list(EVERYTHING))
        removed = 0
        for name in names:
            removed += await self._catalog.remove(name)
        return removed


def _names_of(entry: CacheEntry) -> frozenset[str]:
    reference = entry.ingredients.task
    return frozenset({entry.task, reference, reference.rpartition(":")[2]})


def _decode(data: bytes) -> CacheEntry:
    try:
        entry = msgspec.json.decode(data, type=CacheEntry)
    except ValueError as error:
        message = f"the record cannot be read: {error}"
        raise DamagedEntry(message) from None
    if entry.version != ENTRY_VERSION:
        message = f"the record has version {entry.version}; this onready knows {ENTRY_VERSION}"
        raise DamagedEntry(message)
    return entry


def _holds(value: Stored, codecs: frozenset[str]) -> bool:
    """Whether anything in the value is in one of these codecs."""
    todo: list[Stored] = [value]
    while todo:
        item = todo.pop()
        if type(item) is Encoded and item.codec in codecs:
            return True
        if type(item) is Compound:
            todo.extend(item.items)
    return False


def size_of(value: Stored) -> int:
    """Bytes that a value takes, its blobs included; scalars count as their JSON."""
    if type(value) is Encoded:
        return value.size
    if type(value) is Compound:
        return sum(map(size_of, value.items))
    return len(str(value))
