"""`Engine`: many graphs in one event loop, over one run log, one catalog and shared backends.

Used as an async context manager, on asyncio or trio. On the way out it cancels what still runs
and leaves nothing behind.

What may not live here: readiness, and any backend or store by name but the defaults' addresses.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Final, Self, TypedDict, TypeVar, Unpack

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from onready.engine.cache import Answer, Cache, explain
from onready.engine.cancelling import ask, new_request
from onready.engine.driving import Driving, Surroundings
from onready.engine.errors import (
    OnreadyError,
)
from onready.engine.events import AnyEvent
from onready.engine.graph import Bound
from onready.engine.host import Given, Host, create_catalog, create_run_log
from onready.engine.keeper import Keeper, check_lease
from onready.engine.launching import CLOSING, Launching, Options
from onready.engine.logs import LogStore
from onready.engine.lookup import find_run, list_runs, read_events
from onready.engine.naming import new_id
from onready.engine.options import OnError
from onready.engine.owner import new_owner
from onready.engine.plan.inputs import read_inputs
from onready.engine.plan.select import select_nodes
from onready.engine.resuming import Continuation, node_keys
from onready.engine.run import Run
from onready.engine.secrets import SecretProviders, given_specs
from onready.engine.spi import Capabilities, Catalog, RunFilter, RunLog, RunRecord
from onready.engine.sweeping import Swept, forget_outputs, sweep

R = TypeVar("R")

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
        self._launches: Launching | None = None
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
        shared = Surroundings(
            self._run_log,
            self._catalog,
            self._host.backends,
            self.logs,
            self._folder,
            self._grace,
            self._keeper,
            self._secrets,
        )
        self._drives = Driving(shared, tasks)
        self._launches = Launching(shared, self._drives, self._host, self._owner, self._lease)
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
        inputs = await self._launching().settled(read_inputs(plan, bound.inputs))
        selected = tuple(select)
        options = Options(
            name, timeout, max_parallel, target, objects, backend or "", selected, cache
        )
        if id is None:
            return await self._launching().begin(new_id(), plan, inputs, options)
        async with self._naming:
            known, recorded = await self._launching().known(id, plan, inputs)
            if known is not None:
                return known  # type: ignore[return-value] # the same plan gives the same type
            if recorded:
                return await self._launching().go_on(id, bound, Continuation(), options)
            return await self._launching().begin(id, plan, inputs, options)

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
        return await self._launching().go_on((await self.find(run)).run, bound, how, options)

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
        return await self._launching().go_on((await self.find(run)).run, bound, how, options)

    def _options(
        self,
        provided: Mapping[str, object] | None,
        timeout: float | None,
        max_parallel: int | None,
    ) -> Options:
        self._driving()
        objects = self._provided | dict(provided or {})
        return Options(None, timeout, max_parallel, "", objects)

    # --- starting -----------------------------------------------------------------------------

    def _driving(self) -> Driving:
        if self._tasks is None or self._drives is None:
            raise OnreadyError(_CLOSED)
        return self._drives

    def _launching(self) -> Launching:
        if self._tasks is None or self._launches is None:
            raise OnreadyError(_CLOSED)
        return self._launches

    # --- looking ------------------------------------------------------------------------------

    async def runs(self, query: RunFilter | None = None) -> Sequence[RunRecord]:
        """Runs in the run log, newest first."""
        return await list_runs(self.run_log, query or RunFilter())

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
        async for event in read_events(self.run_log, run, after):
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
