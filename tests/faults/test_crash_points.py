"""F2: the process ends at every named crash point, before and after each effect; then resume.

What the dead process left is a history that can have happened, and a catalog in which everything
is whole. The resumed run comes to the same value, and what was committed does not run again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from blake3 import blake3

from onready import Engine
from onready.engine.crashpoints import CODE, MARK, POINTS, VARIABLE
from onready.engine.events import AnyEvent, NodeSucceeded
from onready.engine.fold import fold
from onready.engine.history import check_history
from onready.engine.plan.dump import load_plan
from onready.engine.plan.model import Plan
from onready.engine.spi import result_name
from onready.engine.values.stored import Compound, Encoded, Stored
from onready.engine.worker.record import decode_record
from onready.storage.directory import DirectoryCatalog
from onready.storage.files import FilesRunLog
from onready.storage.sqlite import SqliteRunLog
from tests.faults import crashing
from tests.faults.sizes import size

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.may_block("the graph's inline nodes write to their ledger"),
]

FILES = {point for point in POINTS if point.rpartition(".")[0] not in {"migrate", "fetch.link"}}
"""Points that a run log in files passes, or may."""

AWAY = ("spawn", "envelope", "job", "handle", "stage", "result")
"""Effects that need a node outside of the driver."""

EXPECTED = {
    "near": [crashing.LARGE, crashing.LARGE, "0"],
    "files": [crashing.LARGE, crashing.LARGE, "0"],
    "away": [crashing.LARGE, crashing.LARGE + 1, crashing.LARGE + 1, str(crashing.LARGE)],
}
PASSES = size(1, 12)
"""At which passings of a point it ends: the first ones."""


@pytest.fixture
def anyio_backend() -> str:
    """Asyncio alone: the process backends watch children through its loop."""
    return "asyncio"


def crash(how: str, folder: Path, point: str) -> subprocess.CompletedProcess[str]:
    """Run the graph in a process, which or whose worker ends at the point, once."""
    command = [sys.executable, "-m", "tests.faults.crashing", how, str(folder)]
    environment = os.environ | {VARIABLE: point, MARK: str(folder / "mark")}
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, timeout=50, check=False
    )


def cases() -> list[tuple[str, str]]:
    """Each point in the graph that passes it; those of the stores with both kinds of run log."""
    ways = {point: "away" if point.rpartition(".")[0] in AWAY else "near" for point in POINTS}
    near = [("files", point) for point, how in ways.items() if how == "near" and point in FILES]
    return [(how, point) for point, how in ways.items()] + near


@pytest.mark.parametrize(
    ("how", "point"), cases(), ids=[f"{how} {point}" for how, point in cases()]
)
async def test_whatever_point_it_ends_at(how: str, point: str, tmp_path: Path) -> None:
    for passed in range(1, PASSES + 1):
        folder = tmp_path / str(passed)
        folder.mkdir()
        ended = crash(how, folder, f"{point}:{passed}")
        if not (folder / "mark").exists():
            # It was not passed that often.
            assert passed > 1, f"no crash at {point}: {ended}"
            assert ended.returncode == 0, ended.stderr
            return
        assert ended.stderr == ""
        if ended.returncode == 0:
            # A worker ended: its driver has made the attempt again.
            assert json.loads(ended.stdout) == EXPECTED[how]
            await judge(how, folder, ran_again=1)
        else:
            assert ended.returncode == CODE
            await judge(how, folder)
            await resume(how, folder)


async def judge(how: str, folder: Path, *, ran_again: int = 0) -> None:
    """What the dead process left: its log, its catalog, its effects."""
    await judge_catalog(folder / "state" / "catalog")
    events = await recorded(how, folder)
    if not events:
        return
    plan, committed = await judge_history(folder / "state", events)
    assert plan.root.nodes
    lines = ledger(folder)
    assert committed <= set(lines)
    assert sum(lines.values()) <= len(lines) + ran_again


async def recorded(how: str, folder: Path) -> list[AnyEvent]:
    """The events in the run log; none where there is no such log yet."""
    state = folder / "state"
    log = FilesRunLog(state / "log") if how == "files" else SqliteRunLog(state / "runs.db")
    if not log.path.exists():
        return []
    async with log:
        return [event async for batch in log.read(crashing.RUN) for event in batch]


async def judge_history(state: Path, events: Sequence[AnyEvent]) -> tuple[Plan, set[str]]:
    """The log is in order, and the catalog has all that it speaks of."""
    async with DirectoryCatalog(state / "catalog") as catalog:
        plan = load_plan(await catalog.read(f"plans/{fold(events).fingerprint}.json"))
        succeeded = [event for event in events if isinstance(event, NodeSucceeded)]
        for event in succeeded:
            for digest in digests(event.value):
                assert await catalog.get(digest)
    assert [str(one) for one in check_history(events, plan)] == []
    return plan, {str(event.node) for event in succeeded}


def digests(value: Stored) -> list[str]:
    if isinstance(value, Compound):
        return [digest for item in value.items for digest in digests(item)]
    return [value.digest] if isinstance(value, Encoded) and value.digest is not None else []


async def judge_catalog(folder: Path) -> None:
    """Every blob is what its name says, every record whole: torn ones have drafts' names."""
    blobs = folder / "blobs"
    if not (folder / "records").exists():
        return
    for path in blobs.rglob("*"):
        if path.is_file() and not path.name.startswith("~"):
            assert blake3(path.read_bytes()).hexdigest() == path.parent.name + path.name
    async with DirectoryCatalog(folder) as catalog:
        for name in await catalog.list(""):
            content = await catalog.read(name)
            if name.startswith("plans/"):
                assert load_plan(content).root.nodes
            else:
                record = decode_record(content)
                assert name.startswith(result_name(record.run, "")[: -len(".json")])


def ledger(folder: Path) -> Counter[str]:
    """How often each node has left its line."""
    path = folder / "ledger"
    return Counter(path.read_text().split() if path.exists() else [])


async def resume(how: str, folder: Path) -> None:
    """Go on with the run, or start it where nothing of it was recorded."""
    before = await recorded(how, folder)
    committed = {str(event.node) for event in before if isinstance(event, NodeSucceeded)}
    lines = ledger(folder)
    run_log = crashing.run_log_of(how, folder)
    async with Engine(folder=folder / "state", run_log=run_log, grace=0.5) as engine:
        bound = crashing.build(folder, away=how == "away")
        # By its id: a run that had ended gives its value, one that had not begun is begun.
        value = await engine.run(bound, id=crashing.RUN)
    assert value == EXPECTED[how]
    after = await recorded(how, folder)
    assert after[: len(before)] == before
    await judge_history(folder / "state", after)
    now = ledger(folder)
    for node, count in now.items():
        # What was committed never runs again, everything else at most once more.
        again = 0 if node in committed else 1
        assert count <= max(lines[node] + again, 1)
