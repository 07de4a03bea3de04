"""The process in which one side of a scenario runs: `python -m benchmarks.child`, by `suite`.

It reads `{"scenario": ..., "side": ...}` from its first input line, answers with a line when it is
ready, and then runs once for each further line, answering with a sample.

Rule of this room: measures when told, and prints nothing else.
"""

from __future__ import annotations

import asyncio
import os
import sys

import msgspec

from benchmarks.measure import measure
from benchmarks.scenarios import Scenario
from benchmarks.sides import SideName, open_side


class Order(msgspec.Struct):
    """What the child is for."""

    scenario: Scenario
    side: SideName


class Ready(msgspec.Struct):
    """The child is set up; `setup` are seconds by step."""

    setup: dict[str, float]


def main() -> None:
    """Serve until the input ends."""
    # What a node or a library prints must not get between the answers.
    answers = os.dup(1)
    os.dup2(2, 1)
    order = msgspec.json.decode(sys.stdin.readline(), type=Order)
    asyncio.run(_serve(order, answers))


async def _serve(order: Order, answers: int) -> None:
    async with open_side(order.scenario, order.side) as side:
        os.write(answers, msgspec.json.encode(Ready(side.setup)) + b"\n")
        # Read in a thread: an engine at rest keeps its loop turning, as in a service.
        while await asyncio.to_thread(sys.stdin.readline):
            sample = await measure(side.run, processes=order.scenario.processes)
            os.write(answers, msgspec.json.encode(sample) + b"\n")


if __name__ == "__main__":
    main()
