"""Cached tasks on every local backend, and of programs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from onready import Engine, Resources, graph, shell
from tests.engine import caching
from tests.engine.caching import origins

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Asyncio alone: children are watched through its loop."""
    return "asyncio"


@pytest.fixture
async def kept(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Engine]:
    del anyio_backend
    async with Engine(folder=tmp_path / "state", grace=0.5) as made:
        yield made


@graph
def word(text: str, marks: str) -> str:
    return shell(
        ["sh", "-c", 'echo ran >> "$1"; echo "$2"', "sh", "{marks}", "{text}"],
        inputs={"text": text, "marks": marks},
        cache="v1",
    )


@pytest.mark.parametrize("backend", ["thread", "process", "subprocess"])
async def test_on_every_local_backend(kept: Engine, tmp_path: Path, backend: str) -> None:
    marks = tmp_path / "marks"
    marked = caching.mark.with_options(backend=backend)
    assert [await kept.run(marked.bind(str(marks), 5)) for _ in range(2)] == [6, 6]
    assert await kept.run(marked.bind(str(marks), 6)) == 7
    assert marks.read_text() == "5\n6\n"


async def test_a_value_made_in_one_place_serves_another(kept: Engine, tmp_path: Path) -> None:
    marks = str(tmp_path / "marks")
    for backend in ("subprocess", "process", "thread"):
        run = await kept.start(caching.mark.with_options(backend=backend).bind(marks, 1))
        assert await run.result() == 2
    assert (tmp_path / "marks").read_text() == "1\n"
    assert await origins(run) != {}


async def test_of_a_program(kept: Engine, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    for text in ("one", "one", "two"):
        assert await kept.run(word.bind(text, str(marks))) == text
    assert marks.read_text() == "ran\nran\n"


async def test_files_made_elsewhere_come_back_whole(kept: Engine) -> None:
    made = caching.written.with_options(backend="subprocess", resources=Resources(cpu=1))
    for _ in range(2):
        assert (await kept.run(made.bind(7))).path.read_text() == "7"
    run = await kept.start(made.bind(7))
    await run.result()
    assert list(await origins(run)) == ["written"]
