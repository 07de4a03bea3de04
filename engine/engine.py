"""`Engine`: many graphs in one event loop, over one run log, one catalog and shared backends.

Used as an async context manager, on asyncio or trio. On the way out it cancels what still runs
and leaves nothing behind.

What may not live here: readiness, and any backend or store by name but the defaults' addresses.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypedDict, TypeVar, Unpack

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from onready.engine.dispatcher.core import Dispatcher, RunOptions, Services
from onready.engine.dispatcher.journal import Journal
from onready.engine.errors import ConfigError, NoCodec, OnreadyError, RunConflict, StaleEpoch
from onready.engine.events import AnyEvent, RunStarted
from onready.engine.folders import make_private
from onready.engine.graph import Bound
from onready.engine.host import Given, Host, create_catalog, create_run_log
from onready.engine.logs import LogStore
from onready.engine.lookup import Summary, find_run, summarise_run
from onready.engine.names import is_run_id
from onready.engine.options import OnError
from onready.engine.plan.dump import dump_plan
from onready.engine.plan.inputs import read_inputs
from onready.engine.plan.model import Plan
from onready.engine.plan.select import select_nodes
from onready.engine.run import Run, RunOutcome
from onready.engine.spi import Capabilities, Catalog, Lease, RunFilter, RunLog, RunRecord
from onready.engine.values import ValueType, bring, needs_bringing, needs_settling, settle
from onready.engine.values.stored import Live, Stored

R = TypeVar("R")

CLOSING: Final = 30.0
"""Seconds in which backends and stores close; theirs is the duty to do it much faster."""

LEASE: Final = 30.0
"""Seconds that a driver's lease holds without being renewed; it is renewed three times as often."""


class EngineOptions(TypedDict, total=False):
    """What `Engine(...)` takes; see there."""

    run_log: RunLog | str | Mapping[str, object] | None
    catalog: Catalog | str | Mapping[str, object] | None
    backends: Mapping[str, Given] | None
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


@dataclass(slots=True)
class _Live:
    """A run that this engine drives."""

    run: Run[object]
    inputs: Mapping[str, Stored]
    lease: Lease


@dataclass(frozen=True, slots=True)
class _Options:
    """The options of one start that are checked already."""

    name: str | None
    timeout: float | None
    max_parallel: int | None
    target: str
    provided: Mapping[str, object]


class Engine:
    """Runs graphs.

    `run_log` and `catalog` are stores, addresses (`"sqlite:path"`), or settings with `type`; by
    default both are in `folder` (`./.onready`). `backends` adds to the built-in ones, or replaces
    them, by name: a backend, or settings with `type`. `max_parallel` bounds live attempts over all
    runs, `pools` those of tasks with that `pool`. `provided` are live objects for `Provided(name)`.
    `grace` is how many seconds a cancelled attempt has to end well. `resources` is what local
    attempts may ask for together (`cpu`, `memory`, `gpu`; the machine's processors and memory,
    and no gpu, by default).
    """

    def __init__(
        self,
        *,
        run_log: RunLog | str | Mapping[str, object] | None = None,
        catalog: Catalog | str | Mapping[str, object] | None = None,
        backends: Mapping[str, Given] | None = None,
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
        self._host = Host(backends or {}, max_parallel, pools or {}, resources or {})
        self._provided = dict(provided or {})
        self._grace = grace
        self._temporary = False
        self._live: dict[str, _Live] = {}
        self._stored_plans: set[str] = set()
        self._naming = anyio.Lock()
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
            self._run_log = await self._open_run_log(stack)
            self._catalog = await self._open_catalog(stack)
            await stack.enter_async_context(self._host.stack)
            self._tasks = await anyio.create_task_group().__aenter__()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await stack.aclose()
            raise
        if self._run_log.durable:
            self._tasks.start_soon(self._renew)
        return self

    async def _open_run_log(self, stack: AsyncExitStack) -> RunLog:
        given = self._run_log_given
        if not isinstance(given, (str, Mapping)):
            return given
        # In a thread: looking for plug-ins reads files, and loading one imports its modules.
        config = await anyio.to_thread.run_sync(create_run_log, given)
        return await stack.enter_async_context(config.open())

    async def _open_catalog(self, stack: AsyncExitStack) -> Catalog:
        given = self._catalog_given
        if not isinstance(given, (str, Mapping)):
            return given
        config = await anyio.to_thread.run_sync(create_catalog, given)
        return await stack.enter_async_context(config.open())

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
                for live in tuple(self._live.values()):
                    await live.run.cancel("the engine was closed")
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
            for live in tuple(self._live.values()):
                # Where the lease is another's by now, the next append is refused, and that
                # refusal stops the run: here there is nothing to do.
                with contextlib.suppress(StaleEpoch):
                    await self.run_log.renew(live.lease)

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
        return self._host.capabilities

    def statistics(self) -> dict[str, int]:
        """Counts for people: live runs, attempts in use of `max_parallel`."""
        return {"live_runs": len(self._live), "parallel_used": self._host.parallel_used}

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

    async def start(
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
        self._group()
        objects = self._provided | dict(provided or {})
        plan = await self._host.compile(bound, backend, on_error, objects.keys())
        plan = select_nodes(plan, select)
        inputs = await self._settled(read_inputs(plan, bound.inputs))
        options = _Options(name, timeout, max_parallel, target, objects)
        if id is None:
            return await self._begin(_new_id(), plan, inputs, options)
        async with self._naming:
            known = await self._known(id, plan, inputs)
            # type: the same plan gives the same type.
            return known or await self._begin(id, plan, inputs, options)  # type: ignore[return-value]

    async def _begin(
        self, run_id: str, plan: Plan, inputs: Mapping[str, Stored], options: _Options
    ) -> Run[R]:
        limits = self._host.limits(options.max_parallel)
        await self._store_plan(plan)
        name = options.name or await _friendly_name()
        # Last of all that may fail or wait: a lease that nobody drives keeps others out.
        lease = await self.run_log.lease(run_id, self._owner, LEASE)
        started = RunStarted(
            seq=0,
            at=time.time(),
            graph=plan.name,
            name=name,
            fingerprint=plan.fingerprint,
            inputs=dict(inputs),
            on_error=plan.on_error,
            target=options.target,
            epoch=lease.epoch,
        )
        timeout = plan.timeout if options.timeout is None else options.timeout
        journal = Journal(self.run_log, run_id, lease.epoch)
        dispatcher = Dispatcher(
            run_id,
            lease.epoch,
            plan,
            RunOptions(started, inputs, options.provided, timeout, self._grace),
            Services(self.catalog, self.logs, self._folder, self.run_log.durable),
            journal,
            self._host.backends,
            limits,
        )
        run: Run[R] = Run(run_id, started.name, plan, journal.events, dispatcher, self._grace)
        self._live[run_id] = _Live(run, inputs, lease)
        self._group().start_soon(self._drive, run, dispatcher, lease)
        try:
            await journal.recorded(1)
        except anyio.get_cancelled_exc_class():
            # Nobody will ever hold this run.
            with anyio.move_on_after(self._grace + 7.0, shield=True):
                await run.cancel("its start was cancelled")
            raise
        return run

    async def _drive(self, run: Run[R], dispatcher: Dispatcher, lease: Lease) -> None:
        error: BaseException | None = None
        try:
            await dispatcher.drive()
        except Exception as raised:  # noqa: BLE001 - it is the run's, and its holder's to see
            error = raised
        finally:
            with anyio.move_on_after(5.0, shield=True):
                await self._finish(run, dispatcher, error)
                if not isinstance(error, StaleEpoch):
                    await self.run_log.release(lease)

    async def _finish(
        self, run: Run[R], dispatcher: Dispatcher, error: BaseException | None
    ) -> None:
        value: object = None
        status = "interrupted" if dispatcher.status == "running" else dispatcher.status
        if status == "succeeded":
            try:
                value = await self._value(run.plan, dispatcher.result, run.id)
            except Exception as raised:  # noqa: BLE001 - shown to whoever asks for the value
                error, status = raised, "interrupted"
        run.finish(
            RunOutcome(
                run=run.id,
                status=status,
                value=value,
                failures=tuple(dispatcher.failures),
                started=dispatcher.options.started.at,
                ended=time.time(),
                reason=dispatcher.reason,
                error=error,
            )
        )
        self._live.pop(run.id, None)

    async def _value(self, plan: Plan, stored: Stored, run: str) -> object:
        if isinstance(stored, Live):
            return stored.value
        if needs_bringing(stored):
            folder = self._folder / "results" / run
            await anyio.to_thread.run_sync(make_private, folder)
            stored = await bring(stored, self.catalog, folder)
        reader = ValueType.any() if plan.result_type is None else ValueType.of(plan.result_type)
        return reader.decode(stored)

    # --- starting -----------------------------------------------------------------------------

    def _group(self) -> TaskGroup:
        if self._tasks is None:
            raise OnreadyError(_CLOSED)
        return self._tasks

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
            message = (
                f"not a run id: {run_id!r}; use letters, digits, '.', '_' and '-', at most 128"
            )
            raise ConfigError(message)
        live = self._live.get(run_id)
        if live is not None:
            _same(run_id, live.run.plan.fingerprint, live.inputs, plan, inputs)
            return live.run
        summary = await summarise_run(self.run_log, run_id)
        if summary is None:
            return None
        first = summary.first
        _same(run_id, first.fingerprint, first.inputs, plan, inputs)
        if summary.last is None:
            message = f"run {run_id} was interrupted, and resuming is not part of this release"
            raise RunConflict(message)
        return await self._ended_run(run_id, plan, summary)

    async def _ended_run(self, run_id: str, plan: Plan, summary: Summary) -> Run[object]:
        first, last = summary.first, summary.last
        run: Run[object] = Run(
            run_id, first.name, plan, lambda after: self.history(run_id, after), None, self._grace
        )
        succeeded = summary.status == "succeeded"
        run.finish(
            RunOutcome(
                run=run_id,
                status=summary.status,
                value=await self._value(plan, summary.value, run_id) if succeeded else None,
                failures=tuple(summary.failures),
                started=first.at,
                ended=last.at if last is not None else first.at,
                reason=summary.reason,
            )
        )
        return run

    # --- looking ------------------------------------------------------------------------------

    async def runs(self, query: RunFilter | None = None) -> Sequence[RunRecord]:
        """Runs in the run log, newest first."""
        return await self.run_log.runs(query or RunFilter())

    async def find(self, text: str) -> RunRecord:
        """The run that `text` names: an id, a unique prefix of one, a friendly name, `last`.

        RunNotFound where there is none, or more than one.
        """
        return await find_run(self.run_log, text)

    async def history(self, run: str, after: int = 0) -> AsyncIterator[AnyEvent]:
        """What is recorded of a run by now, from `after` on; ends where the record ends."""
        async for batch in self.run_log.read(run, after):
            for event in batch:
                yield event


_CLOSED: Final = "this engine is not open: use `async with Engine(...) as engine:`"


def _same(
    run_id: str,
    fingerprint: str,
    values: Mapping[str, Stored],
    plan: Plan,
    inputs: Mapping[str, Stored],
) -> None:
    what = "plan" if fingerprint != plan.fingerprint else ""
    what = what or ("inputs" if dict(values) != dict(inputs) else "")
    if what:
        message = f"run {run_id} exists with another {what}; give this one another id"
        raise RunConflict(message)


def _new_id() -> str:
    """A run id that sorts by time: seconds in UTC, and 40 random bits."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(5)}"


async def _friendly_name() -> str:
    if "coolname" not in sys.modules:
        # In a thread: its import reads word lists.
        await anyio.to_thread.run_sync(import_module, "coolname")
    from coolname import generate_slug

    return f"{generate_slug(2)}-{secrets.randbelow(100)}"


async def _remove(folder: Path) -> None:
    await anyio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))
