"""`Run`: one run as its caller holds it; and what comes out of it.

What may not live here: readiness, dispatch, stores. `engine.py` starts runs.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

import anyio

from onready.engine.errors import (
    Failure,
    InternalError,
    OnreadyError,
    RunCancelled,
    RunFailed,
)
from onready.engine.events import AnyEvent, RunStatus
from onready.engine.plan.model import Plan

R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True)
class RunOutcome(Generic[R_co]):
    """How a run ended.

    `value` is the graph's value where `status` is `succeeded`. `failures` are those of nodes that
    failed for good, in order. `started` and `ended` are UTC seconds since the epoch. `error` is
    what kept the run from ending, where `status` is `interrupted`: the store failed, or we did.
    """

    run: str
    status: RunStatus
    value: R_co | None
    failures: tuple[Failure, ...]
    started: float
    ended: float
    reason: str = ""
    error: BaseException | None = None


class Driver(Protocol):
    """What a run needs of whoever performs it."""

    def cancel(self, reason: str, grace: float) -> None: ...


class Run(Generic[R_co]):
    """A run that was started, or one that has ended and was looked up.

    `id` is unique, `name` is for people (`brisk-heron-41`). A run goes on whether or not anybody
    holds or awaits it, until it ends or its engine closes.
    """

    def __init__(
        self,
        run: str,
        name: str,
        plan: Plan,
        events: Callable[[int], AsyncIterator[AnyEvent]],
        driver: Driver | None,
        grace: float,
    ) -> None:
        self.id = run
        self.name = name
        self.plan = plan
        self._events = events
        self._driver = driver
        self._grace = grace
        self._outcome: RunOutcome[R_co] | None = None
        self._done = anyio.Event()

    def __repr__(self) -> str:
        status = self._outcome.status if self._outcome is not None else "running"
        return f"<Run {self.name} ({self.id}): {status}>"

    @property
    def done(self) -> bool:
        """Whether the run has ended."""
        return self._outcome is not None

    def finish(self, outcome: RunOutcome[object]) -> None:
        """For the engine: the run has ended."""
        self._outcome = outcome  # type: ignore[assignment] # the engine knows the plan's type
        self._done.set()

    def events(self, after: int = 0) -> AsyncIterator[AnyEvent]:
        """Events with `seq > after`, in order, as they become durable; ends with the run.

        Any number of subscribers; each has its own position, and none slows the run.
        """
        return self._events(after)

    async def wait(self) -> RunOutcome[R_co]:
        """Wait for the end, however it comes: never raises for what happened in the run.

        Cancelling the wait leaves the run alone.
        """
        await self._done.wait()
        if self._outcome is None:  # pragma: no cover - the event follows the outcome
            message = f"run {self.id} ended without an outcome"
            raise InternalError(message)
        return self._outcome

    async def result(self) -> R_co:
        """The graph's value. RunFailed with every failed node, RunCancelled, or what broke us."""
        outcome = await self.wait()
        if outcome.status == "succeeded":
            return outcome.value  # type: ignore[return-value] # None only where R_co has it
        if outcome.status == "cancelled":
            raise RunCancelled(self.id, outcome.reason)
        if outcome.error is not None:
            raise outcome.error
        if outcome.failures:
            raise RunFailed.of(self.id, outcome.failures)
        message = f"run {self.id} is {outcome.status}"
        raise OnreadyError(message)

    async def cancel(self, reason: str = "", grace: float | None = None) -> None:
        """Start nothing new, stop what runs, and wait for the end.

        What runs has `grace` seconds (the engine's, where None) to end well, then it is killed;
        threads cannot be, and are no longer waited for. Asked again with less grace, that
        counts. No effect on a run that has ended.
        """
        if self._driver is not None and not self.done:
            self._driver.cancel(reason, self._grace if grace is None else grace)
            await self._done.wait()
