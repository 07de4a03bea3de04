"""Graphs made of recipes, and what they must give: every composite in every other, at any depth.

A recipe is a tuple of steps; each takes the number that the step before gave and gives another.
`graph_of` makes a graph of it with the public functions, `expected` works its value out in plain
Python. Values stay below 100, so that every arm and every bound is met.

Rule of this room: nothing runs here; whoever runs these graphs compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from onready import Failure, Provided, branch, each, graph, repeat, rescue, switch, task
from onready.engine.graph import Graph

PLAIN: Final = ("add", "double", "picky", "tidied")
"""Steps without a body."""
BODIES: Final = {
    "subgraph": 1,
    "map": 1,
    "branch": 2,
    "switch": 3,
    "repeat": 1,
    "rescue": 2,
    "caught": 1,
}
"""Steps with bodies, and how many."""
LIMIT: Final = 3
"""Iterations of a repeat."""


class Cook(NamedTuple):
    """One step: its kind, and the recipes of its bodies."""

    kind: str
    inside: tuple[Recipe, ...] = ()


Recipe = tuple[Cook, ...]


@task
def add(x: int) -> int:
    return (x + 1) % 100


@task
def double(x: int) -> int:
    return x * 2 % 100


@task
def picky(x: int) -> int:
    if x % 5 == 0:
        message = f"not {x}"
        raise ValueError(message)
    return (x + 3) % 100


@task
def is_even(x: int) -> bool:
    return x % 2 == 0


@task
def remainder(x: int) -> int:
    return x % 3


@task
def is_large(x: int) -> bool:
    return x >= 50


@task
def total(xs: Sequence[int]) -> int:
    return sum(xs) % 100


@task
def told(x: int, failure: Failure = Provided(Failure)) -> int:
    return (x + len(failure.type)) % 100


@task
def tidy() -> None: ...


def graph_of(recipe: Recipe) -> Graph[[int], int]:
    """The graph of a recipe: from a number to a number."""

    def made(x: int) -> int:
        for step in recipe:
            x = _add(step, x)
        return x

    return graph(name="g")(made)


def _add(step: Cook, x: int) -> int:
    if step.kind == "add":
        return add(x)
    if step.kind == "double":
        return double(x)
    if step.kind == "picky":
        return picky(x)
    if step.kind == "tidied":
        made = add(x)
        tidy.with_options(always=True, after=[made])()
        return made
    return _add_composite(step.kind, [graph_of(inner) for inner in step.inside], x)


def _add_composite(kind: str, inside: Sequence[Graph[[int], int]], x: int) -> int:
    first = inside[0]
    if kind == "subgraph":
        return first(x)
    if kind == "map":
        return total(first.map(each([x, 1])))
    if kind == "branch":
        return branch(is_even(x), first.bind(x), inside[1].bind(x))
    if kind == "switch":
        arms = {0: first.bind(x), 1: inside[1].bind(x)}
        return switch(remainder(x), arms, default=inside[2].bind(x))
    if kind == "repeat":
        return repeat(first, x, until=is_large, limit=LIMIT, on_limit="return")
    if kind == "rescue":
        return rescue(first.bind(x), inside[1].bind(x))
    return rescue(first.bind(x), told.bind(x))


def expected(recipe: Recipe, x: int) -> int:
    """What the graph of the recipe gives for `x`; ValueError where it fails."""
    for step in recipe:
        x = _expected(step, x)
    return x


def _expected(step: Cook, x: int) -> int:
    kind, inside = step
    plain = {"add": add, "tidied": add, "double": double, "picky": picky}
    if kind in plain:
        return plain[kind].fn(x)
    if kind == "map":
        return (expected(inside[0], x) + expected(inside[0], 1)) % 100
    if kind == "branch":
        return expected(inside[x % 2], x)
    if kind == "switch":
        return expected(inside[x % 3], x)
    if kind == "repeat":
        for _ in range(LIMIT):
            x = expected(inside[0], x)
            if is_large.fn(x):
                break
        return x
    try:
        return expected(inside[0], x)
    except ValueError:
        if kind == "subgraph":
            raise
        if kind == "caught":
            return (x + len("ValueError")) % 100
        return expected(inside[1], x)
