"""F26: nothing that is put into a catalog's folder leads out of it.

Names, absolute paths, `..` and plain links are held by `tests/storage/test_directory_files.py`; here
are hard links, devices, twins by case, and folders that are swapped for links while all of the
catalog's calls are at work.
"""

from __future__ import annotations

import itertools
import os
import shutil
import stat
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import anyio.to_thread
import pytest

from onready.engine.errors import StoreError
from onready.storage.directory import DirectoryCatalog
from tests.faults.sizes import size

SECRET = b"secret"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the catalog that nothing may read or write."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_bytes(SECRET)
    return folder


def untouched(outside: Path) -> bool:
    return [(path.name, path.read_bytes()) for path in outside.iterdir()] == [("secret", SECRET)]


@pytest.mark.anyio
async def test_a_hard_link_is_never_written_through(tmp_path: Path, outside: Path) -> None:
    root = tmp_path / "catalog"
    async with DirectoryCatalog(root) as catalog:
        digest = await catalog.put(b"blob")
        place = root / "blobs" / digest[:2] / digest[2:]
        place.unlink()
        place.hardlink_to(outside / "secret")
        with pytest.raises(StoreError, match="damaged"):
            await catalog.get(digest)
        assert await catalog.put(b"blob") == digest  # replaces the name, not the file
        assert await catalog.get(digest) == b"blob"
        (root / "records" / "a").hardlink_to(outside / "secret")
        assert await catalog.put_if_absent("a", b"x") is False
        assert await catalog.remove("a") is True
        assert await catalog.put_if_absent("a", b"x") is True
    assert untouched(outside)


@pytest.mark.anyio
@pytest.mark.skipif(os.geteuid() != 0, reason="making a device needs root")
async def test_a_device_is_no_record(tmp_path: Path) -> None:
    async with DirectoryCatalog(tmp_path) as catalog:
        os.mknod(tmp_path / "records" / "zero", 0o600 | stat.S_IFCHR, os.makedev(1, 5))
        for call in (catalog.read, catalog.remove):
            with pytest.raises(StoreError):
                await call("zero")
        with pytest.raises(StoreError):
            await catalog.put_if_absent("zero", b"x")
        assert await catalog.list("") == []
        assert (tmp_path / "records" / "zero").is_char_device()


@pytest.mark.anyio
async def test_removing_follows_no_link(tmp_path: Path, outside: Path) -> None:
    root = tmp_path / "catalog"
    async with DirectoryCatalog(root) as catalog:
        (root / "records" / "link").symlink_to(outside / "secret")
        (root / "records" / "folder").symlink_to(outside)
        for name in ("link", "folder", "folder/secret"):
            with pytest.raises(StoreError):
                await catalog.remove(name)
        assert (root / "records" / "link").is_symlink()
    assert untouched(outside)


@pytest.mark.anyio
async def test_names_that_differ_by_case_are_two_records(tmp_path: Path) -> None:
    async with DirectoryCatalog(tmp_path) as catalog:
        assert await catalog.put_if_absent("Twin", b"1")
        assert await catalog.put_if_absent("twin", b"2")
        assert [await catalog.read("Twin"), await catalog.read("twin")] == [b"1", b"2"]
        assert await catalog.remove("Twin")
        assert await catalog.list("") == ["twin"]


def swap(root: Path, outside: Path, times: int, ended: threading.Event) -> None:
    """Swap `way` for a link to the outside, and back for a folder, so many times."""
    way, aside = root / "way", root / "~"
    try:
        for _ in range(times):
            # The catalog makes the folder where it is missing: it may be there at any moment.
            with suppress(OSError):
                way.rename(aside)
            with suppress(FileExistsError):
                way.symlink_to(outside)
            with suppress(OSError):
                way.unlink()
            with suppress(FileExistsError):
                way.mkdir()
            with suppress(OSError):  # it was such a link that was set aside
                aside.unlink()
            shutil.rmtree(aside, ignore_errors=True)
    finally:
        ended.set()


def race(calls: Sequence[Callable[[str], object]], ended: threading.Event) -> tuple[int, int]:
    """Call one after the other until `ended`: how many were done inside, and how many refused."""
    inside = refused = 0
    for number, call in enumerate(itertools.cycle(calls)):
        if ended.is_set():
            break
        try:
            found = call(f"n{number // len(calls)}")
        except KeyError:
            inside += 1
        except (StoreError, OSError):
            refused += 1
        else:
            inside += 1
            assert found != SECRET
            assert not isinstance(found, list) or "way/secret" not in found
    return inside, refused


@pytest.mark.anyio
async def test_swapped_links_lead_nowhere(tmp_path: Path, outside: Path) -> None:
    root = tmp_path / "catalog"
    ended = threading.Event()
    times = size(2_000, 100_000)
    async with DirectoryCatalog(root) as catalog:
        await catalog.put_if_absent("way/first", b"x")
        calls: tuple[Callable[[str], object], ...] = (
            lambda name: catalog._create(f"way/{name}", b"x"),
            lambda name: catalog._read("way/secret"),
            lambda name: catalog._remove("way/secret"),
            lambda name: catalog._list("way/"),
            lambda name: catalog._list(""),
            lambda name: catalog._remove(f"way/{name}"),
        )
        thread = threading.Thread(target=swap, args=(root / "records", outside, times, ended))
        thread.start()
        try:
            inside, refused = await anyio.to_thread.run_sync(race, calls, ended)
        finally:
            await anyio.to_thread.run_sync(thread.join)
    assert untouched(outside)
    assert inside
    assert refused
