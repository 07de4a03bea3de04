"""Running the scenarios: two fresh processes each, one per side, that run in turns.

Each side has a process of its own so that neither pays for the other's memory; they run in
turns, floor first and engine first alternately, so that a slow minute of the machine hits both.

Rule of this room: starts, asks and ends the children; every wait has a deadline.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Self, TypeVar

import msgspec

from benchmarks.child import Order, Ready
from benchmarks.measure import Sample, median
from benchmarks.scenarios import NAP, Scenario
from benchmarks.sides import SideName

T = TypeVar("T")

PATIENCE = 600.0
"""Seconds that one run of one side may take."""


class Pair(msgspec.Struct, frozen=True):
    """The floor and the engine, one right after the other."""

    floor: Sample
    engine: Sample


class Row(msgspec.Struct, frozen=True):
    """What came out of a scenario. `error` is set where it could not be measured."""

    scenario: Scenario
    pairs: list[Pair] = []
    setup: dict[str, float] = {}
    error: str = ""

    @property
    def ratio(self) -> float:
        """Processor time to the floor's: the median over the pairs."""
        return median([pair.engine.cpu / pair.floor.cpu for pair in self.pairs])

    @property
    def wall_ratio(self) -> float:
        """Wall time to the floor's, or to the ideal where there is one."""
        if self.scenario.kind == "sleep":
            return median([pair.engine.wall / NAP for pair in self.pairs])
        return median([pair.engine.wall / pair.floor.wall for pair in self.pairs])

    @property
    def good(self) -> bool:
        """Whether every limit that is set was kept."""
        scenario = self.scenario
        cpu = not scenario.limit or self.ratio <= scenario.limit
        wall = not scenario.wall_limit or self.wall_ratio <= scenario.wall_limit
        return not self.error and cpu and wall


class Child:
    """One side's process."""

    def __init__(self, scenario: Scenario, side: SideName) -> None:
        self.side = side
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            start_new_session=True,
        )
        self._order = msgspec.json.encode(Order(scenario, side))
        self.setup: dict[str, float] = {}

    def run(self) -> Sample:
        """Have it run once."""
        self._say(b"run")
        return self._answer(Sample)

    def _say(self, line: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # the answer says why it died
            self._process.stdin.write(line + b"\n")
            self._process.stdin.flush()

    def _answer(self, kind: type[T]) -> T:
        out = self._process.stdout
        assert out is not None
        if not select.select([out], [], [], PATIENCE)[0]:
            message = f"the {self.side} did not answer within {PATIENCE:.0f} s"
            raise ChildFailed(message)
        line = out.readline()
        if not line:
            self._errors.seek(0)
            text = self._errors.read().decode(errors="replace").strip()
            message = f"the {self.side} died: {text[-2000:]}"
            raise ChildFailed(message)
        return msgspec.json.decode(line, type=kind)

    def __enter__(self) -> Self:
        try:
            self._say(self._order)
            self.setup = self._answer(Ready).setup
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it, and whatever it may have left behind in its session."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(30)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process.stdout.close()
            self._errors.close()


class ChildFailed(Exception):
    """A side could not be measured; the message says why."""


def run_scenario(scenario: Scenario, pairs: int) -> Row:
    """Measure `pairs` pairs, after one run of each side that does not count."""
    try:
        with Child(scenario, "floor") as floor, Child(scenario, "engine") as engine:
            floor.run()
            engine.run()
            found = [_pair(floor, engine, engine_first=bool(at % 2)) for at in range(pairs)]
            return Row(scenario, found, engine.setup)
    except ChildFailed as error:
        return Row(scenario, error=str(error))


def _pair(floor: Child, engine: Child, *, engine_first: bool) -> Pair:
    if engine_first:
        second = engine.run()
        return Pair(floor.run(), second)
    return Pair(floor.run(), engine.run())


def run_all(scenarios: Sequence[Scenario], pairs: int) -> Iterator[Row]:
    """Every scenario in turn."""
    for scenario in scenarios:
        yield run_scenario(scenario, pairs)
