"""A real graph through the engine, its heavy nodes as jobs of the batch service."""

from __future__ import annotations

import sys
from pathlib import Path

import anyio
import pytest
from company_batch.sample import primes

from onready import Engine
from onready.engine.events import AttemptPlanned, NodeStarted

pytestmark = pytest.mark.anyio
TOKEN = "made-up-token-7f3a"


def engine(url: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Engine:
    monkeypatch.setenv("COMPANY_BATCH_TOKEN", TOKEN)
    settings = {
        "type": "company-batch",
        "url": url,
        "token": "{{COMPANY_BATCH_TOKEN}}",
        "python": sys.executable,
        "poll": 0.1,
    }
    return Engine(folder=folder / "onready", backends={"company-batch": settings})


def holds(folder: Path, text: str) -> bool:
    """Whether any file under the folder has the text in it."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return any(text.encode() in path.read_bytes() for path in files)


async def test_a_nested_map_runs_as_jobs(
    service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with engine(service, tmp_path, monkeypatch) as running:
        run = await running.start(primes.bind([10, 100, 1000]))
        outcome = await run.wait()
        assert outcome.value == [4, 25, 168], outcome
        seen = [event async for event in run.events()]
        planned = [event for event in seen if isinstance(event, AttemptPlanned)]
        jobs = [event for event in planned if event.backend == "company-batch"]
        assert len(jobs) == 6
        handles = {event.handle for event in seen if isinstance(event, NodeStarted)}
        assert len(handles - {""}) == 6
        output = b"".join(
            frame.data for job in jobs for frame in running.logs.read(run.id, job.dispatch)
        )
    assert output.count(b"looking from") == 6
    assert not await anyio.to_thread.run_sync(holds, tmp_path, TOKEN)
