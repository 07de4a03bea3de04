"""The folder of a directory catalog: who may read it, what damage does, what cannot lead out of it."""

from __future__ import annotations

import itertools
import os
import shutil
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from onready.engine.errors import StoreError
from onready.storage.confined import Folder, open_root
from onready.storage.directory import DirectoryCatalog


@pytest.fixture(params=[0o000, 0o022, 0o077, 0o277], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def everything(folder: Path) -> list[Path]:
    return [folder, *folder.rglob("*")]


def blob(folder: Path, digest: str) -> Path:
    return folder / "blobs" / digest[:2] / digest[2:]


# --- permissions ---


@pytest.mark.anyio
async def test_only_the_owner_may_read(tmp_path: Path, umask: int) -> None:
    loose = tmp_path / "loose"
    loose.mkdir()
    loose.chmod(0o755)
    source = tmp_path / "source"
    source.write_bytes(b"a file")
    source.chmod(0o644)
    async with DirectoryCatalog(loose / "a" / "catalog") as catalog:
        await catalog.put(b"blob")
        digest = await catalog.put(source)
        await catalog.put_if_absent("runs/r1/results/x.json", b"{}")
        await catalog.fetch(digest, loose / "fetched")
    for path in [*everything(loose / "a"), loose / "fetched"]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
    assert stat.S_IMODE(loose.stat().st_mode) == 0o755
    assert stat.S_IMODE(source.stat().st_mode) == 0o644


@pytest.mark.anyio
async def test_a_loose_folder_that_exists_is_not_changed(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    async with DirectoryCatalog(tmp_path) as catalog:
        await catalog.put(b"blob")
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


# --- damage ---


@pytest.mark.anyio
async def test_a_damaged_blob_is_never_handed_out(tmp_path: Path) -> None:
    content = bytes(range(256)) * 10
    async with DirectoryCatalog(tmp_path / "catalog") as catalog:
        digest = await catalog.put(content)
        path = blob(tmp_path / "catalog", digest)
        for at in range(0, len(content), 97):
            damaged = bytearray(content)
            damaged[at] ^= 1 << at % 8
            path.write_bytes(damaged)
            with pytest.raises(StoreError, match="damaged"):
                await catalog.get(digest)
            with pytest.raises(StoreError, match="damaged"):
                await catalog.fetch(digest, tmp_path / "target")
        assert {entry.name for entry in tmp_path.iterdir()} == {"catalog"}


@pytest.mark.anyio
async def test_putting_again_mends_a_blob_that_was_cut(tmp_path: Path) -> None:
    async with DirectoryCatalog(tmp_path) as catalog:
        digest = await catalog.put(b"content")
        blob(tmp_path, digest).write_bytes(b"cont")
        with pytest.raises(StoreError):
            await catalog.get(digest)
        assert await catalog.put(b"content") == digest
        assert await catalog.get(digest) == b"content"


@pytest.mark.anyio
async def test_the_same_content_is_stored_once(tmp_path: Path) -> None:
    async with DirectoryCatalog(tmp_path) as catalog:
        digest = await catalog.put(b"content")
        before = blob(tmp_path, digest).stat()
        assert await catalog.put(b"content") == digest
        after = blob(tmp_path, digest).stat()
        assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
        assert len(list((tmp_path / "blobs").rglob("*"))) == 2


@pytest.mark.anyio
async def test_a_name_is_a_record_or_a_folder_of_records(tmp_path: Path) -> None:
    async with DirectoryCatalog(tmp_path) as catalog:
        await catalog.put_if_absent("a", b"1")
        with pytest.raises(StoreError):
            await catalog.put_if_absent("a/b", b"2")
        with pytest.raises(KeyError):
            await catalog.read("a/b")
        await catalog.put_if_absent("c/d", b"3")
        with pytest.raises(StoreError):
            await catalog.put_if_absent("c", b"4")
        with pytest.raises(StoreError):
            await catalog.read("c")
        assert await catalog.list("") == ["a", "c/d"]


@pytest.mark.anyio
async def test_a_folder_that_was_deleted_is_a_fault(tmp_path: Path) -> None:
    async with DirectoryCatalog(tmp_path / "catalog") as catalog:
        await catalog.put(b"x")
        shutil.rmtree(tmp_path / "catalog")
        with pytest.raises(StoreError):
            await catalog.put(b"blob")
        with pytest.raises(StoreError):
            await catalog.put_if_absent("a", b"1")


@pytest.mark.anyio
async def test_a_file_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "catalog").write_text("mine")
    with pytest.raises(StoreError):
        async with DirectoryCatalog(tmp_path / "catalog"):
            pass
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "blobs").write_text("mine")
    with pytest.raises(StoreError):
        async with DirectoryCatalog(tmp_path / "other"):
            pass


@pytest.mark.anyio
async def test_what_is_not_open_says_so(tmp_path: Path) -> None:
    catalog = DirectoryCatalog(tmp_path)
    for _ in range(2):
        with pytest.raises(StoreError, match="not open"):
            await catalog.put(b"blob")
        with pytest.raises(StoreError, match="not open"):
            await catalog.list("")
        async with catalog:
            await catalog.put(b"blob")


@pytest.mark.anyio
async def test_containers_see_it_mounted_and_clusters_do_not(tmp_path: Path) -> None:
    async with DirectoryCatalog(tmp_path) as catalog:
        assert catalog.access("host").url == f"file:{tmp_path}"
        access = catalog.access("container")
        (mount,) = access.mounts
        assert (mount.source, mount.read_only, mount.claim) == (str(tmp_path), False, False)
        assert access.url == f"file:{mount.target}"
        with pytest.raises(StoreError, match="cluster"):
            catalog.access("cluster")


# --- confinement ---


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """A folder beside the catalog that nothing may read or write."""
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "secret").write_text("secret")
    return folder


def untouched(outside: Path) -> bool:
    return [path.name for path in outside.iterdir()] == ["secret"] and (
        outside / "secret"
    ).read_text() == "secret"


@pytest.mark.anyio
async def test_links_lead_nowhere(tmp_path: Path, outside: Path) -> None:
    root = tmp_path / "catalog"
    async with DirectoryCatalog(root) as catalog:
        digest = await catalog.put(b"blob")
        (root / "records" / "folder").symlink_to(outside)
        (root / "records" / "secret").symlink_to(outside / "secret")
        (root / "records" / "new").symlink_to(outside / "new")
        (root / "records" / "loop").symlink_to(root / "records" / "loop")
        for name in ("folder/secret", "folder/new", "secret", "new", "loop", "folder"):
            with pytest.raises(StoreError):
                await catalog.read(name)
            with pytest.raises(StoreError):
                await catalog.put_if_absent(name, b"x")
        assert await catalog.list("") == []
        with pytest.raises(StoreError):
            await catalog.list("folder/")
        blob(root, digest).unlink()
        blob(root, digest).symlink_to(outside / "secret")
        with pytest.raises(StoreError):
            await catalog.get(digest)
        with pytest.raises(StoreError):
            await catalog.put(b"blob")
        shutil.rmtree(root / "blobs" / digest[:2])
        (root / "blobs" / digest[:2]).symlink_to(outside)
        with pytest.raises(StoreError):
            await catalog.put(b"blob")
        with pytest.raises(StoreError):
            await catalog.get(digest)
    assert untouched(outside)


@pytest.mark.anyio
async def test_what_is_no_regular_file_is_no_record(tmp_path: Path) -> None:
    async with DirectoryCatalog(tmp_path) as catalog:
        os.mkfifo(tmp_path / "records" / "pipe")
        (tmp_path / "records" / "folder").mkdir()
        for name in ("pipe", "folder"):
            with pytest.raises(StoreError):
                await catalog.read(name)
            with pytest.raises(StoreError):
                await catalog.put_if_absent(name, b"x")
        assert await catalog.list("") == []


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "/etc", "a\0"])
def test_a_folder_takes_single_names_only(tmp_path: Path, name: str) -> None:
    with open_root(tmp_path) as folder:
        with pytest.raises(StoreError), folder.folder(name, make=True):
            pass
        with pytest.raises(StoreError):
            folder.reader(name)
        with pytest.raises(StoreError):
            folder.size(name)
        with folder.draft() as draft:
            with draft.writer():
                pass
            with pytest.raises(StoreError):
                draft.create(name)
            with pytest.raises(StoreError):
                draft.replace(name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_swapped_for_a_link_leads_nowhere(tmp_path: Path, outside: Path) -> None:
    """2,000 tries and more of reading and writing while another thread swaps a folder and a link."""
    root = tmp_path / "root"
    root.mkdir()
    (root / "real").mkdir()
    (root / "link").symlink_to(outside)
    stop = threading.Event()

    def swap() -> None:
        while not stop.is_set():
            for source, target in (
                ("way", "real"),
                ("link", "way"),
                ("way", "link"),
                ("real", "way"),
            ):
                try:
                    (root / source).rename(root / target)
                except FileNotFoundError:
                    continue

    (root / "real").rename(root / "way")
    thread = threading.Thread(target=swap)
    thread.start()
    inside = refused = 0
    deadline = time.monotonic() + 30
    try:
        with open_root(root) as folder:
            for number in itertools.count():
                if number >= 2_000 and ((inside and refused) or time.monotonic() > deadline):
                    break
                try:
                    _try(folder, f"n{number}")
                    inside += 1
                except (StoreError, FileNotFoundError, NotADirectoryError):
                    refused += 1
    finally:
        stop.set()
        thread.join()
    assert untouched(outside)
    assert inside
    assert refused


def _try(root: Folder, name: str) -> None:
    """Write a record and read one, through a way that is being swapped."""
    with root.folder("way") as folder, folder.draft() as draft:
        with draft.writer() as file:
            file.write(b"x")
        draft.create(name)
        with folder.reader(name) as file:
            assert file.read() == b"x"
        try:
            folder.reader("secret").close()
        except FileNotFoundError:
            return
        pytest.fail("read outside of the root")


# --- several processes ---

CREATE = """
import asyncio, sys
from onready.storage.directory import DirectoryCatalog

async def main():
    async with DirectoryCatalog(sys.argv[1]) as catalog:
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(50):
            content = (f"{sys.argv[2]} {number} " * 2_000).encode()
            if await catalog.put_if_absent(f"race/{number}", content):
                print(number, flush=True)
            assert len(set((await catalog.read(f"race/{number}")).split()[::2])) == 1
            await catalog.put(content[-100:])

asyncio.run(main())
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-W", "error", "-c", script, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


@pytest.mark.anyio
async def test_of_processes_that_create_a_record_one_wins(tmp_path: Path) -> None:
    processes = [start(CREATE, tmp_path / "catalog", f"p{number}") for number in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    won: dict[str, str] = {}
    for index, process in enumerate(processes):
        for line in process.communicate()[0].splitlines():
            assert line not in won
            won[line] = f"p{index}"
    assert [process.returncode for process in processes] == [0] * 4
    assert len(won) == 50
    async with DirectoryCatalog(tmp_path / "catalog") as catalog:
        for number, winner in won.items():
            content = await catalog.read(f"race/{number}")
            assert content == (f"{winner} {number} " * 2_000).encode()
    assert not [path for path in everything(tmp_path) if "~" in path.name]


KILLED = """
import asyncio, sys
from onready.storage.directory import DirectoryCatalog

async def main():
    async with DirectoryCatalog(sys.argv[1]) as catalog:
        for number in range(1_000_000):
            await catalog.put_if_absent(f"r/{number}", bytes([number % 256]) * 100_000)
            digest = await catalog.put(b"%d" % number * 10_000)
            print(number, digest, flush=True)

asyncio.run(main())
"""


@pytest.mark.anyio
@pytest.mark.parametrize("lines", [1, 7, 25])
async def test_a_killed_process_leaves_only_whole_things(tmp_path: Path, lines: int) -> None:
    with start(KILLED, tmp_path / "catalog") as process:
        assert process.stdout is not None
        told = [process.stdout.readline() for _ in range(lines)]
        process.kill()
        told += [line for line in process.stdout if line.endswith("\n")]
    async with DirectoryCatalog(tmp_path / "catalog") as catalog:
        for line in told:
            number, digest = line.split()
            assert await catalog.get(digest) == number.encode() * 10_000
        names = await catalog.list("")
        assert len(names) >= len(told)
        for name in names:
            content = await catalog.read(name)
            assert content == bytes([int(name[2:]) % 256]) * 100_000
            assert await catalog.put_if_absent(name, b"") is False
        await catalog.put_if_absent(f"r/{len(names)}", b"goes on")


FULL = """
import asyncio, resource, signal, sys
from pathlib import Path
from onready.engine.errors import StoreError
from onready.storage.directory import DirectoryCatalog

async def main():
    async with DirectoryCatalog(sys.argv[1]) as catalog:
        source = Path(sys.argv[1]).with_name("source")
        source.write_bytes(b"x" * 90_000)
        digest = await catalog.put(b"small")
        big = b"x" * 90_000
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
        for attempt in (
            lambda: catalog.put(big),
            lambda: catalog.put(source),
            lambda: catalog.put_if_absent("a", big),
        ):
            try:
                await attempt()
            except StoreError as error:
                print("refused", flush=True)
        assert await catalog.list("") == []
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
        assert await catalog.put_if_absent("a", big)
        assert await catalog.get(await catalog.put(source)) == big
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
        target = Path(sys.argv[1]).with_name("target")
        try:
            await catalog.fetch(await catalog.put(big), target)
        except StoreError as error:
            print("refused", target.exists(), flush=True)

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
asyncio.run(main())
"""


def test_a_disk_that_refuses_to_write_leaves_nothing_behind(tmp_path: Path) -> None:
    with start(FULL, tmp_path / "catalog") as process:
        said = process.communicate()[0].splitlines()
    assert process.returncode == 0
    assert said == ["refused", "refused", "refused", "refused False"]
    assert not [path for path in everything(tmp_path) if "~" in path.name]
