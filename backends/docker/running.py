"""One attempt as a container: made, watched, judged, recorded, removed; stopped where cancelled.

Rule of this room: what the container is and what its end means is the caller's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from onready.backends.docker.body import Order, body, identity
from onready.backends.docker.client import Client, Refused, Unreachable
from onready.backends.docker.frames import LogFrames
from onready.backends.docker.images import ImageFault, Images
from onready.backends.docker.life import (
    Life,
    MayHaveRun,
    NotStarted,
    StartRefused,
    Vanished,
)
from onready.backends.docker.options import NodeOptions
from onready.backends.docker.outcomes import failure, lost, refused
from onready.backends.docker.removals import Removals
from onready.backends.docker.states import Ending
from onready.backends.results import commit, recorded
from onready.engine.errors import INFRASTRUCTURE, BackendError
from onready.engine.spi import Attempt, Catalog, Failed, Outcome, Reporter


@dataclass(frozen=True, slots=True)
class Desk:
    """What the attempts of one backend share. Times in seconds."""

    client: Client
    images: Images
    removals: Removals
    folder: str
    """The working folder of the driver."""
    start_deadline: float
    patience: float
    log: Mapping[str, object]
    """How the daemon keeps the output of containers."""
    threads: dict[str, str]
    """Variables that keep native libraries of Python nodes to their share of the processors."""


@dataclass(slots=True)
class Job:
    """One attempt with all that is needed to run it.

    `catalog` is the one that the container reaches. `judge` says what the container's end means.
    `hint` is what to do where the image has not what shall run in it.
    """

    attempt: Attempt
    options: NodeOptions
    image: str
    order: Order
    catalog: Catalog
    frames: LogFrames
    judge: Callable[[Ending], Awaitable[Outcome]]
    hint: str = ""


async def run_job(desk: Desk, job: Job, report: Reporter, *, rejoin: bool) -> Outcome | None:
    """Run the attempt's container to its end, or find the one that is there; None for none."""
    attempt = job.attempt
    life = Life(
        desk.client,
        attempt.name,
        identity(attempt),
        job.frames,
        report,
        start_deadline=desk.start_deadline,
        patience=desk.patience,
    )
    try:
        outcome = await _fate(desk, job, life, report, rejoin=rejoin)
        if outcome is not None:
            await desk.removals.take(life.remove)
    except BaseException:
        if not attempt.fenced:  # another driver has it by now
            await life.stop(lambda: attempt.grace)
        raise
    return outcome


async def _fate(
    desk: Desk, job: Job, life: Life, report: Reporter, *, rejoin: bool
) -> Outcome | None:
    attempt = job.attempt
    try:
        ending = await life.rejoin() if rejoin else await _run(desk, job, life, report)
        if ending is None:
            return None
        return await _judged(job, ending, report)
    except ImageFault as error:
        return Failed(failure(attempt, "image", str(error), report))
    except Refused as error:
        return refused(attempt, error, report)
    except StartRefused as error:
        return refused(attempt, error.error, report, job.hint)
    except Vanished:
        found = await recorded(attempt, job.catalog, report)
        message = f"its container {attempt.name} was removed by somebody else"
        return found if found is not None else lost(attempt, message, report)
    except MayHaveRun:
        found = await recorded(attempt, job.catalog, report)
        message = f"Docker died while it started the container {attempt.name}, which may have run"
        return found if found is not None else lost(attempt, message, report)
    except NotStarted:
        message = f"Docker went away before it started the container {attempt.name}"
        raise BackendError(message, retryable=True) from None
    except Unreachable as error:
        found = await recorded(attempt, job.catalog, report)
        if found is not None:
            return found
        if not life.may_run:
            raise
        what = "its container may run"
        if life.has_ended:
            what = "its container has ended, and what it left could not be had"
        return lost(attempt, f"Docker stayed away, and {what}: {error}", report)


async def _run(desk: Desk, job: Job, life: Life, report: Reporter) -> Ending:
    policy = job.options.pull
    await desk.images.prepare(job.image, policy, job.attempt, report)
    request = body(job.attempt, job.options, job.image, job.order, desk.log)
    try:
        return await life.run(request)
    except Refused as error:
        if error.status != 404 or "image" not in error.message.lower():
            raise
        await desk.images.missing(job.image, policy, error.message, job.attempt, report)
    return await life.run(request)


async def _judged(job: Job, ending: Ending, report: Reporter) -> Outcome:
    outcome = await job.judge(ending)
    if isinstance(outcome, Failed) and outcome.failure.kind in INFRASTRUCTURE:
        return outcome  # it is nobody's result: another attempt will have one
    times = ending.started, ending.finished
    return await commit(job.attempt, job.catalog, outcome, *times, report)
