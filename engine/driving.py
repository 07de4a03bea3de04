"""The runs that one engine drives: from the lease to the outcome.

What may not live here: which run is driven and why (`engine.py`), readiness, dispatch.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from onready.engine.cancelling import Listener
from onready.engine.dispatcher.admission import Limits
from onready.engine.dispatcher.cached import Flights
from onready.engine.dispatcher.core import Dispatcher, RunOptions, Services
from onready.engine.dispatcher.journal import Journal
from onready.engine.errors import SecretError, StaleEpoch
from onready.engine.folders import make_private
from onready.engine.keeper import Keeper
from onready.engine.logs import LogStore
from onready.engine.plan.model import Plan
from onready.engine.run import Run, RunOutcome
from onready.engine.spi import Backend, BulkBackend, Catalog, Lease, RunLog, Secrets
from onready.engine.values import ValueType, bring, needs_bringing
from onready.engine.values.secret import holds_secret, secret_names
from onready.engine.values.stored import Live, Stored

R = TypeVar("R")


@dataclass(slots=True)
class Driven:
    """A run that this engine drives."""

    run: Run[object]
    inputs: Mapping[str, Stored]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the runs of one engine share, open; `grace` is in seconds."""

    run_log: RunLog
    catalog: Catalog
    backends: Mapping[str, Backend | BulkBackend]
    logs: LogStore
    folder: Path
    grace: float
    keeper: Keeper
    secrets: Secrets | None = None


class Driving:
    """Launches runs in the engine's task group, and knows those that are live by their ids."""

    def __init__(self, shared: Surroundings, group: TaskGroup) -> None:
        self._shared = shared
        self._group = group
        self._flights = Flights()
        self.live: dict[str, Driven] = {}
        self.listener = Listener()

    async def launch(
        self,
        run_id: str,
        plan: Plan,
        options: RunOptions,
        lease: Lease,
        limits: Limits,
        last: int,
    ) -> Run[R]:
        """Drive the run from event `last` on; returns once its next event is durable."""
        shared = self._shared
        outlive = all(_outlives(shared.backends.get(spec.backend)) for spec in plan.tasks)
        journal = Journal(shared.run_log, run_id, lease.epoch, last, relaxed=outlive)
        dispatcher = Dispatcher(
            run_id,
            lease.epoch,
            plan,
            options,
            Services(
                shared.catalog,
                shared.logs,
                shared.folder,
                shared.run_log.durable,
                secrets=shared.secrets,
                flights=self._flights,
            ),
            journal,
            shared.backends,
            limits,
        )
        name = options.started.name
        run: Run[R] = Run(run_id, name, plan, journal.events, dispatcher, shared.grace)
        self.live[run_id] = Driven(run, options.inputs)
        if shared.run_log.durable:
            self._attend(dispatcher, lease)
        self._group.start_soon(self._drive, run, dispatcher, lease)
        try:
            await journal.recorded(last + 1)
            if options.history is not None and not (options.resumed and options.resumed.retry):
                # From here on whoever asks sees that the run has another driver.
                await self.listener.recall(shared.catalog, run_id, options.history.epochs)
        except anyio.get_cancelled_exc_class():
            # Nobody will ever hold this run.
            with anyio.move_on_after(shared.grace + 7.0, shield=True):
                await run.cancel("its start was cancelled")
            raise
        return run

    def _attend(self, dispatcher: Dispatcher, lease: Lease) -> None:
        """From now on the run's lease is renewed, and requests to cancel it are heard."""
        shared = self._shared
        dispatcher.lease = shared.keeper.keep(lease, shared.run_log, dispatcher.fence)

        def cancel(reason: str, grace: float | None) -> None:
            dispatcher.cancel(reason, shared.grace if grace is None else grace)

        self.listener.add(lease.run, lease.epoch, cancel)

    async def _drive(self, run: Run[R], dispatcher: Dispatcher, lease: Lease) -> None:
        error: BaseException | None = None
        try:
            await dispatcher.drive()
        except Exception as raised:  # noqa: BLE001 - it is the run's, and its holder's to see
            error = raised
        finally:
            self._shared.keeper.drop(lease)
            self.listener.drop(lease.run)
            with anyio.move_on_after(5.0, shield=True):
                await self._finish(run, dispatcher, error)
                if not isinstance(error, StaleEpoch):
                    await self._shared.run_log.release(lease)

    async def _finish(
        self, run: Run[R], dispatcher: Dispatcher, error: BaseException | None
    ) -> None:
        value: object = None
        status = "interrupted" if dispatcher.status == "running" else dispatcher.status
        if status == "succeeded":
            try:
                value = await self.value(run.plan, dispatcher.result, run.id)
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
        self.live.pop(run.id, None)

    async def value(self, plan: Plan, stored: Stored, run: str) -> object:
        """The live form of a run's result; files of it are put into the engine's folder."""
        if isinstance(stored, Live):
            return stored.value
        if holds_secret(stored):
            name = secret_names(stored)[0]
            message = f"the result holds Secret({name!r}): a secret is looked up for nodes alone"
            raise SecretError(message)
        if needs_bringing(stored):
            folder = self._shared.folder / "results" / run
            await anyio.to_thread.run_sync(make_private, folder)
            stored = await bring(stored, self._shared.catalog, folder)
        reader = ValueType.any() if plan.result_type is None else ValueType.of(plan.result_type)
        return reader.decode(stored)


def _outlives(backend: Backend | BulkBackend | None) -> bool:
    """Whether attempts there outlive their driver, and the next one finds them."""
    return backend is not None and backend.capabilities.adopt
