"""A layered graph whose nodes leave marks, and a program that runs it until it is killed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import anyio

from onready import Engine, GraphBuilder, task
from onready.engine.graph import Bound

WIDTH = 12
DEPTH = 40


@task
async def step(path: str | None, layer: int, above: list[int]) -> int:
    """One node: it leaves a mark once it has run, as an effect that nobody can take back."""
    if layer % 3 == 0:
        await anyio.sleep(0.001)
    if path is not None:
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, b".")
        finally:
            os.close(file)
    return sum(above) % 97 + 1


def build(path: Path | None) -> Bound[object]:
    """Layers of nodes; each node needs three of the layer above."""
    g = GraphBuilder("layers")
    above: list[object] = []
    for layer in range(DEPTH):
        here: list[object] = []
        for place in range(WIDTH):
            needs = [above[(place + k) % WIDTH] for k in range(3)] if above else []
            mark = str(path) if path is not None else None
            here.append(g.add(step, mark, layer, needs, name=f"n{layer}_{place}"))
        above = here
    return g.build(result=above)


def parents() -> dict[str, set[str]]:
    """The parents of every node, by name."""
    return {
        f"n{layer}_{place}": {f"n{layer - 1}_{(place + k) % WIDTH}" for k in range(3) if layer > 0}
        for layer in range(DEPTH)
        for place in range(WIDTH)
    }


async def main(folder: str, run: str) -> None:
    """Run the graph on the stores in `folder`; then wait, to be killed."""
    async with Engine(folder=folder) as engine:
        await engine.start(build(Path(folder) / f"{run}.marks"), id=run)
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], sys.argv[2])
