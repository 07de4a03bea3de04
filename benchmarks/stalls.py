"""How long the engine's loop stalls while containers chat: `python -m benchmarks.stalls [options]`.

Sixteen containers write lines of a hundred bytes, each at `--rate` MiB/s as long as the Docker
daemon keeps up, and the engine follows them all. Meanwhile a task in its loop sleeps for 5 ms
again and again, and notes how much later it is woken. A process that does nothing else does the
same beside it: the floor.

On a busy machine both wait for a processor, and that is most of what is seen. So the same is
measured once more with both first in line (SCHED_FIFO, as root): what is left is the engine's own.

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
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import msgspec

from onready import Engine, GraphBuilder
from tests.docker import engines

PERIOD = 0.005
MIB = 1 << 20
WORST = 50.0
MOST = 20.0
"""Milliseconds: the limits of the longest stall, and of all but one in a thousand."""
PATIENCE = 600.0


class Stalls(msgspec.Struct):
    """Milliseconds by which a loop came late, and MiB of output a second."""

    worst: float
    p999: float
    p99: float
    rate: float = 0.0


async def watch(lags: list[float]) -> None:
    """Sleep and note how late it was; until cancelled."""
    while True:
        before = time.perf_counter()
        await asyncio.sleep(PERIOD)
        lags.append(time.perf_counter() - before - PERIOD)


async def floor() -> None:
    """Watch an idle loop until the input ends."""
    lags: list[float] = []
    watching = asyncio.create_task(watch(lags))
    await asyncio.to_thread(sys.stdin.readline)
    watching.cancel()
    answer(lags)


async def ours(host: str, containers: int, seconds: int, rate: float) -> None:
    """The engine with its containers."""
    script = (
        f"end=$(($(date +%s) + {seconds})); while [ $(date +%s) -lt $end ]; do "
        f"yes {'z' * 99} | head -c {round(rate * MIB / 10)} >&2; sleep 0.1; done"
    )
    graph = GraphBuilder("chatting")
    for _ in range(containers):
        graph.container(engines.SHELL, ["sh", "-c", script])
    settings = {"type": "docker", "host": host, "limit": containers}
    lags: list[float] = []
    with tempfile.TemporaryDirectory(prefix="onready-bench-") as folder:
        async with Engine(folder=Path(folder), backends={"docker": settings}) as engine:
            watching = asyncio.create_task(watch(lags))
            began = time.perf_counter()
            await engine.run(graph.build())
            took = time.perf_counter() - began
            watching.cancel()
            with suppress(asyncio.CancelledError):
                await watching
        size = size_of(Path(folder, "logs"))
    answer(lags, size / MIB / took)


def size_of(folder: Path) -> int:
    """Bytes of all logs in it."""
    return sum(file.stat().st_size for file in folder.rglob("*.log"))


def answer(lags: list[float], rate: float = 0.0) -> None:
    """To the parent, as a line."""
    lags.sort()
    count = len(lags)
    worst, p999, p99 = (1000 * lags[at] for at in (-1, count * 999 // 1000, count * 99 // 100))
    sys.stdout.buffer.write(msgspec.json.encode(Stalls(worst, p999, p99, rate)) + b"\n")


def go_ahead(place: int) -> None:
    """Let this process go before all others but those of a higher place."""
    if place:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(place))


def measure(words: Sequence[str], *, first: bool) -> tuple[Stalls, Stalls]:
    """The floor and the engine, at the same time."""
    command = [sys.executable, "-m", "benchmarks.stalls", "--role"]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*command, "floor", "--place", str(2 if first else 0)], stdin=pipe, stdout=pipe
    ) as idle:
        try:
            engine = subprocess.run(
                [*command, "ours", "--place", str(int(first)), *words],
                check=True,
                timeout=PATIENCE,
                stdout=pipe,
            )
        finally:
            found, _ = idle.communicate(b"\n", timeout=30)
    made = engine.stdout
    return msgspec.json.decode(found, type=Stalls), msgspec.json.decode(made, type=Stalls)


def main(argv: Sequence[str] | None = None) -> int:
    """0 where the engine's own stalls keep their limits."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stalls", description=__doc__)
    parser.add_argument("--containers", type=int, default=16)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--rate", type=float, default=10.0, help="MiB/s of each container")
    parser.add_argument("--host", default=os.environ.get("ONREADY_DOCKER", ""))
    # What the two children are told.
    parser.add_argument("--role", choices=["floor", "ours"], help=argparse.SUPPRESS)
    parser.add_argument("--place", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    go_ahead(options.place)
    if options.role == "floor":
        asyncio.run(floor())
        return 0
    if options.role == "ours":
        asyncio.run(ours(options.host, options.containers, options.seconds, options.rate))
        return 0
    good = True
    with ExitStack() as stack:
        host = options.host or stack.enter_context(engines.daemon()).host
        words = ["--host", host, "--containers", str(options.containers)]
        words += ["--seconds", str(options.seconds), "--rate", str(options.rate)]
        print(f"{'':>14}  {'loop':>7}  {'worst':>8}  {'p99.9':>7}  {'p99':>7}  output")
        for name, first in (("as usual", False), ("first in line", True)):
            if first and os.geteuid():
                print("first in line: left out, it takes root")
                continue
            idle, engine = measure(words, first=first)
            for side, stalls in (("idle", idle), ("onready", engine)):
                rate = f"{stalls.rate:.0f} MiB/s" if stalls.rate else ""
                print(
                    f"{name:>14}  {side:>7}  {stalls.worst:>5.1f} ms  {stalls.p999:>4.1f} ms"
                    f"  {stalls.p99:>4.1f} ms  {rate}",
                    flush=True,
                )
            if first:
                good = engine.worst <= WORST and engine.p999 <= MOST
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
