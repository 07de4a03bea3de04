"""What is measured: the table of scenarios, and how far each may be from its floor.

Rule of this room: data only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, Literal

import msgspec

Kind = Literal["async", "thread", "process", "shell", "sleep"]
Log = Literal["memory", "sqlite"]

LOGS: Final[tuple[Log, ...]] = ("memory", "sqlite")
SIZES: Final = (1_000, 10_000, 100_000)
MOST: Final[dict[Kind, int]] = {
    "async": 100_000,
    "thread": 10_000,
    "process": 10_000,
    "shell": 1_000,
    "sleep": 1_000,
}
"""The largest size of each kind: beyond it a pair takes minutes and tells nothing new."""
NAP: Final = 0.1
"""Seconds that a sleeping node sleeps."""
WINDOW: Final = 8
"""Programs at once, for shell nodes and their floor."""


class Scenario(msgspec.Struct, frozen=True):
    """One row of the table: `size` nodes in all, in `runs` concurrent runs.

    `limit` is the ratio of processor time to the floor's that is still good, 0 where none is
    set; `wall_limit` that of wall time to the ideal.
    """

    kind: Kind
    log: Log
    shape: str
    size: int
    runs: int = 1
    limit: float = 0.0
    wall_limit: float = 0.0

    @property
    def name(self) -> str:
        """`async/memory/wide/10000`, `async/memory/wide/10000/x100`: what `--only` matches."""
        parts = [self.kind, self.log, self.shape, str(self.size)]
        return "/".join([*parts, f"x{self.runs}"] if self.runs > 1 else parts)

    @property
    def processes(self) -> bool:
        """Whether child processes do part of the work."""
        return self.kind in {"process", "shell"}


def scenarios(sizes: Sequence[int]) -> Iterator[Scenario]:
    """Every scenario of these sizes, cheap kinds first."""
    for log in LOGS:
        for size in _fitting("async", sizes):
            for shape in ("wide", "chain", "layered", "random"):
                limit = 2.0 if log == "memory" else 4.0 if shape == "chain" else 3.0
                yield Scenario("async", log, shape, size, limit=limit)
        for size in _fitting("async", sizes, 10_000):
            if size >= 1_000:
                # A thousand nodes make runs of ten nodes each: the price of a run, not of a node.
                limit = 0.0 if size < 10_000 else 2.0 if log == "memory" else 3.0
                yield Scenario("async", log, "layered", size, runs=100, limit=limit)
    for size in _fitting("sleep", sizes):
        yield Scenario("sleep", "memory", "flat", size, limit=2.5, wall_limit=1.2)
    for kind, limit, shapes in _POOLS:
        for log in LOGS:
            for size in _fitting(kind, sizes):
                for shape in shapes:
                    # The limits were set for the engine alone: durable ones are shown beside.
                    yield Scenario(kind, log, shape, size, limit=limit if log == "memory" else 0.0)


_POOLS: Final[tuple[tuple[Kind, float, tuple[str, ...]], ...]] = (
    ("thread", 2.5, ("wide", "chain", "layered", "random")),
    ("process", 1.5, ("wide", "layered")),
    ("shell", 1.5, ("flat",)),
)


def _fitting(kind: Kind, sizes: Sequence[int], most: int = 0) -> list[int]:
    return [size for size in sizes if size <= (most or MOST[kind])]
