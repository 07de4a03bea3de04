"""How a run begins, is found again by its id, or goes on: up to the lease and the first event.

What may not live here: how a run is driven (`driving.py`), what users call (`engine.py`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

import anyio
import anyio.to_thread

from onready.engine.dispatcher.core import RunOptions
from onready.engine.driving import Driving, Surroundings
from onready.engine.errors import ConfigError, NoCodec, RunLeaseHeld
from onready.engine.events import RunResumed, RunStarted
from onready.engine.graph import Bound
from onready.engine.host import Host
from onready.engine.lookup import Summary, read_events, summarise_run
from onready.engine.names import is_run_id
from onready.engine.naming import check_same, friendly_name
from onready.engine.plan.dump import dump_plan
from onready.engine.plan.model import Plan
from onready.engine.resuming import (
    Continuation,
    check_continues,
    plan_in_force,
    read_history,
    read_on,
    take_over,
)
from onready.engine.run import Run, RunOutcome
from onready.engine.values import ValueType, needs_settling, settle
from onready.engine.values.stored import Live, Stored

R = TypeVar("R")

CLOSING: Final = 30.0
"""Seconds in which backends and stores close; theirs is the duty to do it much faster."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of one start that are checked already."""

    name: str | None
    timeout: float | None
    max_parallel: int | None
    target: str
    provided: Mapping[str, object]
    backend: str = ""
    select: tuple[str, ...] = ()
    cache: bool = True


class Launching:
    """Begins runs of one engine; `owner` holds their leases, of `lease` seconds each."""

    def __init__(
        self, shared: Surroundings, driving: Driving, host: Host, owner: str, lease: float
    ) -> None:
        self._shared = shared
        self._driving = driving
        self._host = host
        self._owner = owner
        self._lease = lease
        self._stored_plans: set[str] = set()

    async def go_on(
        self, run_id: str, bound: Bound[R] | None, how: Continuation, options: Options
    ) -> Run[R]:
        """Go on with a recorded run; returns once that is recorded. Raises as `Engine.resume`."""
        if run_id in self._driving.live:
            message = f"run {run_id} is driven by this engine"
            raise RunLeaseHeld(message)
        history = await read_history(self._shared.run_log, run_id)
        check_continues(run_id, history, how)
        objects = options.provided.keys()
        plan = await plan_in_force(
            self._host, self._shared.catalog, run_id, history, bound, how, objects
        )
        limits = self._host.limits(options.max_parallel)
        await self._store_plan(plan)
        lease = await take_over(self._shared.run_log, run_id, self._owner, self._lease)
        try:
            await read_on(self._shared.run_log, run_id, history)
            check_continues(run_id, history, how)
        except BaseException:
            with anyio.move_on_after(CLOSING, shield=True):
                await self._shared.run_log.release(lease)
            raise
        changed = plan.fingerprint if plan.fingerprint != history.fingerprint else ""
        if how.retry:
            history.forget_failures(how.redo)
        resumed = RunResumed(0, time.time(), lease.epoch, self._owner, how.retry, how.redo, changed)
        timeout = plan.timeout if options.timeout is None else options.timeout
        inputs = history.first.inputs
        run_options = RunOptions(
            history.first, inputs, options.provided, timeout, self._shared.grace, resumed, history
        )
        return await self._driving.launch(run_id, plan, run_options, lease, limits, history.last)

    async def begin(
        self, run_id: str, plan: Plan, inputs: Mapping[str, Stored], options: Options
    ) -> Run[R]:
        """Start a new run; returns once it is recorded."""
        limits = self._host.limits(options.max_parallel)
        await self._store_plan(plan)
        name = options.name or await friendly_name()
        # Last of all that may fail or wait: a lease that nobody drives keeps others out.
        lease = await take_over(self._shared.run_log, run_id, self._owner, self._lease)
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
        run_options = RunOptions(started, inputs, options.provided, timeout, self._shared.grace)
        return await self._driving.launch(run_id, plan, run_options, lease, limits, 0)

    async def settled(self, inputs: Mapping[str, Stored]) -> dict[str, Stored]:
        """The inputs as they are recorded, large ones in the catalog; NoCodec, naming the input."""
        settled: dict[str, Stored] = {}
        for name, value in inputs.items():
            if isinstance(value, Live):
                if self._shared.run_log.durable:
                    # Again, for its message: it names the type and the three cures.
                    try:
                        ValueType.any().encode(value.value)
                    except NoCodec as error:
                        message = f"input {name!r}: {error}"
                        raise NoCodec(message) from None
                settled[name] = value
            else:
                large = needs_settling(value)
                settled[name] = await settle(value, self._shared.catalog) if large else value
        return settled

    async def _store_plan(self, plan: Plan) -> None:
        if self._shared.run_log.durable and plan.fingerprint not in self._stored_plans:
            body = await anyio.to_thread.run_sync(dump_plan, plan)
            await self._shared.catalog.put_if_absent(f"plans/{plan.fingerprint}.json", body)
            self._stored_plans.add(plan.fingerprint)

    async def known(
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
        live = self._driving.live.get(run_id)
        if live is not None:
            check_same(run_id, live.run.plan.fingerprint, live.inputs, plan, inputs)
            return live.run, True
        summary = await summarise_run(self._shared.run_log, run_id)
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
            run_id,
            first.name,
            plan,
            partial(read_events, self._shared.run_log, run_id),
            None,
            self._shared.grace,
        )
        value: object = None
        if summary.status == "succeeded":
            value = await self._driving.value(plan, summary.value, run_id)
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
