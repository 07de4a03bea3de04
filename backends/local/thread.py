"""Settings of the `thread` backend: the plug-in that opens the pool.

Rule of this room: settings only; the pool is in `pool.py`.
"""

from __future__ import annotations

import logging
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from pydantic import Field

from onready.backends.local.pool import ThreadBackend
from onready.engine.plugin import PluginConfig

_log = logging.getLogger(__name__)


class ThreadConfig(PluginConfig):
    """Worker threads in the driver's process: where `def` tasks run unless they say otherwise."""

    limit: int | None = Field(default=None, ge=1)
    """Threads at most; the default is the number of processors + 4, 32 at most."""
    close_timeout: float = Field(default=10.0, ge=0)
    """Seconds that closing waits for calls that still run."""

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[ThreadBackend]:
        """The pool; on exit its threads end, but for those stuck in a call past the timeout."""
        backend = ThreadBackend(self.limit)
        try:
            yield backend
        finally:
            left = await backend.close(self.close_timeout)
            if left:
                _log.warning(
                    "threads left behind in calls that did not end within %g s: %s",
                    self.close_timeout,
                    ", ".join(left),
                )
