"""The two sides of a pair: the floor and the engine, each ready to run the same graph again.

Rule of this room: everything that is not dispatch (building, compiling, opening) happens here,
before the measured part, and is told in `Side.setup`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from benchmarks import nodes
from benchmarks.floors import run_naps, run_pool, run_programs, run_tasks
from benchmarks.scenarios import NAP, WINDOW, Kind, Log, Scenario
from benchmarks.shapes import SHAPES, Needs, feeds_of
from onready import Engine, GraphBuilder, task
from onready.engine.graph import Bound, Definition
from onready.engine.plan.compile import compile_plan

SideName = Literal["floor", "engine"]


@dataclass(slots=True)
class Side:
    """`run` runs the whole scenario once. `setup` are seconds by step: build, compile."""

    run: Callable[[], Awaitable[object]]
    setup: dict[str, float] = field(default_factory=dict)


@asynccontextmanager
async def open_side(scenario: Scenario, side: SideName) -> AsyncGenerator[Side]:
    """One side of a scenario; what it opened is closed afterwards."""
    opener = _floor if side == "floor" else _engine
    async with opener(scenario) as opened:
        yield opened


# --- floor ------------------------------------------------------------------------------------


@asynccontextmanager
async def _floor(scenario: Scenario) -> AsyncGenerator[Side]:
    size = scenario.size // scenario.runs
    if scenario.kind == "sleep":
        yield Side(lambda: run_naps(size, NAP))
    elif scenario.kind == "shell":
        program = true_program()

        async def programs() -> None:
            run_programs(program, size, WINDOW)

        yield Side(programs)
    elif scenario.kind == "async":
        needs = SHAPES[scenario.shape](size)
        feeds = feeds_of(needs)

        async def runs() -> None:
            await asyncio.gather(*(run_tasks(needs, feeds) for _ in range(scenario.runs)))

        yield Side(runs)
    else:
        needs = SHAPES[scenario.shape](size)
        feeds = feeds_of(needs)
        with _pool(scenario.kind) as pool:

            async def pooled() -> None:
                run_pool(pool, needs, feeds)

            yield Side(pooled)


def _pool(kind: Kind) -> Executor:
    cores = os.cpu_count() or 1
    if kind == "thread":
        return ThreadPoolExecutor(min(32, cores + 4))
    return ProcessPoolExecutor(cores)


def true_program() -> str:
    """The path of `true`."""
    found = shutil.which("true")
    if found is None:
        message = "there is no program `true` on PATH"
        raise RuntimeError(message)
    return found


# --- engine -----------------------------------------------------------------------------------


@asynccontextmanager
async def _engine(scenario: Scenario) -> AsyncGenerator[Side]:
    window = WINDOW if scenario.kind == "shell" else None
    async with open_engine(scenario.log, max_parallel=window) as engine:
        began = time.perf_counter()
        bound = build(scenario)
        built = time.perf_counter()
        # The plan is kept with the graph: the runs find it there.
        compile_plan(bound, backends=engine.capabilities, provided=())
        compiled = time.perf_counter()

        async def run() -> None:
            if scenario.runs == 1:
                await engine.run(bound)
                return
            await asyncio.gather(*(engine.run(bound) for _ in range(scenario.runs)))

        yield Side(run, {"build": built - began, "compile": compiled - built})


@asynccontextmanager
async def open_engine(log: Log, *, max_parallel: int | None = None) -> AsyncGenerator[Engine]:
    """An engine in a folder of its own, which is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="onready-bench-"))
    try:
        if log == "memory":
            engine = Engine.memory(max_parallel=max_parallel, folder=folder)
        else:
            engine = Engine(max_parallel=max_parallel, folder=folder)
        async with engine:
            yield engine
    finally:
        await asyncio.to_thread(shutil.rmtree, folder)


def build(scenario: Scenario) -> Bound[None]:
    """The scenario's graph, made with the builder; one run's share of it."""
    size = scenario.size // scenario.runs
    builder = GraphBuilder(f"{scenario.kind}_{scenario.shape}")
    if scenario.kind == "sleep":
        nap = task(nodes.nap)
        for _ in range(size):
            builder.add(nap, NAP)
    elif scenario.kind == "shell":
        program = true_program()
        for _ in range(size):
            builder.shell([program])
    else:
        _add(builder, SHAPES[scenario.shape](size), _tasks(scenario.kind))
    return builder.build()


def _add(builder: GraphBuilder, needs: Needs, tasks: list[Definition[..., int]]) -> None:
    refs: list[Any] = []  # refs stand for values of any type
    for wanted in needs:
        refs.append(builder.add(tasks[len(wanted)], *(refs[need] for need in wanted)))


def _tasks(kind: Kind) -> list[Definition[..., int]]:
    if kind == "async":
        return [task(function) for function in nodes.ASYNC]
    return [task(backend=kind)(function) for function in nodes.SYNC]
