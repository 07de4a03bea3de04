"""Whether a failed attempt is tried again, and after how long. Pure: jitter is drawn outside."""

from __future__ import annotations

from typing import Final

from onready.engine.errors import INFRASTRUCTURE, Failure
from onready.engine.options import RetryPolicy
from onready.engine.scheduler.state import Row

INFRASTRUCTURE_RETRIES: Final = 3
"""Retries of `evicted` and `lost` attempts: nobody's fault, so not taken from the user's."""

DRIVER: Final = "driver"
"""The reason of a `lost` attempt that ended with the process that drove it.

Nobody's fault, so it uses up nothing; `TAKEOVERS` bounds it."""

UNSTARTED: Final = "unstarted"
"""The reason of one that was planned and not begun when its driver died; it counts for nothing."""

TAKEOVERS: Final = 5
"""Drivers that may die while one node runs; then it is left alone, and the run fails by it."""

INFRASTRUCTURE_BACKOFF: Final = RetryPolicy(INFRASTRUCTURE_RETRIES, 1.0, 2.0, jitter=True)
NEVER: Final = frozenset({"config", "cancelled"})
"""Kinds that another attempt cannot cure."""


def retry_delay(row: Row, policy: RetryPolicy, failure: Failure) -> float | None:
    """Seconds to wait before the next attempt of `row` (before jitter), or None: no retry."""
    if is_infrastructure(policy, failure):
        if failure.kind == "lost" or row.infrastructure_retries >= INFRASTRUCTURE_RETRIES:
            # `lost` is retried only if the user says so: it may have run.
            return None
        return _delay(INFRASTRUCTURE_BACKOFF, row.infrastructure_retries)
    if row.retries >= policy.limit or failure.kind in NEVER:
        return None
    if (policy.kinds or policy.types) and not _listed(policy, failure):
        return None
    return _delay(policy, row.retries)


def is_infrastructure(policy: RetryPolicy, failure: Failure) -> bool:
    """Whether a retry after `failure` is taken from the budget that is not the user's.

    What the user's policy names is the user's: else its limit would never be reached.
    """
    return failure.kind in INFRASTRUCTURE and not _listed(policy, failure)


def _listed(policy: RetryPolicy, failure: Failure) -> bool:
    return failure.kind in policy.kinds or any(name in policy.types for name in failure.bases)


def _delay(policy: RetryPolicy, done: int) -> float:
    if not policy.backoff:
        # Before the power of it overflows.
        return 0.0
    try:
        return min(policy.max_delay, policy.backoff * policy.factor**done)
    except OverflowError:
        return policy.max_delay


def is_drivers(failure: Failure) -> bool:
    """Whether the attempt was lost with its driver."""
    return failure.kind == "lost" and failure.reason in {DRIVER, UNSTARTED}
