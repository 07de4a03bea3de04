"""Containers per second beside two floors: `python -m benchmarks.containers [options]`.

    docker run    `docker run --rm` from a shell loop, so many at once
    bare          create, start, wait, remove through aiodocker, and nothing more
    onready       a graph of command nodes on the docker backend: logs, records, events and all

Each concurrency is measured in rounds, the three sides in turns, with the same containers. It needs
a Docker engine: the one of DOCKER_HOST, else one is started as for the tests (as root).

Rule of this room: prints its table; the engine is only asked through public ways.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import aiohttp
from aiodocker import Docker
from aiodocker.types import JSONValue

from benchmarks.measure import median
from onready import Engine, GraphBuilder
from tests.docker import engines

PROGRAM = ["/bin/true"]
PATIENCE = 600.0
LOG: dict[str, JSONValue] = {
    "Type": "local",
    "Config": {"max-size": "64g", "max-file": "1", "compress": "false"},
}


def docker_run(host: str, image: str, count: int, window: int, folder: Path) -> None:
    """The `docker` command in a shell loop."""
    del folder
    loop = (
        'seq "$1" | xargs -P "$2" -I{} '
        'docker -H "$3" run --rm --init --log-driver local "$4" /bin/true'
    )
    words = ["sh", "-c", loop, "sh", str(count), str(window), host, image]
    subprocess.run(words, check=True, timeout=PATIENCE, stdout=subprocess.DEVNULL)


async def bare(host: str, image: str, count: int, window: int, folder: Path) -> None:
    """The four calls, by as many workers as run at once."""
    del folder
    connector = aiohttp.UnixConnector(host.removeprefix("unix://"), limit=0)
    config: dict[str, JSONValue] = {
        "Image": image,
        "Cmd": PROGRAM,
        "HostConfig": {"Init": True, "LogConfig": LOG},
    }
    left = iter(range(count))

    async def worker(docker: Docker) -> None:
        for _ in left:
            container = await docker.containers.create(config)
            await container.start()
            await container.wait()
            await container.delete(v=True)

    async with Docker("unix://localhost", connector=connector) as docker:
        await asyncio.gather(*(worker(docker) for _ in range(window)))
    await connector.close()


async def ours(host: str, image: str, count: int, window: int, folder: Path) -> None:
    """A flat graph of that many containers."""
    graph = GraphBuilder("containers")
    for _ in range(count):
        graph.container(image, PROGRAM)
    settings = {"type": "docker", "host": host, "limit": window}
    async with Engine(folder=folder, backends={"docker": settings}) as engine:
        await engine.run(graph.build())


SIDES: dict[str, Callable[[str, str, int, int, Path], Awaitable[None] | None]] = {
    "docker run": docker_run,
    "bare": bare,
    "onready": ours,
}


def measure(side: str, host: str, image: str, count: int, window: int) -> float:
    """Containers per second of one round, from opening to closing what a side needs."""
    with tempfile.TemporaryDirectory(prefix="onready-bench-") as folder:
        began = time.perf_counter()
        made = SIDES[side](host, image, count, window, Path(folder))
        if made is not None:
            asyncio.run(_wait(made))
        return count / (time.perf_counter() - began)


async def _wait(made: Awaitable[None]) -> None:
    await made


def main(argv: Sequence[str] | None = None) -> int:
    """0 where every ratio is good: 0.95 of the bare loop, and as many as `docker run`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.containers", description=__doc__)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--containers", type=int, default=96, help="in a round")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args(argv)
    good = True
    with ExitStack() as stack:
        host = os.environ.get("ONREADY_DOCKER") or stack.enter_context(engines.daemon()).host
        print(
            f"{'at once':>7}  {'docker run':>10}  {'bare':>6}  {'onready':>7}"
            "  to bare  to docker run"
        )
        for side in SIDES:
            measure(side, host, engines.SHELL, 1, 1)  # what is loaded the first time
        for window in options.concurrency:
            found: dict[str, list[float]] = {side: [] for side in SIDES}
            for turn in range(options.rounds):
                order = list(SIDES) if turn % 2 == 0 else list(reversed(SIDES))
                for side in order:
                    rate = measure(side, host, engines.SHELL, options.containers, window)
                    found[side].append(rate)
            rates = {side: median(those) for side, those in found.items()}
            to_bare = median([a / b for a, b in zip(found["onready"], found["bare"], strict=True)])
            to_run = median(
                [a / b for a, b in zip(found["onready"], found["docker run"], strict=True)]
            )
            good = good and to_bare >= 0.95 and to_run >= 1.0
            print(
                f"{window:>7}  {rates['docker run']:>8.2f}/s  {rates['bare']:>4.2f}/s"
                f"  {rates['onready']:>5.2f}/s  {to_bare:>7.2f}  {to_run:>13.2f}",
                flush=True,
            )
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
