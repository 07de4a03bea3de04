"""F28: whatever the umask and however loose the folders around, what the stores make is private.

Folders are 0700, files 0600, and what existed before is as it was.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from onready.engine.registry import CATALOGS, RUN_LOGS, create
from onready.engine.testing.samples import started, steps, succeeded


@pytest.fixture(params=[0o000, 0o022, 0o277], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


@pytest.fixture(params=[0o777, 0o755, 0o2775], ids=oct)
def loose(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder that others may look into, and one in it."""
    folder = tmp_path / "loose"
    (folder / "inner").mkdir(parents=True)
    for path in (folder, folder / "inner"):
        path.chmod(request.param)
    return folder / "inner"


def modes(folder: Path) -> dict[str, int]:
    """The modes of a folder, of all below it, and of its parent."""
    found = {str(path): stat.S_IMODE(path.lstat().st_mode) for path in folder.rglob("*")}
    return found | {
        str(path): stat.S_IMODE(path.stat().st_mode) for path in (folder, folder.parent)
    }


async def private(folder: Path, before: dict[str, int]) -> int:
    """Check all that is there; how much of it is new."""
    after = await anyio.to_thread.run_sync(modes, folder)
    made = after.keys() - before.keys()
    assert {path: after[path] for path in before} == before
    for path in made:
        # A folder in one that gives its group away by the set-group-id bit inherits that bit.
        expected = 0o700 if Path(path).is_dir() else 0o600
        assert after[path] & 0o777 == expected, (path, oct(after[path]))
    return len(made)


@pytest.mark.anyio
@pytest.mark.parametrize("address", ["files:{}/a/runs", "sqlite:{}/a/runs.db"])
async def test_what_a_run_log_makes_is_private(loose: Path, umask: None, address: str) -> None:
    before = modes(loose)
    config = await anyio.to_thread.run_sync(lambda: create(RUN_LOGS, address.format(loose)))
    async with config.open() as log:
        for run in ("r1", "r2"):
            lease = await log.lease(run, "me", 60.0)
            await log.append(run, lease.epoch, [started(), *steps(2, 500)])
            await log.renew(lease)
            assert await private(loose, before) >= 2
            await log.append(run, lease.epoch, [succeeded(501)])
            await log.release(lease)
    assert await private(loose, before) >= 2


@pytest.mark.anyio
@pytest.mark.parametrize("address", ["file:{}/a/catalog"])
async def test_what_a_catalog_makes_is_private(
    loose: Path, umask: None, tmp_path: Path, address: str
) -> None:
    source = tmp_path / "source"
    source.write_bytes(bytes(100_000))
    before = modes(loose)
    config = await anyio.to_thread.run_sync(lambda: create(CATALOGS, address.format(loose)))
    async with config.open() as catalog:
        digest = await catalog.put(source)
        await catalog.put(b"blob")
        await catalog.put_if_absent("runs/r1/results/a.json", b"record")
        await catalog.put_if_absent("top", b"record")
        await catalog.remove("top")
        await catalog.fetch(digest, loose / "fetched")
    assert await private(loose, before) >= 10
