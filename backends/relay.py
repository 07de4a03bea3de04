"""A catalog that a process elsewhere can reach, whatever the engine's own is.

A directory or an object store is reached by its address. A memory catalog is not: then the
attempt gets a directory catalog in its own folder, its inputs are copied in, and what its result
refers to is copied out. So the honest stand-in for remote backends also works in memory engines.

Rule of this room: moves blobs, never decodes a value.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Literal

import anyio

from onready.engine.errors import NoCodec, SecretError, StoreError
from onready.engine.registry import CATALOGS, create
from onready.engine.spi import Access, Attempt, Catalog
from onready.engine.values.secret import holds_secret
from onready.engine.values.stored import Compound, Durable, Encoded, Live, Stored


@asynccontextmanager
async def reachable(
    attempt: Attempt, where: Literal["host", "container"] = "host"
) -> AsyncGenerator[tuple[Catalog, Access, Mapping[str, Durable]]]:
    """The catalog for one attempt, how it is reached there, and the inputs that are in it."""
    inputs = {name: durable(name, stored) for name, stored in attempt.inputs.items()}
    try:
        access = attempt.catalog.access(where)
    except StoreError:
        address = f"file:{attempt.folder / 'catalog'}"
        # In a thread: the registry reads the installed packages' files.
        config = await anyio.to_thread.run_sync(lambda: create(CATALOGS, address))
        async with config.open() as relay:
            for stored in inputs.values():
                await copy_blobs(stored, attempt.catalog, relay)
            yield relay, relay.access(where), inputs
    else:
        yield attempt.catalog, access, inputs


def durable(name: str, stored: Stored) -> Durable:
    """The input as it can be written down; NoCodec for a live object."""
    if isinstance(stored, Live):
        message = f"input {name!r} is a live object, which cannot leave the driver's process"
        raise NoCodec(message)
    return stored


def secret_settings(attempt: Attempt) -> str:
    """What a worker needs to look up the attempt's secrets; "" where it has none."""
    if attempt.secrets is None or not any(map(holds_secret, attempt.inputs.values())):
        return ""
    return attempt.secrets.settings


def resolver(attempt: Attempt) -> Callable[[str], str]:
    """What gives the value of a secret by name, in a thread; SecretError where nothing does."""
    if attempt.secrets is None:
        message = "this engine has no secret providers"
        raise SecretError(message)
    return attempt.secrets.resolve


async def copy_blobs(stored: Stored, source: Catalog, target: Catalog) -> None:
    """Copy each blob that a stored value refers to."""
    if isinstance(stored, Encoded) and stored.digest is not None:
        try:
            content = await source.get(stored.digest)
        except KeyError as error:
            message = f"the catalog has no blob {stored.digest}"
            raise StoreError(message) from error
        await target.put(content)
    elif isinstance(stored, Compound):
        for item in stored.items:
            await copy_blobs(item, source, target)
