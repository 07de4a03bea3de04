"""A graph whose heavy nodes run on the batch service: how many primes are below each limit.

onready run company_batch.sample:primes --limits 20000 40000
"""

from __future__ import annotations

from onready import each, graph, task


@task(backend="company-batch")
def count_primes(start: int, stop: int) -> int:
    """Primes from `start` up to, not including, `stop`."""
    print(f"looking from {start} to {stop}")
    numbers = range(max(2, start), stop)
    return sum(all(number % divisor for divisor in range(2, number)) for number in numbers)


@task
def cut(limit: int, parts: int) -> list[list[int]]:
    """The numbers below `limit` in `parts` pieces: the starts, and the stops."""
    edges = [limit * part // parts for part in range(parts + 1)]
    return [edges[:-1], edges[1:]]


@task
def add_up(counts: list[int]) -> int:
    """The sum."""
    return sum(counts)


@graph
def primes_below(limit: int, parts: int) -> int:
    """One limit, its pieces in parallel jobs."""
    edges = cut(limit, parts)
    return add_up(count_primes.map(each(edges[0]), each(edges[1])))


@graph
def primes(limits: list[int], parts: int = 2) -> list[int]:
    """All limits at once."""
    return primes_below.map(each(limits), parts)
