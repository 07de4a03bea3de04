"""Where the time of a run goes: `python -m benchmarks profile`.

Rule of this room: one process, one scenario, the engine's side only; figures under a profiler
are for finding what is dear, never for comparing with a floor.
"""

from __future__ import annotations

import asyncio
import cProfile
import io
import pstats
from pathlib import Path

from benchmarks.measure import measure
from benchmarks.scenarios import Scenario
from benchmarks.sides import open_side


def profile(scenario: Scenario, *, top: int, sort: str, output: Path | None) -> str:
    """The `top` functions by `sort` as text; the whole profile goes to the file `output`.

    A file that ends in `.txt` gets the text, any other what `pstats` and its viewers read.
    """
    profiler = cProfile.Profile()
    asyncio.run(_run(scenario, profiler))
    stream = io.StringIO()
    stats = pstats.Stats(profiler, stream=stream)
    stats.strip_dirs().sort_stats(sort).print_stats(top)
    text = f"{scenario.name}\n{stream.getvalue()}"
    if output is not None:
        if output.suffix == ".txt":
            output.write_text(text)
        else:
            profiler.dump_stats(output)
    return text


async def _run(scenario: Scenario, profiler: cProfile.Profile) -> None:
    async with open_side(scenario, "engine") as side:
        await side.run()

        async def watched() -> None:
            profiler.enable()
            try:
                await side.run()
            finally:
                profiler.disable()

        await measure(watched, processes=False)
