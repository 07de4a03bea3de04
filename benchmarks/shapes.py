"""The shapes of the measured graphs, as lists of needs; the same on every machine and day.

Rule of this room: pure; knows neither the floors nor the engine.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final

Needs = Sequence[tuple[int, ...]]
"""For each node the earlier nodes whose values it takes: at most three."""

LAYER: Final = 100
"""Nodes in each layer of the layered graph."""
_REACH: Final = 1000


def wide(size: int) -> Needs:
    """One node, and all others take its value."""
    return [(), *[(0,)] * (size - 1)]


def chain(size: int) -> Needs:
    """Each node takes the value of the one before."""
    return [(at - 1,) if at else () for at in range(size)]


def layered(size: int) -> Needs:
    """Layers of a hundred; each node takes two values of the layer above."""
    return [
        () if at < LAYER else (at - LAYER, at - at % LAYER - LAYER + (at + 1) % LAYER)
        for at in range(size)
    ]


def scattered(size: int) -> Needs:
    """Each node takes none to three values of the thousand nodes before it, drawn with a seed."""
    source = random.Random(size)
    needs: list[tuple[int, ...]] = []
    for at in range(size):
        known = range(max(0, at - _REACH), at)
        needs.append(tuple(source.sample(known, min(len(known), source.randint(0, 3)))))
    return needs


SHAPES: Final[Mapping[str, Callable[[int], Needs]]] = {
    "wide": wide,
    "chain": chain,
    "layered": layered,
    "random": scattered,
}


def feeds_of(needs: Needs) -> list[list[int]]:
    """For each node those that take its value."""
    feeds: list[list[int]] = [[] for _ in needs]
    for at, wanted in enumerate(needs):
        for need in wanted:
            feeds[need].append(at)
    return feeds
