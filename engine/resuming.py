"""Going on with a recorded run: its history, the plan it goes on with, and what forbids it.

Rule of this room: reads stores and plans; what drives the run is the engine's (`engine.py`), how
a history becomes a scheduler's state is `dispatcher/replay.py`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

import anyio.to_thread
import msgspec

from onready.engine.errors import (
    ConfigError,
    PlanDrift,
    RunConflict,
    RunLeaseHeld,
    RunNotFound,
    StoreError,
)
from onready.engine.events import RunSucceeded
from onready.engine.fold import History, fold
from onready.engine.graph import Bound
from onready.engine.host import Host
from onready.engine.names import NodeKey
from onready.engine.owner import is_dead
from onready.engine.plan.diff import Change, diff_plans, drift_of
from onready.engine.plan.dump import load_plan
from onready.engine.plan.fingerprint import fingerprint
from onready.engine.plan.link import link
from onready.engine.plan.model import FromProvided, Plan
from onready.engine.plan.select import select_nodes
from onready.engine.plan.shape import inner_first
from onready.engine.plan.sources import source_hash
from onready.engine.spi import Catalog, Lease, RunLog

_BUILT_IN: Final = frozenset({"NodeContext", "Failure"})
"""What every run provides by itself."""


@dataclass(frozen=True, slots=True)
class Continuation:
    """How a run is to go on. `redo`: nodes that run again though they had succeeded."""

    retry: bool = False
    redo: tuple[NodeKey, ...] = ()
    accept_drift: bool = False


async def read_history(run_log: RunLog, run: str) -> History:
    """What is recorded of `run`. RunNotFound where nothing is."""
    history: History | None = None
    async for batch in run_log.read(run):
        if history is None:
            history = fold(batch)
        else:
            history.add(batch)
    if history is None:
        message = f"nothing is recorded of run {run}"
        raise RunNotFound(message)
    return history


async def read_on(run_log: RunLog, run: str, history: History) -> None:
    """Take what was recorded since: to be done under the lease, from when on nobody else writes."""
    async for batch in run_log.read(run, history.last):
        history.add(batch)


async def take_over(run_log: RunLog, run: str, owner: str, duration: float) -> Lease:
    """The lease of a run that another process may have driven: at once, where that has died.

    RunLeaseHeld where it lives, or where nobody can tell and the lease has not expired.
    """
    try:
        return await run_log.lease(run, owner, duration)
    except RunLeaseHeld as held:
        if not await anyio.to_thread.run_sync(is_dead, held.owner):
            raise
        return await run_log.lease(run, owner, duration, held.owner)


def check_continues(run: str, history: History, how: Continuation) -> None:
    """RunConflict where the run cannot go on in that way."""
    end = history.end
    if end is None:
        if how.retry:
            message = f"run {run} has not ended: resume it (onready resume {run})"
            raise RunConflict(message)
    elif not how.retry:
        message = f"run {run} has ended; " + (
            f"it succeeded, and nothing is left to do (onready show {run})"
            if isinstance(end, RunSucceeded)
            else f"what failed is tried again by a retry (onready retry {run})"
        )
        raise RunConflict(message)
    elif isinstance(end, RunSucceeded) and not how.redo:
        message = f"run {run} succeeded; say from which node on it is to run again"
        raise RunConflict(message)
    for key in how.redo:
        if not history.knows(key):
            message = f"run {run} has no node {key}"
            raise RunConflict(message)


def node_keys(texts: Sequence[str]) -> tuple[NodeKey, ...]:
    """The keys that these texts print; ConfigError on one that is no key."""
    try:
        return tuple([NodeKey.parse(text) for text in texts])
    except ValueError as error:
        raise ConfigError(str(error)) from None


async def plan_in_force(
    host: Host,
    catalog: Catalog,
    run: str,
    history: History,
    bound: Bound[object] | None,
    how: Continuation,
    provided: Collection[str],
) -> Plan:
    """The plan that the run goes on with, its backends open.

    That of `bound`, or the one in the catalog. PlanDrift where it is not the one that the run had.
    """
    first = history.first
    if bound is None:
        plan = await stored_plan(catalog, history)
        changes = await anyio.to_thread.run_sync(drift_of, plan)
        refuse_drift(run, changes, how)
        check_provided(plan, provided)
        await host.prepare(plan)
        return await anyio.to_thread.run_sync(refreshed, plan) if changes else plan
    plan = await host.compile(bound, first.backend or None, first.on_error, provided)
    plan = select_nodes(plan, first.select)
    if plan.fingerprint != history.fingerprint:
        old = await stored_plan(catalog, history)
        refuse_drift(run, diff_plans(old, plan), how)
    return plan


async def stored_plan(catalog: Catalog, history: History) -> Plan:
    """The plan in force, from the catalog, its functions imported by reference.

    StoreError where the catalog does not have it, GraphError where a function is gone.
    """
    name = f"plans/{history.fingerprint}.json"
    try:
        data = await catalog.read(name)
    except KeyError:
        message = f"the catalog has no {name}: is it the catalog that the run was started with?"
        raise StoreError(message) from None
    return await anyio.to_thread.run_sync(_linked, data)


def _linked(data: bytes) -> Plan:
    return link(load_plan(data))


def refuse_drift(run: str, changes: Sequence[Change], how: Continuation) -> None:
    """PlanDrift where something changed and that was not accepted."""
    if changes and not how.accept_drift:
        raise PlanDrift(run, tuple([str(change) for change in changes]))


def refreshed(plan: Plan) -> Plan:
    """The plan with the sources that its functions have now."""
    tasks = tuple(
        task
        if runtime.function is None
        else msgspec.structs.replace(task, source=source_hash(runtime.function))
        for task, runtime in zip(plan.tasks, plan.runtimes, strict=True)
    )
    return replace(plan, tasks=tasks, fingerprint=fingerprint(plan.root, tasks))


def check_provided(plan: Plan, provided: Collection[str]) -> None:
    """ConfigError where a stored plan wants live objects that nobody gives."""
    wanted = {
        arg.value.name
        for fragment in inner_first(plan.root)
        for node in fragment.nodes
        for arg in node.args
        if isinstance(arg.value, FromProvided)
    }
    missing = sorted(wanted - _BUILT_IN - set(provided))
    if missing:
        message = f"the run wants live objects that are not at hand: {', '.join(missing)}"
        raise ConfigError(message)
