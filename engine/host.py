"""What the runs of one engine share: open backends, what they can do, and limits.

What may not live here: runs.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import AsyncExitStack
from typing import Final

import anyio
import anyio.to_thread

from onready.engine.dispatcher.admission import INLINE, Limits
from onready.engine.dispatcher.lanes import Limit
from onready.engine.errors import ConfigError, EnvironmentFault, PluginError
from onready.engine.graph import Bound
from onready.engine.names import is_name
from onready.engine.options import OnError, parse_memory
from onready.engine.plan.compile import compile_plan
from onready.engine.plan.model import Plan
from onready.engine.registry import BackendConfig, CatalogConfig, RunLogConfig, create
from onready.engine.spi import Backend, BulkBackend, Capabilities
from onready.engine.values.codec import load_plugins

Given = Backend | BulkBackend | Mapping[str, object]
"""A backend that is open already, or settings with `type`."""

BUILT_IN: Final = ("thread", "process", "subprocess", "docker")
_GRAMMAR: Final = "begin with a letter or `_`; go on with letters, digits, `_`, `.` and `-`"
INLINE_CAPABILITIES: Final = Capabilities(in_process=True, coroutines=True, barrier=False)
UNOPENED: Final = Capabilities(in_process=True, shell=True, image=True, gpu=True, options=None)
"""Stands for a backend that is not open: the plan is checked again once it is."""


class Host:
    """The backends of an engine, opened when the first graph needs them, and its limits."""

    def __init__(
        self,
        backends: Mapping[str, Given],
        max_parallel: int | None,
        pools: Mapping[str, int],
        resources: Mapping[str, float | str],
    ) -> None:
        for name in (*backends, *pools):
            if not is_name(name):
                message = f"{name!r:.80} cannot name a backend or a pool; {_GRAMMAR}"
                raise ConfigError(message)
        self._given = dict(backends)
        self._parallel = limit("max_parallel", max_parallel)
        self._pools = {
            name: Limit(f"pool {name}", positive(f"pool {name}", size))
            for name, size in pools.items()
        }
        self._resources = _resources(resources)
        self._backend_limits: dict[str, Limit] = {}
        self._opening = anyio.Lock()
        self.stack = AsyncExitStack()
        self.backends: dict[str, Backend | BulkBackend] = {}
        self.capabilities = dict.fromkeys((*BUILT_IN, *self._given), UNOPENED)
        self.capabilities[INLINE] = INLINE_CAPABILITIES

    @property
    def parallel_used(self) -> int:
        """How much of `max_parallel` is in use; 0 where there is no such limit."""
        return int(self._parallel.used) if self._parallel is not None else 0

    async def compile(
        self,
        bound: Bound[object],
        backend: str | None,
        on_error: OnError | None,
        provided: Collection[str] | None,
    ) -> Plan:
        """Compile, open the backends that the plan names, and check against what they can do.

        `provided` None leaves unchecked whether live objects are at hand: to look at a plan.
        """
        async with self._opening:
            while True:
                plan = compile_plan(
                    bound,
                    backends=self.capabilities,
                    backend=backend,
                    on_error=on_error,
                    provided=provided,
                )
                if not await self._open_for(plan):
                    return plan

    async def prepare(self, plan: Plan) -> None:
        """Open what a plan needs that was compiled before: in an earlier run."""
        async with self._opening:
            await self._open_for(plan)

    async def _open_for(self, plan: Plan) -> bool:
        """Open the backends that the plan names; whether there were any to open."""
        new = {spec.backend for spec in plan.tasks} - set(self.backends) - {INLINE}
        for name in sorted(new):
            if name not in self.capabilities:
                message = f"the plan wants the backend {name!r}, which this engine has not"
                raise ConfigError(message)
            await self._open(name)
        if not new:
            self._check_pools(plan)
        return bool(new)

    async def open_all(self) -> dict[str, str]:
        """Open every backend that this engine has; those that cannot be opened, and why.

        A built-in one whose optional part is not installed was never used here: it is left out.
        """
        problems: dict[str, str] = {}
        async with self._opening:
            for name in sorted(self.capabilities.keys() - self.backends.keys() - {INLINE}):
                try:
                    await self._open(name)
                except PluginError as error:
                    if name in self._given:
                        problems[name] = str(error)
                except EnvironmentFault as error:
                    problems[name] = str(error)
        return problems

    async def _open(self, name: str) -> None:
        spec = self._given.get(name, {"type": name})
        if isinstance(spec, Mapping):
            config = await anyio.to_thread.run_sync(create_backend, name, spec)
            backend = await self.stack.enter_async_context(config.open())
        else:
            backend = spec
        self.backends[name] = backend
        self.capabilities[name] = backend.capabilities
        if isinstance(backend, BulkBackend):
            # Enough that no thread waits for the loop, few enough that runs take turns.
            room = backend.limit * 8 + 32
            self._backend_limits[name] = Limit(f"backend {name}", room)
        elif backend.capabilities.concurrency:
            room = backend.capabilities.concurrency
            self._backend_limits[name] = Limit(f"backend {name}", room)

    def _check_pools(self, plan: Plan) -> None:
        for spec in plan.tasks:
            if spec.pool and spec.pool not in self._pools:
                known = ", ".join(sorted(self._pools)) or "none"
                message = (
                    f"task {spec.name} wants pool {spec.pool!r}; pools of this engine: {known}"
                )
                raise ConfigError(message)

    def limits(self, max_parallel: int | None) -> Limits:
        """The limits of one run; `max_parallel` is the run's own."""
        own = limit("max_parallel of the run", max_parallel)
        return Limits(
            parallel=[each for each in (self._parallel, own) if each is not None],
            backends=self._backend_limits,
            pools=self._pools,
            resources=self._resources,
        )


def create_run_log(spec: str | Mapping[str, object]) -> RunLogConfig:
    """The settings behind `spec`; reads files and imports the plug-in, so not in a loop."""
    return create("onready.run_logs", spec, "run_log")


def create_catalog(spec: str | Mapping[str, object]) -> CatalogConfig:
    """As `create_run_log`; loads the codec plug-ins too, which nodes need without waiting."""
    load_plugins()
    return create("onready.catalogs", spec, "catalog")


def create_backend(name: str, spec: Mapping[str, object]) -> BackendConfig:
    """As `create_run_log`, for the backend that is called `name` here."""
    return create("onready.backends", spec, f"backends.{name}")


def limit(name: str, size: int | None) -> Limit | None:
    """A limit of `size`, or none where that is None; ConfigError below 1."""
    return None if size is None else Limit(name, positive(name, size))


def positive(name: str, size: int) -> int:
    """`size`, or ConfigError where it is below 1."""
    if size < 1:
        message = f"{name}: a limit is at least 1, not {size}"
        raise ConfigError(message)
    return size


def _resources(given: Mapping[str, float | str]) -> dict[str, Limit]:
    unknown = set(given) - {"cpu", "memory", "gpu"}
    if unknown:
        message = f"resources: {', '.join(sorted(unknown))}; known are cpu, memory, gpu"
        raise ConfigError(message)
    memory = given.get("memory")
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    sizes = {
        "cpu": float(given.get("cpu", os.cpu_count() or 1)),
        "memory": float(parse_memory(memory) if isinstance(memory, str) else memory or total),
        "gpu": float(given.get("gpu", 0)),
    }
    return {name: Limit(name, size) for name, size in sizes.items()}
