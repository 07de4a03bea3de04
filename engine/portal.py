"""`run_sync`: one run from code that has no event loop, or must not block the one it has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from anyio.from_thread import start_blocking_portal

from onready.engine.engine import Engine
from onready.engine.graph import Bound
from onready.engine.options import OnError
from onready.engine.spi import Backend, BulkBackend, Catalog, RunLog

R = TypeVar("R")


def run_sync(
    bound: Bound[R],
    *,
    memory: bool = False,
    run_log: RunLog | str | None = None,
    catalog: Catalog | str | None = None,
    backends: Mapping[str, Backend | BulkBackend | Mapping[str, object]] | None = None,
    folder: Path | str = ".onready",
    provided: Mapping[str, object] | None = None,
    max_parallel: int | None = None,
    on_error: OnError | None = None,
    timeout: float | None = None,
    backend: str | None = None,
    secrets: Sequence[str | Mapping[str, object]] | None = None,
) -> R:
    """Run a graph to its end and give its value: for scripts and notebooks.

    The run has an event loop and a thread of its own, so that this works inside a running loop
    too (which is blocked meanwhile: prefer `await engine.run(...)` there). `memory=True` leaves
    nothing behind; the other options are those of `Engine` and `Engine.start`. Raises what
    `Engine.run` raises. An interrupt (Ctrl-C) cancels the run, then goes on.
    """

    async def main() -> R:
        engine = (
            Engine.memory(
                backends=backends, provided=provided, max_parallel=max_parallel, secrets=secrets
            )
            if memory
            else Engine(
                run_log=run_log,
                catalog=catalog,
                backends=backends,
                folder=folder,
                provided=provided,
                max_parallel=max_parallel,
                secrets=secrets,
            )
        )
        async with engine:
            return await engine.run(bound, on_error=on_error, timeout=timeout, backend=backend)

    with start_blocking_portal("asyncio") as portal:
        future = portal.start_task_soon(main)
        try:
            return future.result()
        except BaseException:
            # No effect where the run itself raised; after an interrupt the run is cancelled, and
            # leaving the portal waits for its grace.
            future.cancel()
            raise
