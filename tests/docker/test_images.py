"""Code by image, the way of production: the image has Python, onready and the user's package.

Also what is said where it has not, or has others.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncGenerator
from dataclasses import replace
from pathlib import Path

import pytest

from onready.engine.errors import BackendError
from onready.engine.spi import Outcome
from onready.engine.testing.fakes import RecordingReporter
from tests.backends import nodes
from tests.backends.kit import RUN, failure
from tests.docker import images
from tests.docker.engines import PYTHON, SHELL
from tests.docker.test_containers import Room, make_room

pytestmark = [pytest.mark.timeout(240)]

FLOWS = f"""
import sys

from onready import File, NodeContext, Provided, graph, shell, task


@task
def write(words: list[str], context: NodeContext = Provided(NodeContext)) -> File:
    print("writing", len(words))
    print("in red", file=sys.stderr)
    context.progress(0.5, "half")
    path = context.folder / "words.txt"
    path.write_text("\\n".join(words))
    context.progress(1.0, "done")
    return File(path)


@task
def read(file: File, counted: str) -> list[str]:
    return [sys.prefix, counted, *file.path.read_text().split()]


@graph
def main() -> list[str]:
    file = write(["a", "b"])
    return read(file, shell("wc -w {{file}}", inputs={{"file": file}}, image="{SHELL}"))
"""
DOCKERFILE = f"FROM {images.WORKER}\nCOPY shop /app/shop\nENV PYTHONPATH=/app\n"


def onready(folder: Path, *words: str) -> str:
    """What the command says in that folder."""
    done = subprocess.run(
        [sys.executable, "-m", "onready", *words],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_graph_runs_with_the_code_that_is_in_its_image(engine: str, tmp_path: Path) -> None:
    images.worker(engine)
    files = {"shop/__init__.py": "", "shop/flows.py": FLOWS}
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    images.build(engine, "onready-test-shop:1", DOCKERFILE, files)
    settings = f'[backends.docker]\ntype = "docker"\nhost = "{engine}"\n'
    (tmp_path / "onready.toml").write_text(settings + 'image = "onready-test-shop:1"\n')
    said = onready(tmp_path, "run", "shop.flows:main", "--backend", "docker")
    prefix, counted, *words = json.loads(said)
    assert prefix == "/opt/python"
    assert (counted.split()[0], words) == ("2", ["a", "b"])
    # What a node says inside is told outside, as on any backend.
    told = [
        json.loads(line)
        for line in onready(tmp_path, "events", "last", "--format", "json").splitlines()
    ]
    progress = [(one["fraction"], one["message"]) for one in told if one["type"] == "node.progress"]
    assert progress == [(0.5, "half"), (1.0, "done")]
    logs = [one for one in told if one["type"] == "node.log" and one["node"] == "write"]
    logged = {one["stream"]: one["size"] for one in logs}
    assert logged == {"stdout": len("writing 2\n"), "stderr": len("in red\n")}
    assert "in red" in onready(tmp_path, "logs", "last")


# --- images that lack something, or have something else -------------------------------------------


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Asyncio alone: aiohttp, which aiodocker stands on, knows no other loop."""
    return "asyncio"


@pytest.fixture
async def room(engine: str, tmp_path: Path) -> AsyncGenerator[Room]:
    images.worker(engine)
    async with make_room(engine, tmp_path, network="none") as made:
        yield made
    assert not await made.left()


async def tried(room: Room, image: str, **options: object) -> Outcome:
    """A function in a container of that image."""
    attempt = room.attempt(nodes.double, {"x": 2})
    return await room.run(replace(attempt, options={"image": image, **options}))


@pytest.mark.anyio
@pytest.mark.parametrize("init", [True, False])
async def test_an_image_without_onready(room: Room, init: bool) -> None:
    found = failure(await tried(room, PYTHON, init=init))
    assert (found.kind, found.exit_code) == ("config", 127)
    assert found.message == (
        f"the image '{PYTHON}' has no `onready` command on its PATH: install onready in it "
        "(RUN pip install onready), or say code='mount'"
    )
    assert "onready" in found.reason  # Docker's own words
    found = failure(await tried(room, PYTHON, init=init, python="/usr/bin/python3"))
    assert (found.kind, found.exit_code) == ("config", 127)
    assert "cannot run /usr/bin/python3 with onready: install onready" in found.message
    found = failure(await tried(room, SHELL, init=init, code="mount"))
    assert (found.kind, found.exit_code) == ("config", 127 if init else 1)
    assert "must have the C library" in found.message


@pytest.mark.anyio
async def test_a_python_without_onready_or_without_a_part_of_it(room: Room) -> None:
    lines = f"FROM {images.WORKER}\nRUN busybox rm -r {images.SITE}/"
    images.build(room.host, "onready-test-bare:1", lines + "onready", {})
    found = failure(await tried(room, "onready-test-bare:1", python="/opt/python/bin/python3"))
    assert (found.kind, found.exit_code) == ("config", 1)
    assert "install onready in it" in found.message
    assert "No module named 'onready'" in found.message
    images.build(room.host, "onready-test-part:1", lines + "msgspec", {})
    found = failure(await tried(room, "onready-test-part:1"))
    assert (found.kind, found.exit_code) == ("config", 1)
    assert "No module named 'msgspec'" in found.message


@pytest.mark.anyio
async def test_an_image_without_the_users_module(room: Room) -> None:
    found = failure(await tried(room, images.WORKER))
    assert found.type == "GraphError"
    assert "no module named 'tests.backends.nodes'" in found.message
    assert "install its package where the worker runs" in found.message


@pytest.mark.anyio
async def test_an_image_with_another_onready(room: Room) -> None:
    single = f"{images.SITE}/onready/engine/worker/single.py"
    lines = (
        f"FROM {images.WORKER}\nRUN busybox sed -i 's/^_VERSION: Final = 1/_VERSION = 2/' {single}"
    )
    images.build(room.host, "onready-test-other:1", lines, {})
    found = failure(await tried(room, "onready-test-other:1"))
    assert (found.kind, found.exit_code) == ("config", None)
    assert "the envelope has version 1; this onready knows 2" in found.message
    spi = f"{images.SITE}/onready/engine/spi.py"
    lines = (
        f"FROM {images.WORKER}\nRUN busybox sed -i 's/version: int = 1$/version: int = 3/' {spi}"
    )
    lines += f" && busybox sed -i 's/^_VERSION: Final = 1/_VERSION = 1/' {single}"
    images.build(room.host, "onready-test-other:2", lines, {})
    with pytest.raises(
        BackendError, match=r"a result record of version 3.*another version"
    ) as raised:
        await tried(room, "onready-test-other:2")
    assert not raised.value.retryable


@pytest.mark.anyio
async def test_a_context_has_its_progress_and_its_folder(engine: str, tmp_path: Path) -> None:
    async with make_room(engine, tmp_path, image=PYTHON, code="mount") as room:
        report = RecordingReporter()
        attempt = room.attempt(nodes.context)
        found = await room.value(await room.backend.execute(attempt, report))
        assert found == [RUN, str(attempt.key), 1, 0o700, str(attempt.folder / "scratch"), True]
        assert report.progresses == [(0.5, "half")]
        assert not report.output("stderr")
        assert not attempt.folder.exists()
