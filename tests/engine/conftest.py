"""Fixtures of the engine's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from onready import Engine
from tests.engine import work


@pytest.fixture(autouse=True)
def ledger() -> list[str]:
    work.calls.clear()
    return work.calls


@pytest.fixture(params=["memory", "sqlite"])
async def engine(
    request: pytest.FixtureRequest, tmp_path: Path, anyio_backend: str
) -> AsyncIterator[Engine]:
    """An engine on each kind of run log."""
    del anyio_backend
    made = (
        Engine.memory(grace=0.5)
        if request.param == "memory"
        else Engine(folder=tmp_path / "state", grace=0.5)
    )
    async with made:
        yield made


@pytest.fixture
async def memory(anyio_backend: str) -> AsyncIterator[Engine]:
    """An engine in memory, where the run log does not matter."""
    del anyio_backend
    async with Engine.memory(grace=0.5) as made:
        yield made
