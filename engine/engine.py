"""`Engine`: many graphs in one event loop, over one run log, one catalog and shared backends.

Used as an async context manager, on asyncio or trio. On the way out it cancels what still runs
and leaves nothing behind.

What may not live here: readiness, and any backend or store by name but the defaults' addresses.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypedDict, TypeVar, Unpack

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from onready.engine.dispatcher.admission import INLINE, Limits
from onready.engine.dispatcher.core import Dispatcher, RunOptions, Services
from onready.engine.dispatcher.journal import ENDS, Journal
from onready.engine.dispatcher.lanes import Limit
from onready.engine.errors import (
    ConfigError,
    InternalError,
    NoCodec,
    OnreadyError,
    RunConflict,
    RunNotFound,
    StaleEpoch,
)
from onready.engine.events import (
    AnyEvent,
    NodeFailed,
    NodeLost,
    RunCancelled,
    RunFailed,
    RunStarted,
    RunStatus,
    RunSucceeded,
)
from onready.engine.folders import make_private
from onready.engine.graph import Bound
from onready.engine.logs import LogStore
from onready.engine.names import is_run_id
from onready.engine.options import OnError, parse_memory
from onready.engine.plan.compile import compile_plan
from onready.engine.plan.dump import dump_plan
from onready.engine.plan.inputs import read_inputs
from onready.engine.plan.model import Plan
from onready.engine.plan.select import select_nodes
from onready.engine.registry import create
from onready.engine.run import Run, RunOutcome
from onready.engine.spi import (
    Backend,
    BulkBackend,
    Capabilities,
    Catalog,
    Lease,
    RunFilter,
    RunLog,
    RunRecord,
)
from onready.engine.values import ValueType, bring, needs_bringing, needs_settling, settle
from onready.engine.values.stored import Live, Stored

R = TypeVar("R")

BUILT_IN: Final = ("thread", "process", "subprocess")
INLINE_CAPABILITIES: Final = Capabilities(in_process=True, coroutines=True, barrier=False)
UNOPENED: Final = Capabilities(in_process=True, shell=True, image=True, gpu=True)
"""Stands for a backend that is not open: the plan is checked again once it is."""

CLOSING: Final = 30.0
"""Seconds in which backends and stores close; theirs is the duty to do it much faster."""

LEASE: Final = 30.0
"""Seconds that a driver's lease holds without being renewed; it is renewed three times as often."""


class EngineOptions(TypedDict, total=False):
    """What `Engine(...)` takes; see there."""

    run_log: RunLog | str | None
    catalog: Catalog | str | None
    backends: Mapping[str, Backend | BulkBackend | Mapping[str, object]] | None
    max_parallel: int | None
    pools: Mapping[str, int] | None
    provided: Mapping[str, object] | None
    folder: Path | str
    grace: float
    resources: Mapping[str, float | str] | None


class StartOptions(TypedDict, total=False):
    """What `Engine.start` and `Engine.run` take; see `Engine.start`."""

    id: str | None
    name: str | None
    on_error: OnError | None
    timeout: float | None
    provided: Mapping[str, object] | None
    max_parallel: int | None
    backend: str | None
    select: Sequence[str]
    target: str


class Engine:
    """Runs graphs.

    `run_log` and `catalog` are stores, or addresses (`"sqlite:path"`, `"file:path"`); by default
    both are in `folder` (`./.onready`). `backends` adds to the built-in ones, or replaces them, by
    name: a backend, or settings with `type`. `max_parallel` bounds live attempts over all runs,
    `pools` those of tasks with that `pool`. `provided` are live objects for `Provided(name)`.
    `grace` is how many seconds a cancelled attempt has to end well. `resources` is what local
    attempts may ask for together (`cpu`, `memory`, `gpu`; the machine's processors and memory,
    and no gpu, by default).
    """

    def __init__(
        self,
        *,
        run_log: RunLog | str | None = None,
        catalog: Catalog | str | None = None,
        backends: Mapping[str, Backend | BulkBackend | Mapping[str, object]] | None = None,
        max_parallel: int | None = None,
        pools: Mapping[str, int] | None = None,
        provided: Mapping[str, object] | None = None,
        folder: Path | str = ".onready",
        grace: float = 10.0,
        resources: Mapping[str, float | str] | None = None,
    ) -> None:
        self._folder = Path(folder).absolute()
        self._run_log_given = run_log if run_log is not None else f"sqlite:{self._folder}/runs.db"
        self._catalog_given = catalog if catalog is not None else f"file:{self._folder}/catalog"
        self._backends_given = dict(backends or {})
        self._provided = dict(provided or {})
        self._grace = grace
        self._temporary = False
        self._parallel = _limit("max_parallel", max_parallel)
        self._pools = {
            name: Limit(f"pool {name}", _positive(name, size))
            for name, size in (pools or {}).items()
        }
        self._resources = _resources(resources or {})
        self._backends: dict[str, Backend | BulkBackend] = {}
        self._capabilities: dict[str, Capabilities] = dict.fromkeys(
            (*BUILT_IN, *self._backends_given), UNOPENED
        )
        self._capabilities[INLINE] = INLINE_CAPABILITIES
        self._opening = anyio.Lock()
        self._backend_stack = AsyncExitStack()
        self._backend_limits: dict[str, Limit] = {}
        self._live: dict[str, Run[object]] = {}
        self._signatures: dict[str, tuple[str, Mapping[str, Stored]]] = {}
        self._stored_plans: set[str] = set()
        self._leases: dict[str, Lease] = {}
        self._stack: AsyncExitStack | None = None
        self._tasks: TaskGroup | None = None
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
        self._run_log: RunLog | None = None
        self._catalog: Catalog | None = None
        self.logs = LogStore(self._folder / "logs")

    @classmethod
    def memory(cls, **options: Unpack[EngineOptions]) -> Self:
        """An engine whose runs live and die with it: nothing is left behind.

        Takes what `Engine` takes. What must be a file meanwhile (logs, scratch) is in a private
        temporary folder.
        """
        folder = Path(tempfile.gettempdir()) / f"onready-{secrets.token_hex(8)}"
        settings: EngineOptions = {"run_log": "memory", "catalog": "memory", "folder": folder}
        engine = cls(**(settings | options))
        engine._temporary = "folder" not in options
        return engine

    # --- life ---------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._stack is not None:
            message = "this engine is open already; make one engine per `async with`"
            raise OnreadyError(message)
        stack = self._stack = AsyncExitStack()
        try:
            if self._temporary:
                stack.push_async_callback(_remove, self._folder)
            self._run_log = (
                await stack.enter_async_context(
                    create("onready.run_logs", self._run_log_given, "run_log").open()
                )
                if isinstance(self._run_log_given, str)
                else self._run_log_given
            )
            self._catalog = (
                await stack.enter_async_context(
                    create("onready.catalogs", self._catalog_given, "catalog").open()
                )
                if isinstance(self._catalog_given, str)
                else self._catalog_given
            )
            self._backend_stack = await stack.enter_async_context(AsyncExitStack())
            self._tasks = await anyio.create_task_group().__aenter__()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await stack.aclose()
            raise
        if self._run_log.durable:
            self._tasks.start_soon(self._renew)
        return self

    async def _open_backend(self, name: str) -> None:
        """Open a backend when the first graph needs it: most programs use few of them."""
        assert self._stack is not None
        spec = self._backends_given.get(name, {"type": name})
        if isinstance(spec, Mapping):
            config = create("onready.backends", spec, f"backends.{name}")
            backend = await self._backend_stack.enter_async_context(config.open())
        else:
            backend = spec
        self._backends[name] = backend
        self._capabilities[name] = backend.capabilities
        if isinstance(backend, BulkBackend):
            # Enough that no thread waits for the loop, few enough that runs take turns.
            room = backend.limit * 8 + 32
            self._backend_limits[name] = Limit(f"backend {name}", room)
        elif backend.capabilities.concurrency:
            room = backend.capabilities.concurrency
            self._backend_limits[name] = Limit(f"backend {name}", room)

    async def _compile(
        self,
        bound: Bound[object],
        backend: str | None,
        on_error: OnError | None,
        provided: Collection[str],
    ) -> Plan:
        """Compile, open the backends that the plan names, and check against what they can do."""
        async with self._opening:
            while True:
                plan = compile_plan(
                    bound,
                    backends=self._capabilities,
                    backend=backend,
                    on_error=on_error,
                    provided=provided,
                )
                new = {spec.backend for spec in plan.tasks} - set(self._backends) - {INLINE}
                if not new:
                    return plan
                for name in new:
                    await self._open_backend(name)

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool | None:
        stack, tasks = self._stack, self._tasks
        if stack is None or tasks is None:
            return None
        try:
            if error is None:
                for run in tuple(self._live.values()):
                    await run.cancel("the engine was closed")
        finally:
            # Where the host leaves in a hurry, runs get their grace inside `Dispatcher.drive`.
            tasks.cancel_scope.cancel()
            self._tasks = None
            try:
                # The host's own exception is not given to the group: it would come out wrapped.
                await tasks.__aexit__(None, None, None)
            finally:
                with anyio.move_on_after(CLOSING, shield=True):
                    await stack.__aexit__(kind, error, trace)
        return None

    async def _renew(self) -> None:
        while True:
            await anyio.sleep(LEASE / 3)
            for run, lease in tuple(self._leases.items()):
                try:
                    await self.run_log.renew(lease)
                except StaleEpoch:
                    # The next append is refused: that stops the run, here nothing is done.
                    self._leases.pop(run, None)

    @property
    def run_log(self) -> RunLog:
        """The open run log."""
        if self._run_log is None:
            raise OnreadyError(_CLOSED)
        return self._run_log

    @property
    def catalog(self) -> Catalog:
        """The open catalog."""
        if self._catalog is None:
            raise OnreadyError(_CLOSED)
        return self._catalog

    @property
    def capabilities(self) -> Mapping[str, Capabilities]:
        """The backends of this engine by name, and what they can do."""
        return self._capabilities

    def statistics(self) -> dict[str, int]:
        """Counts for people: live runs, attempts in use of `max_parallel`."""
        used = int(self._parallel.used) if self._parallel is not None else 0
        return {"live_runs": len(self._live), "parallel_used": used}

    # --- runs ---------------------------------------------------------------------------------

    async def run(self, bound: Bound[R], **options: Unpack[StartOptions]) -> R:
        """Run a graph and give its value; options as `start`.

        Raises RunFailed (an exception group with one NodeFailed per failed node) or RunCancelled.
        Where the caller is cancelled, so is the run.
        """
        run = await self.start(bound, **options)
        try:
            return await run.result()
        except anyio.get_cancelled_exc_class():
            with anyio.move_on_after(self._grace + 7.0, shield=True):
                await run.cancel("the caller was cancelled")
            raise

    async def start(  # noqa: PLR0913 - options of a run, all by name
        self,
        bound: Bound[R],
        *,
        id: str | None = None,  # noqa: A002 - the public name
        name: str | None = None,
        on_error: OnError | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the run's limit, not this call's
        provided: Mapping[str, object] | None = None,
        max_parallel: int | None = None,
        backend: str | None = None,
        select: Sequence[str] = (),
        target: str = "",
    ) -> Run[R]:
        """Start a graph; returns once the run is recorded.

        `id` makes it idempotent: the same id with the same plan and inputs gives that run, with
        others RunConflict. `name` is for people. `on_error` overrides the graph's. `timeout` is
        in seconds for the whole run. `provided` adds live objects, `max_parallel` a limit of this
        run's own; `backend` runs every Python task there. `select` runs a part of the graph alone
        (see `engine/plan/select.py`). `target` says where the graph came
        from. Raises GraphError and InputError before anything is recorded.
        """
        objects = self._provided | dict(provided or {})
        self._group()
        plan = await self._compile(bound, backend, on_error, objects.keys())
        plan = select_nodes(plan, select)
        self._check_pools(plan)
        inputs = await self._settled(read_inputs(plan, bound.inputs))
        if id is not None:
            known = await self._known(id, plan, inputs)
            if known is not None:
                return known  # type: ignore[return-value] # same plan, same type
        run_id = id or _new_id()
        lease = await self.run_log.lease(run_id, self._owner, LEASE)
        run_name = name or _friendly_name()
        await self._store_plan(plan)
        started = RunStarted(
            0, time.time(), plan.name, run_name, plan.fingerprint, inputs,
            plan.on_error, target, lease.epoch,
        )  # fmt: skip
        journal = Journal(self.run_log, run_id, lease.epoch)
        dispatcher = Dispatcher(
            run_id,
            lease.epoch,
            plan,
            RunOptions(
                started, inputs, objects, timeout if timeout is not None else plan.timeout, self._grace
            ),
            self._services(),
            journal,
            self._backends,
            self._limits(max_parallel),
        )
        run: Run[R] = Run(run_id, run_name, plan, journal.events, dispatcher, self._grace)
        self._live[run_id] = run
        self._signatures[run_id] = (plan.fingerprint, inputs)
        self._leases[run_id] = lease
        self._group().start_soon(self._drive, run, dispatcher, lease)
        await journal.recorded(1)
        return run

    async def _drive(self, run: Run[R], dispatcher: Dispatcher, lease: Lease) -> None:
        error: BaseException | None = None
        try:
            await dispatcher.drive()
        except Exception as raised:  # noqa: BLE001 - it is the run's, and its holder's to see
            error = raised
        finally:
            with anyio.move_on_after(5.0, shield=True):
                self._leases.pop(run.id, None)
                await self._finish(run, dispatcher, error)
                if not isinstance(error, StaleEpoch):
                    await self.run_log.release(lease)

    async def _finish(
        self, run: Run[R], dispatcher: Dispatcher, error: BaseException | None
    ) -> None:
        value: object = None
        status = dispatcher.status
        if status == "running":
            status = "interrupted"
        if status == "succeeded":
            try:
                value = await self._value(run.plan, dispatcher.result, run.id)
            except Exception as raised:  # noqa: BLE001 - shown to whoever asks for the value
                error, status = raised, "interrupted"
        run.finish(
            RunOutcome(
                run.id, status, value, tuple(dispatcher.failures),
                dispatcher.options.started.at, time.time(), dispatcher.reason, error,
            )  # fmt: skip
        )
        self._live.pop(run.id, None)

    async def _value(self, plan: Plan, stored: Stored, run: str) -> object:
        if isinstance(stored, Live):
            return stored.value
        if needs_bringing(stored):
            stored = await bring(stored, self.catalog, self._folder / "results" / run)
        reader = ValueType.any() if plan.result_type is None else ValueType.of(plan.result_type)
        return reader.decode(stored)

    # --- starting -----------------------------------------------------------------------------

    def _group(self) -> TaskGroup:
        if self._tasks is None:
            raise OnreadyError(_CLOSED)
        return self._tasks

    def _services(self) -> Services:
        return Services(self.catalog, self.logs, self._folder, self.run_log.durable)

    def _limits(self, max_parallel: int | None) -> Limits:
        own = _limit("max_parallel of the run", max_parallel)
        return Limits(
            parallel=[limit for limit in (self._parallel, own) if limit is not None],
            backends=self._backend_limits,
            pools=self._pools,
            resources=self._resources,
        )

    def _check_pools(self, plan: Plan) -> None:
        for spec in plan.tasks:
            if spec.pool and spec.pool not in self._pools:
                known = ", ".join(sorted(self._pools)) or "none"
                message = f"task {spec.name} wants pool {spec.pool!r}; pools of this engine: {known}"
                raise ConfigError(message)

    async def _settled(self, inputs: Mapping[str, Stored]) -> dict[str, Stored]:
        settled: dict[str, Stored] = {}
        for name, value in inputs.items():
            if isinstance(value, Live):
                if self.run_log.durable:
                    # Again, for its message: it names the type and the three cures.
                    try:
                        ValueType.any().encode(value.value)
                    except NoCodec as error:
                        message = f"input {name!r}: {error}"
                        raise NoCodec(message) from None
                settled[name] = value
            else:
                large = needs_settling(value)
                settled[name] = await settle(value, self.catalog) if large else value
        return settled

    async def _store_plan(self, plan: Plan) -> None:
        if self.run_log.durable and plan.fingerprint not in self._stored_plans:
            body = await anyio.to_thread.run_sync(dump_plan, plan)
            await self.catalog.put_if_absent(f"plans/{plan.fingerprint}.json", body)
            self._stored_plans.add(plan.fingerprint)

    async def _known(
        self, run_id: str, plan: Plan, inputs: Mapping[str, Stored]
    ) -> Run[object] | None:
        """The run that has this id already, if its plan and inputs are the same."""
        if not is_run_id(run_id):
            message = f"not a run id: {run_id!r}; use letters, digits, '.', '_' and '-', at most 128"
            raise ConfigError(message)
        live = self._live.get(run_id)
        if live is not None:
            self._same(run_id, self._signatures[run_id], plan, inputs)
            return live
        first, last, failures = await self._ends_of(run_id)
        if first is None:
            return None
        self._same(run_id, (first.fingerprint, first.inputs), plan, inputs)
        if last is None:
            message = f"run {run_id} was interrupted, and resuming is not part of this release"
            raise RunConflict(message)
        return await self._ended_run(run_id, plan, first, last, failures)

    def _same(
        self,
        run_id: str,
        known: tuple[str, Mapping[str, Stored]],
        plan: Plan,
        inputs: Mapping[str, Stored],
    ) -> None:
        fingerprint, values = known
        if fingerprint != plan.fingerprint:
            message = f"run {run_id} exists with another plan; give this one another id"
            raise RunConflict(message)
        if dict(values) != dict(inputs):
            message = f"run {run_id} exists with other inputs; give this one another id"
            raise RunConflict(message)

    async def _ends_of(
        self, run_id: str
    ) -> tuple[RunStarted | None, RunSucceeded | RunFailed | RunCancelled | None, list[NodeFailed | NodeLost]]:
        first: RunStarted | None = None
        last: RunSucceeded | RunFailed | RunCancelled | None = None
        bad: list[NodeFailed | NodeLost] = []
        async for batch in self.run_log.read(run_id):
            for event in batch:
                if isinstance(event, RunStarted):
                    first = event
                elif isinstance(event, ENDS):
                    last = event
                elif isinstance(event, (NodeFailed, NodeLost)):
                    bad.append(event)
        return first, last, bad

    async def _ended_run(
        self,
        run_id: str,
        plan: Plan,
        first: RunStarted,
        last: RunSucceeded | RunFailed | RunCancelled,
        bad: Sequence[NodeFailed | NodeLost],
    ) -> Run[object]:
        run: Run[object] = Run(
            run_id, first.name, plan, lambda after: self.history(run_id, after), None, self._grace
        )
        value: object = None
        status: RunStatus = "cancelled"
        if isinstance(last, RunSucceeded):
            status = "succeeded"
            value = await self._value(plan, last.value, run_id)
        elif isinstance(last, RunFailed):
            status = "failed"
        failures = tuple(event.failure for event in bad)
        reason = "" if isinstance(last, RunSucceeded) else last.reason
        run.finish(RunOutcome(run_id, status, value, failures, first.at, last.at, reason))
        return run

    # --- looking ------------------------------------------------------------------------------

    async def runs(self, query: RunFilter | None = None) -> Sequence[RunRecord]:
        """Runs in the run log, newest first."""
        return await self.run_log.runs(query or RunFilter())

    async def find(self, text: str) -> RunRecord:
        """The run that `text` names: an id, a unique prefix of one, a friendly name, `last`.

        RunNotFound where there is none, or more than one.
        """
        if text == "last":
            newest = await self.run_log.runs(RunFilter(limit=1))
            if newest:
                return newest[0]
            message = "there are no runs yet"
            raise RunNotFound(message)
        found = await self.run_log.runs(RunFilter(prefix=text, limit=20))
        exact = [record for record in found if text in (record.run, record.name)]
        matches = exact or list(found)
        if len(matches) == 1 or (exact and exact[0].name == text):
            # Friendly names may come again: the newest of that name is meant.
            return matches[0]
        if not matches:
            message = f"no run is called {text!r}"
            raise RunNotFound(message)
        names = ", ".join(f"{record.run} ({record.name})" for record in matches[:5])
        message = f"{text!r} fits {len(matches)} runs: {names}"
        raise RunNotFound(message)

    async def history(self, run: str, after: int = 0) -> AsyncIterator[AnyEvent]:
        """What is recorded of a run by now, from `after` on; ends where the record ends."""
        async for batch in self.run_log.read(run, after):
            for event in batch:
                yield event


_CLOSED: Final = "this engine is not open: use `async with Engine(...) as engine:`"


def _limit(name: str, size: int | None) -> Limit | None:
    return None if size is None else Limit(name, _positive(name, size))


def _positive(name: str, size: int) -> int:
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


def _new_id() -> str:
    """A run id that sorts by time: seconds in UTC, and 40 random bits."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(5)}"


def _friendly_name() -> str:
    from coolname import generate_slug  # noqa: PLC0415 - reads its word lists at import

    return f"{generate_slug(2)}-{secrets.randbelow(100)}"


async def _remove(folder: Path) -> None:
    await anyio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))
