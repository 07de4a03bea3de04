"""`Engine`: many graphs in one event loop, over one run log, one catalog and shared backends.

Used as an async context manager, on asyncio or trio. On the way out it cancels what still runs
and leaves nothing behind.

What may not live here: readiness, and any backend or store by name but the defaults' addresses.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypedDict, TypeVar, Unpack

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from onready.engine.cache import Answer, Cache, explain
from onready.engine.cancelling import ask, new_request
from onready.engine.dispatcher.core import RunOptions
from onready.engine.driving import Driving, Surroundings
from onready.engine.errors import (
    ConfigError,
    NoCodec,
    OnreadyError,
    RunLeaseHeld,
)
from onready.engine.events import AnyEvent, RunResumed, RunStarted
from onready.engine.graph import Bound
from onready.engine.host import Given, Host, create_catalog, create_run_log
from onready.engine.keeper import Keeper, check_lease
from onready.engine.logs import LogStore
from onready.engine.lookup import Summary, find_run, summarise_run
from onready.engine.names import is_run_id
from onready.engine.naming import check_same, friendly_name, new_id
from onready.engine.options import OnError
from onready.engine.owner import new_owner
from onready.engine.plan.dump import dump_plan
from onready.engine.plan.inputs import read_inputs
from onready.engine.plan.model import Plan
from onready.engine.plan.select import select_nodes
from onready.engine.resuming import (
    Continuation,
    check_continues,
    node_keys,
    plan_in_force,
    read_history,
    read_on,
    take_over,
)
from onready.engine.run import Run, RunOutcome
from onready.engine.secrets import SecretProviders, given_specs
from onready.engine.spi import Capabilities, Catalog, RunFilter, RunLog, RunRecord
from onready.engine.sweeping import Swept, forget_outputs, sweep
from onready.engine.values import ValueType, needs_settling, settle
from onready.engine.values.stored import Live, Stored

R = TypeVar("R")

CLOSING: Final = 30.0
"""Seconds in which backends and stores close; theirs is the duty to do it much faster."""

LEASE: Final = 30.0
"""Seconds that a driver's lease holds without being renewed, where `Engine` is not told."""


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
    lease: float
    secrets: Sequence[str | Mapping[str, object]] | None


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
    cache: bool


@dataclass(frozen=True, slots=True)
class _Options:
    """The options of one start that are checked already."""

    name: str | None
    timeout: float | None
    max_parallel: int | None
    target: str
    provided: Mapping[str, object]
    backend: str = ""
    select: tuple[str, ...] = ()
    cache: bool = True


class Engine:
    """Runs graphs.

    `run_log` and `catalog` are stores, addresses (`"sqlite:path"`), or settings with `type`; by
    default both are in `folder` (`./.onready`). `backends` adds to the built-in ones, or replaces
    them, by name: a backend, or settings with `type`. `max_parallel` bounds live attempts over all
    runs, `pools` those of tasks with that `pool`. `provided` are live objects for `Provided(name)`.
    `grace` is how many seconds a cancelled attempt has to end well. `resources` is what local
    attempts may ask for together (`cpu`, `memory`, `gpu`; the machine's processors and memory,
    and no gpu, by default). `lease` is for how many seconds nobody else may drive a run of ours
    when this process is gone or suspended (0.1 to 3600; it is renewed long before it is over).
    `secrets` are the providers of `Secret(name)` in the order in which they are asked: addresses
    or settings with `type`, the environment (`["env"]`) by default.
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
        lease: float = LEASE,
        secrets: Sequence[str | Mapping[str, object]] | None = None,
    ) -> None:
        self._folder = Path(folder).absolute()
        self._run_log_given = run_log if run_log is not None else f"sqlite:{self._folder}/runs.db"
        self._catalog_given = catalog if catalog is not None else f"file:{self._folder}/catalog"
        self._host = Host(backends or {}, max_parallel, pools or {}, resources or {})
        self._provided = dict(provided or {})
        self._secrets = SecretProviders(given_specs(secrets))
        self._secrets_given = secrets is not None
        self._grace = grace
        self._lease = check_lease(lease)
        self._keeper = Keeper(None, lease)
        self._temporary = False
        self._drives: Driving | None = None
        self._stored_plans: set[str] = set()
        self._naming = anyio.Lock()
        self._stack: AsyncExitStack | None = None
        self._tasks: TaskGroup | None = None
        self._owner = ""
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
            # In a thread: it reads what the system says of this process.
            self._owner = await anyio.to_thread.run_sync(new_owner)
            stack.push_async_callback(self._close_secrets)
            if self._secrets_given:
                await anyio.to_thread.run_sync(self._secrets.open)
            self._run_log = await self._open_run_log(stack)
            self._catalog = await self._open_catalog(stack)
            await stack.enter_async_context(self._host.stack)
            tasks = self._tasks = await anyio.create_task_group().__aenter__()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await stack.aclose()
            raise
        self._drives = Driving(
            Surroundings(
                self._run_log,
                self._catalog,
                self._host.backends,
                self.logs,
                self._folder,
                self._grace,
                self._keeper,
                self._secrets,
            ),
            tasks,
        )
        if self._run_log.durable:
            tasks.start_soon(self._keeper.watch, self._run_log)
            if self._catalog.durable:
                tasks.start_soon(self._drives.listener.listen, self._catalog)
        return self

    async def _close_secrets(self) -> None:
        if self._secrets.is_open:
            await anyio.to_thread.run_sync(self._secrets.close)

    async def _open_run_log(self, stack: AsyncExitStack) -> RunLog:
        given = self._run_log_given
        if not isinstance(given, (str, Mapping)):
            return given
        # In a thread: looking for plug-ins reads files, and loading one imports its modules.
        config = await anyio.to_thread.run_sync(create_run_log, given)
        run_log = await stack.enter_async_context(config.open())
        if run_log.durable:
            self._keeper = Keeper(config.open, self._lease)
            stack.push_async_callback(self._keeper.close)
        return run_log

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
                for live in tuple(self._driving().live.values()):
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
        return {
            "live_runs": len(self._drives.live) if self._drives else 0,
            "parallel_used": self._host.parallel_used,
        }

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
        cache: bool = True,
    ) -> Run[R]:
        """Start a graph; returns once the run is recorded.

        `id` makes it idempotent: the same id with the same plan and inputs gives that run, with
        others RunConflict. `name` is for people. `on_error` overrides the graph's. `timeout` is
        in seconds for the whole run. `provided` adds live objects, `max_parallel` a limit of this
        run's own; `backend` runs every Python task there. `select` runs a part of the graph alone
        (see `engine/plan/select.py`). `target` says where the graph came from. `cache` False runs
        cached tasks like others, and keeps nothing of them. Raises GraphError and InputError
        before anything is recorded.
        """
        self._driving()
        objects = self._provided | dict(provided or {})
        plan = await self._host.compile(bound, backend, on_error, objects.keys())
        plan = select_nodes(plan, select)
        inputs = await self._settled(read_inputs(plan, bound.inputs))
        selected = tuple(select)
        options = _Options(
            name, timeout, max_parallel, target, objects, backend or "", selected, cache
        )
        if id is None:
            return await self._begin(new_id(), plan, inputs, options)
        async with self._naming:
            known, recorded = await self._known(id, plan, inputs)
            if known is not None:
                return known  # type: ignore[return-value] # the same plan gives the same type
            if recorded:
                return await self._continue(id, bound, Continuation(), options)
            return await self._begin(id, plan, inputs, options)

    async def cancel(self, run: str, reason: str = "", grace: float | None = None) -> bool:
        """Cancel the run with this id, whoever drives it; `grace` as `Run.cancel`.

        A run of this engine has ended when this returns. Another's driver finds the request in
        the catalog within about a second, and its events tell when it has ended; a run that was
        interrupted is cancelled as soon as somebody resumes it. False where the run had ended
        already; RunNotFound where there is none. Asked again with less grace, that counts.
        """
        request = new_request(reason, grace, self._owner)
        live = self._driving().live.get(run)
        if live is None:
            return await ask(self.run_log, self.catalog, run, request)
        await live.run.cancel(reason, grace)
        return True

    async def resume(
        self,
        run: str,
        bound: Bound[R] | None = None,
        *,
        accept_drift: bool = False,
        provided: Mapping[str, object] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the run's limit, not this call's
        max_parallel: int | None = None,
    ) -> Run[R]:
        """Go on with a run whose driver died or was interrupted; returns once that is recorded.

        `run` is as in `find`. Without `bound` the plan comes from the catalog and its functions
        by their references; with it, the graph as it is now is used (and its result is read by
        its annotation). What has succeeded is not run again; attempts that were live are asked
        after. The other options are those of `start`, for the rest of the run.

        Raises RunNotFound, RunLeaseHeld (somebody drives it), RunConflict (it has ended),
        PlanDrift (graph or code changed, and `accept_drift` was not said).
        """
        how = Continuation(accept_drift=accept_drift)
        options = self._options(provided, timeout, max_parallel)
        return await self._continue((await self.find(run)).run, bound, how, options)

    async def retry(
        self,
        run: str,
        bound: Bound[R] | None = None,
        *,
        start: Sequence[str] = (),
        accept_drift: bool = False,
        provided: Mapping[str, object] | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the run's limit, not this call's
        max_parallel: int | None = None,
    ) -> Run[R]:
        """Go on with a run that failed or was cancelled: as `resume`, the same run.

        Nodes that succeeded are kept, the others run again under new attempt numbers. `start`
        are keys of nodes that run again even so, with all that needs them; with it, a run that
        succeeded goes on too. RunConflict where there is nothing to try again.
        """
        how = Continuation(retry=True, redo=node_keys(start), accept_drift=accept_drift)
        options = self._options(provided, timeout, max_parallel)
        return await self._continue((await self.find(run)).run, bound, how, options)

    def _options(
        self,
        provided: Mapping[str, object] | None,
        timeout: float | None,
        max_parallel: int | None,
    ) -> _Options:
        self._driving()
        objects = self._provided | dict(provided or {})
        return _Options(None, timeout, max_parallel, "", objects)

    async def _continue(
        self, run_id: str, bound: Bound[R] | None, how: Continuation, options: _Options
    ) -> Run[R]:
        if run_id in self._driving().live:
            message = f"run {run_id} is driven by this engine"
            raise RunLeaseHeld(message)
        history = await read_history(self.run_log, run_id)
        check_continues(run_id, history, how)
        objects = options.provided.keys()
        plan = await plan_in_force(self._host, self.catalog, run_id, history, bound, how, objects)
        limits = self._host.limits(options.max_parallel)
        await self._store_plan(plan)
        lease = await take_over(self.run_log, run_id, self._owner, self._lease)
        try:
            await read_on(self.run_log, run_id, history)
            check_continues(run_id, history, how)
        except BaseException:
            with anyio.move_on_after(CLOSING, shield=True):
                await self.run_log.release(lease)
            raise
        changed = plan.fingerprint if plan.fingerprint != history.fingerprint else ""
        if how.retry:
            history.forget_failures(how.redo)
        resumed = RunResumed(0, time.time(), lease.epoch, self._owner, how.retry, how.redo, changed)
        timeout = plan.timeout if options.timeout is None else options.timeout
        inputs = history.first.inputs
        run_options = RunOptions(
            history.first, inputs, options.provided, timeout, self._grace, resumed, history
        )
        return await self._driving().launch(run_id, plan, run_options, lease, limits, history.last)

    async def _begin(
        self, run_id: str, plan: Plan, inputs: Mapping[str, Stored], options: _Options
    ) -> Run[R]:
        limits = self._host.limits(options.max_parallel)
        await self._store_plan(plan)
        name = options.name or await friendly_name()
        # Last of all that may fail or wait: a lease that nobody drives keeps others out.
        lease = await take_over(self.run_log, run_id, self._owner, self._lease)
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
            backend=options.backend,
            select=options.select,
            cache=options.cache,
        )
        timeout = plan.timeout if options.timeout is None else options.timeout
        run_options = RunOptions(started, inputs, options.provided, timeout, self._grace)
        return await self._driving().launch(run_id, plan, run_options, lease, limits, 0)

    # --- starting -----------------------------------------------------------------------------

    def _driving(self) -> Driving:
        if self._tasks is None or self._drives is None:
            raise OnreadyError(_CLOSED)
        return self._drives

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
    ) -> tuple[Run[object] | None, bool]:
        """The run that has this id already, if its plan and inputs are the same.

        And whether something is recorded under the id: then, without a run, it was interrupted.
        """
        if not is_run_id(run_id):
            message = (
                f"not a run id: {run_id!r}; use letters, digits, '.', '_' and '-', at most 128"
            )
            raise ConfigError(message)
        live = self._driving().live.get(run_id)
        if live is not None:
            check_same(run_id, live.run.plan.fingerprint, live.inputs, plan, inputs)
            return live.run, True
        summary = await summarise_run(self.run_log, run_id)
        if summary is None:
            return None, False
        first = summary.first
        check_same(run_id, first.fingerprint, first.inputs, plan, inputs)
        if summary.last is None:
            return None, True
        return await self._ended_run(run_id, plan, summary), True

    async def _ended_run(self, run_id: str, plan: Plan, summary: Summary) -> Run[object]:
        first, last = summary.first, summary.last
        run: Run[object] = Run(
            run_id, first.name, plan, lambda after: self.history(run_id, after), None, self._grace
        )
        value: object = None
        if summary.status == "succeeded":
            value = await self._driving().value(plan, summary.value, run_id)
        run.finish(
            RunOutcome(
                run=run_id,
                status=summary.status,
                value=value,
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

    async def sweep(self, *, dry_run: bool = False, outputs_before: float | None = None) -> Swept:
        """Remove what drivers that died have left: attempts on backends, work folders, drafts.

        Only of runs in this run log that nobody drives; see `engine/sweeping.py`. With
        `outputs_before` (UTC seconds) the output files of runs that ended earlier go, too. Events
        stay always. `dry_run` only says what would be removed. Backends that cannot be asked are
        in `problems` of the answer.
        """
        problems = await self._host.open_all()
        backends, owner = self._host.backends, await anyio.to_thread.run_sync(new_owner)
        swept = await sweep(backends, self.run_log, self._folder, owner, dry_run=dry_run)
        if outputs_before is not None:
            logs = self.logs.folder
            await forget_outputs(self.run_log, logs, owner, outputs_before, swept, dry_run=dry_run)
        swept.problems |= problems
        return swept

    async def history(self, run: str, after: int = 0) -> AsyncIterator[AnyEvent]:
        """What is recorded of a run by now, from `after` on; ends where the record ends."""
        async for batch in self.run_log.read(run, after):
            for event in batch:
                yield event

    @property
    def cache(self) -> Cache:
        """The values of cached tasks in the catalog: to list and to clear."""
        return Cache(self.catalog)

    async def explain_cache(self, run: str, node: str) -> Answer:
        """Why the node with that key was, or was not, taken from the cache in the run with that id.

        ConfigError where the text is no node's key.
        """
        (key,) = node_keys([node])
        return await explain(self.cache, self.history(run), run, key)


_CLOSED: Final = "this engine is not open: use `async with Engine(...) as engine:`"


async def _remove(folder: Path) -> None:
    await anyio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))
