"""Simulated runs out of seeds: a graph, its options and its bad luck.

    python -m tests.faults.simulate SEED [mixed | ambiguous | clocks]    # shows one of them

Rule of this room: what a seed means; who counts them is in the tests.
"""

from __future__ import annotations

import random
import sys
from dataclasses import replace
from typing import Final

import msgspec
import trio

from onready.engine.errors import Failure
from onready.engine.events import NodeFailed, NodeLost, RunCancelling, RunFailed, RunSucceeded
from onready.engine.options import OnError, RetryPolicy
from onready.engine.plan.compile import compile_plan
from onready.engine.plan.inputs import read_inputs
from onready.engine.plan.model import Plan
from onready.engine.spi import Capabilities
from onready.engine.testing.simulation import BACKEND, Simulated, simulate
from onready.engine.testing.simulation_world import Faults
from onready.storage.memory import MemoryCatalog, MemoryRunLog
from tests import recipes
from tests.recipes import BODIES, PLAIN, Cook, Recipe

ON_ERROR: Final[tuple[OnError, ...]] = ("stop", "continue", "cancel")
RETRIES: Final = (
    RetryPolicy(),
    RetryPolicy(2, 0.5),
    RetryPolicy(3, 1.0, jitter=True),
    RetryPolicy(1, kinds=("evicted", "lost", "timeout")),
)

AMBIGUOUS: Final = Faults(
    store_refuses=0.01,
    store_hides=0.01,
    store_waits=0.01,
    submit_fails=0.01,
    submit_hides=0.01,
    backend_gives_up=0.01,
)
"""F3: every call has a chance of 1 % to fail, to be done and fail, or to take its time."""


CLOCKS: Final = Faults(
    evicted=0.5, backend_gives_up=0.5, store_waits=0.3, slow=0.1, crashes=6, jumps=3
)
"""F22: the wall clock jumps by an hour or a day, while attempts wait for their retries."""

KINDS: Final = {"ambiguous": AMBIGUOUS, "clocks": CLOCKS}
"""Fixed bad luck, by name; `mixed` is drawn."""


def any_recipe(draw: random.Random, depth: int = 3) -> Recipe:
    """Up to four steps; bodies inside up to `depth`."""
    return tuple(_any_step(draw, depth) for _ in range(draw.randint(1, 4 if depth == 3 else 2)))


def _any_step(draw: random.Random, depth: int) -> Cook:
    if not depth or draw.random() < 0.4:
        return Cook(draw.choice(PLAIN))
    kind = draw.choice(sorted(BODIES))
    return Cook(kind, tuple(any_recipe(draw, depth - 1) for _ in range(BODIES[kind])))


def mixed(draw: random.Random) -> Faults:
    """F24: some faults of every kind, each in some of the runs."""

    def some(most: float) -> float:
        return draw.uniform(0.0, most) if draw.random() < 0.4 else 0.0

    return Faults(
        store_refuses=some(0.05),
        store_hides=some(0.05),
        store_waits=some(0.5),
        submit_fails=some(0.3),
        submit_hides=some(0.3),
        backend_gives_up=some(0.2),
        evicted=some(0.2),
        lost=some(0.1),
        failed=some(0.1),
        repeats=some(0.5),
        stubborn=some(0.5),
        slow=some(0.1),
        cancelled=some(0.5),
        crashes=draw.choice((0, 0, 1, 2, 3)),
        jumps=draw.choice((0, 0, 1, 3)),
    )


def plan_of(draw: random.Random, recipe: Recipe) -> Plan:
    """The plan of a recipe, its tasks with options that the seed decides."""
    start = draw.randint(0, 99)
    plan = compile_plan(
        recipes.graph_of(recipe).bind(start),
        backends={BACKEND: Capabilities(adopt=True)},
        backend=BACKEND,
        on_error=draw.choice(ON_ERROR),
    )
    tasks = tuple(
        msgspec.structs.replace(
            task,
            retry=draw.choice(RETRIES),
            timeout=draw.choice((None, None, 20.0)),
            node_timeout=draw.choice((None, None, None, 60.0)),
        )
        for task in plan.tasks
    )
    return replace(plan, tasks=tasks)


def run_seed(seed: int, kind: str = "mixed") -> Simulated:
    """The simulated run of a seed, judged; its value too, where no injected failure is in it."""
    draw = random.Random(f"{kind}/{seed}")
    recipe = any_recipe(draw)
    start_state = draw.getstate()
    plan = plan_of(draw, recipe)
    draw.setstate(start_state)
    start = draw.randint(0, 99)
    graph = recipes.graph_of(recipe)
    faults = KINDS[kind] if kind in KINDS else mixed(draw)
    result = simulate(
        seed,
        plan,
        faults,
        run_log=MemoryRunLog(clock=trio.current_time),
        catalog=MemoryCatalog(),
        inputs=read_inputs(plan, graph.bind(start).inputs),
        limit=draw.randint(1, 5),
        timeout=draw.choice((None, None, None, 100.0)),
    )
    judge_value(result, recipe, start)
    return result


def judge_value(result: Simulated, recipe: Recipe, start: int) -> None:
    """Where all that failed was the graph's own doing, the value is the graph's."""
    failures = [e.failure for e in result.events if isinstance(e, NodeFailed | NodeLost)]
    if not all(map(_own, failures)):
        return
    end = result.end
    try:
        expected = recipes.expected(recipe, start)
    except ValueError:
        if isinstance(end, RunSucceeded):
            result.wrong.append(f"succeeded with {end.value}, and should have failed")
        return
    if isinstance(end, RunSucceeded) and end.value != expected:
        result.wrong.append(f"the value is {end.value}, and should be {expected}")
    # Cancelled before a handler had its turn, it gives nothing.
    cancelled = any(isinstance(event, RunCancelling) for event in result.events)
    if isinstance(end, RunFailed) and not (end.reason or cancelled):
        result.wrong.append(f"failed ({end.nodes}), and should give {expected}")


def _own(failure: Failure) -> bool:
    return failure.type == "ValueError"


if __name__ == "__main__":
    shown = run_seed(int(sys.argv[1]), *sys.argv[2:3])
    for event in shown.events:
        print(event)
    print(f"{shown.drivers} drivers, {shown.seconds:.1f} s, {dict(shown.world.happened)}")
    print("\n".join(shown.wrong) or "all is well")
