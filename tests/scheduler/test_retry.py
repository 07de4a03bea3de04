"""Whether there is another attempt, and how long the wait before it is."""

from __future__ import annotations

import pytest

from onready.engine.errors import Failure, FailureKind
from onready.engine.events import NodeFailed, NodeRetrying, NodeStarted
from onready.engine.options import Retry, RetryPolicy, class_name
from onready.engine.scheduler.commands import RetryDue
from onready.engine.scheduler.core import Scheduler
from onready.engine.scheduler.retry import INFRASTRUCTURE_RETRIES, is_infrastructure, retry_delay
from onready.engine.scheduler.state import Row, State
from tests.scheduler.plans import plan, task
from tests.scheduler.playing import failure

USERS = ("error", "timeout", "oom", "exit", "image", "unschedulable")
NEVER = ("config", "cancelled")


def row_after(retries: int = 0, infrastructure_retries: int = 0) -> Row:
    scheduler = Scheduler(plan(task("a")), "stop")
    scheduler.begin()
    row = scheduler.root.rows[0]
    row.retries = retries
    row.infrastructure_retries = infrastructure_retries
    return row


def bases_of(cls: type[BaseException]) -> tuple[str, ...]:
    return tuple(class_name(base) for base in cls.__mro__ if issubclass(base, BaseException))


@pytest.mark.parametrize("kind", USERS)
def test_the_users_retries_are_for_what_the_node_did(kind: FailureKind) -> None:
    policy = RetryPolicy(2)
    assert [retry_delay(row_after(done), policy, failure(kind)) for done in range(4)] == [
        0.0,
        0.0,
        None,
        None,
    ]
    assert retry_delay(row_after(), RetryPolicy(), failure(kind)) is None


@pytest.mark.parametrize("kind", NEVER)
def test_what_another_attempt_cannot_cure_is_not_tried_again(kind: FailureKind) -> None:
    for policy in (RetryPolicy(5), RetryPolicy(5, kinds=(kind,))):
        assert retry_delay(row_after(), policy, failure(kind)) is None


def test_evictions_have_a_budget_of_their_own() -> None:
    for policy in (RetryPolicy(), RetryPolicy(1, 30.0), RetryPolicy(1, kinds=("timeout",))):
        delays = [retry_delay(row_after(9, done), policy, failure("evicted")) for done in range(5)]
        assert delays == [1.0, 2.0, 4.0, None, None]
        assert len([delay for delay in delays if delay is not None]) == INFRASTRUCTURE_RETRIES


def test_what_may_have_run_is_not_run_again_unless_the_user_says_so() -> None:
    assert retry_delay(row_after(), RetryPolicy(3), failure("lost")) is None
    listed = RetryPolicy(2, 5.0, kinds=("lost",))
    assert [retry_delay(row_after(done), listed, failure("lost")) for done in range(3)] == [
        5.0,
        10.0,
        None,
    ]


def test_listed_kinds_are_the_users_and_no_others_are_retried() -> None:
    policy = RetryPolicy(2, 5.0, kinds=("evicted", "timeout"))
    assert retry_delay(row_after(1, 7), policy, failure("evicted")) == 10.0
    assert retry_delay(row_after(2), policy, failure("evicted")) is None
    assert retry_delay(row_after(), policy, failure("timeout")) == 5.0
    assert retry_delay(row_after(), policy, failure("error")) is None
    assert not is_infrastructure(policy, failure("evicted"))
    assert is_infrastructure(policy, failure("lost"))
    assert not is_infrastructure(policy, failure("oom"))


def test_listed_types_are_matched_with_their_bases() -> None:
    policy = Retry(2, on=(OSError, "exit")).policy
    said = Failure("error", "no", "FileNotFoundError", bases=bases_of(FileNotFoundError))
    assert retry_delay(row_after(), policy, said) == 0.0
    other = Failure("error", "no", "ValueError", bases=bases_of(ValueError))
    assert retry_delay(row_after(), policy, other) is None
    assert retry_delay(row_after(), policy, failure("exit")) == 0.0
    # A type may be listed that a lost attempt names: then it is the user's.
    lost = Failure("lost", "gone", "OSError", bases=bases_of(OSError))
    assert retry_delay(row_after(), policy, lost) == 0.0


@pytest.mark.parametrize(
    ("policy", "delays"),
    [
        (RetryPolicy(9, 0.5), [0.5, 1.0, 2.0, 4.0]),
        (RetryPolicy(9, 2.0, 1.0), [2.0, 2.0, 2.0, 2.0]),
        (RetryPolicy(9, 1.0, 10.0), [1.0, 10.0, 100.0, 300.0]),
        (RetryPolicy(9, 1.0, 3.0, max_delay=5.0), [1.0, 3.0, 5.0, 5.0]),
        (RetryPolicy(9, 7.0, max_delay=0.0), [0.0, 0.0, 0.0, 0.0]),
        (RetryPolicy(9), [0.0, 0.0, 0.0, 0.0]),
        # Jitter is drawn by the dispatcher, out of the whole wait.
        (RetryPolicy(9, 1.0, jitter=True), [1.0, 2.0, 4.0, 8.0]),
    ],
)
def test_waits_grow_up_to_the_longest(policy: RetryPolicy, delays: list[float]) -> None:
    assert [retry_delay(row_after(done), policy, failure()) for done in range(4)] == delays


@pytest.mark.parametrize(
    ("policy", "delay"),
    [
        (RetryPolicy(10_000, 1.0), 300.0),
        (RetryPolicy(10_000, 1e-300, 1e300, max_delay=9.0), 9.0),
        (RetryPolicy(10_000, 1.0, 3), 300.0),
        (RetryPolicy(10_000, 0.0), 0.0),
        (RetryPolicy(10_000, 0.0, 1e300), 0.0),
        (RetryPolicy(10_000, 1.0, float("inf")), 300.0),
    ],
)
def test_many_retries_overflow_nothing(policy: RetryPolicy, delay: float) -> None:
    assert retry_delay(row_after(5_000), policy, failure()) == delay


# What is counted when a retry is recorded: the same rule, from the log alone.


def ways_to_fail(retry: int, kind: FailureKind, *bases: str) -> tuple[int, Row]:
    """Fails until there is no retry; how often it was tried."""
    given = plan(task("a", retry=retry))
    scheduler = Scheduler(given, "stop")
    scheduler.begin()
    row = scheduler.root.rows[0]
    why = failure(kind, *bases)
    for number in range(1, 100):
        scheduler.handle([(row, NodeStarted(0, 0.0, row.key, number))])
        delay = retry_delay(row, given.tasks[retry].retry, why)
        if delay is None:
            scheduler.handle([(row, NodeFailed(0, 0.0, row.key, number, why))])
            assert scheduler.ended
            return number, row
        scheduler.handle([(row, NodeRetrying(0, 0.0, row.key, number, delay, why))])
        assert row.state is State.BACKING_OFF
        scheduler.handle([(row, RetryDue(number))])
    raise AssertionError("tried for ever")


@pytest.mark.parametrize(
    ("retry", "kind", "bases", "attempts"),
    [
        (0, "error", (), 1),
        (1, "error", (), 4),
        (1, "evicted", (), 1 + INFRASTRUCTURE_RETRIES),
        (2, "evicted", (), 3),
        (2, "timeout", (), 1),
        (3, "lost", (), 2),
        (3, "evicted", ("builtins.OSError",), 2),
        (1, "config", (), 1),
    ],
)
def test_every_budget_ends(
    retry: int, kind: FailureKind, bases: tuple[str, ...], attempts: int
) -> None:
    assert ways_to_fail(retry, kind, *bases)[0] == attempts


def test_budgets_do_not_eat_each_other() -> None:
    _, row = ways_to_fail(1, "evicted")
    assert (row.retries, row.infrastructure_retries) == (0, INFRASTRUCTURE_RETRIES)
    _, row = ways_to_fail(2, "evicted")
    assert (row.retries, row.infrastructure_retries) == (2, 0)
