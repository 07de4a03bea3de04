"""What a worker opens for itself: a catalog for code without an event loop; secret providers.

The catalog lives in a loop in a thread of its own, started at the first need, so that the user's
function has the main thread: signals, and libraries that insist on it, work there alone.

Rule of this room: opened by address through the registry; no store is known by name.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from onready.engine.crashpoints import crash_point
from onready.engine.spi import Catalog
from onready.engine.values import bring, needs_bringing, settle
from onready.engine.values.stored import Durable, Stored

if TYPE_CHECKING:
    from onready.engine.secrets import SecretProviders

T = TypeVar("T")


class WorkerCatalog:
    """One open catalog, by address. Close it with `close`."""

    def __init__(self, address: str) -> None:
        from anyio.from_thread import start_blocking_portal

        from onready.engine.registry import CATALOGS, create

        config = create(CATALOGS, address)
        self._stack = ExitStack()
        try:
            self._portal = self._stack.enter_context(start_blocking_portal())
            opened = self._portal.wrap_async_context_manager(config.open())
            self.catalog: Catalog = self._stack.enter_context(opened)
        except BaseException:
            self._stack.close()
            raise

    def close(self) -> None:
        """Close the catalog and end its thread."""
        self._stack.close()

    def ask(self, function: Callable[..., Awaitable[T]], *arguments: object) -> T:
        """The value of a coroutine function, run where the catalog lives."""
        return self._portal.call(function, *arguments)

    def bring(self, inputs: Mapping[str, Stored], folder: Path) -> dict[str, Stored]:
        """The inputs with everything at hand that they need to be decoded."""
        brought = dict(inputs)
        for name, stored in inputs.items():
            if needs_bringing(stored):
                brought[name] = self.ask(bring, stored, self.catalog, folder)
        return brought

    def settle(self, value: Stored) -> Durable:
        """The value with its blobs and files in the catalog."""
        crash_point("stage.before")
        settled = self.ask(settle, value, self.catalog)
        crash_point("stage.after")
        return settled


def providers(settings: str) -> SecretProviders | None:
    """The secret providers that a driver's settings describe; None for no settings."""
    if not settings:
        return None
    from onready.engine.secrets import SecretProviders

    return SecretProviders.of(settings)


def any_needs_bringing(inputs: Mapping[str, Stored]) -> bool:
    """Whether a catalog is needed to decode these inputs."""
    return any(needs_bringing(stored) for stored in inputs.values())
