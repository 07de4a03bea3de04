"""Output: much of it (F16), and in whatever pieces it comes (F7, for local pipes)."""

from __future__ import annotations

import hashlib
import random
import sys
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
import psutil
import pytest

from onready import Engine, GraphBuilder
from onready.engine.graph import Bound
from onready.engine.logs import LogStore
from onready.engine.names import NodeKey, dispatch_name
from onready.engine.run import Run
from tests.faults.sizes import NIGHTLY, size

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(3600 if NIGHTLY else 120),
]

MIB = 1 << 20
HUGE = size(64, 1024) * MIB
CROWD = size(10, 100)
EACH = 10 * MIB
GROWTH = 32 * MIB
"""Bytes that this process may grow by: half of the least output."""

LINES = "import sys\nline = b'x' * 99 + b'\\n'\nleft = int(sys.argv[1])\nwhile left > 0:\n    part = (line * 10_000)[:left]\n    sys.stdout.buffer.write(part)\n    left -= len(part)\n"
ONE_LINE = LINES.replace("b'x' * 99 + b'\\n'", "b'x' * 100")
PIECES = """\
import hashlib, os, random, sys, time
draw = random.Random(int(sys.argv[1]))
for _ in range(draw.randrange(1, 200)):
    stream = draw.choice((1, 1, 2))
    os.write(stream, draw.randbytes(draw.choice((1, 7, 100, 4096, 65536))))
    if draw.random() < 0.05:
        time.sleep(0.002)
if draw.random() < 0.5:
    os.close(1)
"""


@pytest.fixture
def anyio_backend() -> str:
    """One loop: output is read by a thread that knows none."""
    return "asyncio"


def program(script: str, *words: str, count: int = 1) -> Bound[object]:
    """A graph of programs that write; what they write is no result."""
    g = GraphBuilder("output")
    for number in range(count):
        made = ["sh", "-c", 'touch done; exec "$@"', "sh", sys.executable, "-c", script, *words]
        g.shell(made, outputs="done", name=f"n{number}")
    return g.build(result=None)


def digest(logs: LogStore, run: str, node: str) -> dict[str, tuple[int, str]]:
    """Bytes and hash of what is kept of a node's first attempt, by stream."""
    found: dict[str, tuple[int, hashlib._Hash]] = {}
    for frame in logs.read(run, dispatch_name(run, NodeKey.parse(node), 1)):
        length, hashed = found.get(frame.stream, (0, hashlib.sha256()))
        hashed.update(frame.data)
        found[frame.stream] = (length + len(frame.data), hashed)
    return {stream: (length, hashed.hexdigest()) for stream, (length, hashed) in found.items()}


async def watched(run: Run[object], record: Callable[[str, object], None]) -> int:
    """Wait for a run; by how many bytes this process grew at most. The loop's lag is recorded."""
    process = psutil.Process()
    before = most = process.memory_info().rss
    lag = 0.0
    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:

            async def end() -> None:
                await run.result()
                scope.cancel()

            group.start_soon(end)
            while True:
                due = anyio.current_time() + 0.01
                await anyio.sleep(0.01)
                lag = max(lag, anyio.current_time() - due)
                most = max(most, process.memory_info().rss)
    record("lag_ms", round(lag * 1000, 1))
    record("growth_mib", round((most - before) / MIB, 1))
    return most - before


@pytest.mark.parametrize("script", [LINES, ONE_LINE], ids=["lines", "one-line"])
async def test_one_program_writes_very_much(
    tmp_path: Path, script: str, record_property: Callable[[str, object], None]
) -> None:
    async with Engine(folder=tmp_path) as engine:
        run = await engine.start(program(script, str(HUGE)))
        assert await watched(run, record_property) < GROWTH
        found = await anyio.to_thread.run_sync(digest, engine.logs, run.id, "n0")
    assert {stream: length for stream, (length, _) in found.items()} == {"stdout": HUGE}


async def test_many_programs_write_much(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    async with Engine(folder=tmp_path) as engine:
        run = await engine.start(program(LINES, str(EACH), count=CROWD))
        assert await watched(run, record_property) < GROWTH
        for number in range(CROWD):
            found = await anyio.to_thread.run_sync(digest, engine.logs, run.id, f"n{number}")
            assert found["stdout"][0] == EACH


async def test_output_beyond_the_limit_is_cut_and_says_so(tmp_path: Path) -> None:
    engine = Engine(folder=tmp_path)
    engine.logs = LogStore(tmp_path / "logs", limit=MIB)
    async with engine:
        run = await engine.start(program(LINES, str(8 * MIB)))
        await run.result()
        found = await anyio.to_thread.run_sync(digest, engine.logs, run.id, "n0")
    assert found["stdout"][0] == MIB
    assert "note" in found


async def test_output_is_complete_in_whatever_pieces_it_comes(tmp_path: Path) -> None:
    seeds = [random.randrange(1 << 30) for _ in range(size(6, 100))]
    g = GraphBuilder("pieces")
    for seed in seeds:
        made = ["sh", "-c", 'touch done; exec "$@"', "sh", sys.executable, "-c", PIECES, str(seed)]
        g.shell(made, outputs="done", name=f"n{seed}")
    async with Engine(folder=tmp_path) as engine:
        run = await engine.start(g.build(result=None))
        await run.result()
        for seed in seeds:
            found = await anyio.to_thread.run_sync(digest, engine.logs, run.id, f"n{seed}")
            assert found == written(seed), f"seed {seed}"


def written(seed: int) -> dict[str, tuple[int, str]]:
    """What `PIECES` writes."""
    draw = random.Random(seed)
    streams: dict[str, bytes] = {}
    for _ in range(draw.randrange(1, 200)):
        stream = {1: "stdout", 2: "stderr"}[draw.choice((1, 1, 2))]
        data = draw.randbytes(draw.choice((1, 7, 100, 4096, 65536)))
        streams[stream] = streams.get(stream, b"") + data
        draw.random()
    return {
        stream: (len(data), hashlib.sha256(data).hexdigest()) for stream, data in streams.items()
    }
