"""The contract of `Catalog`, as tests that every catalog runs: ours and anybody's.

    class TestMine(CatalogSuite):
        def open_catalog(self, folder):
            return MyConfig(...).open()

Run by pytest with anyio's plug-in, on asyncio and on trio (override the `anyio_backend` fixture
for a catalog that works on one of them alone).

Rule of this room: it knows contracts and no implementation; what it asks of a catalog is written
in `onready.engine.spi`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path
from typing import Final

import anyio
import pytest
from blake3 import blake3

from onready.engine.errors import StoreError
from onready.engine.spi import Access, Catalog

ABSENT: Final = "0" * 64
BAD_NAMES: Final = (
    "",
    ".",
    "..",
    "/",
    "/etc/passwd",
    "../x",
    "a/..",
    "a/../b",
    "a/./b",
    "./a",
    "a//b",
    "a/",
    "a b",
    "a\\b",
    "~a",
    "a~",
    "a\0b",
    "a\n",
    "a:b",
    "a*",
    "\u00e9",
    "\u202ea",
    "a" * 5_000,
)
BAD_DIGESTS: Final = (
    "",
    "..",
    "a" * 63,
    "A" * 64,
    "g" * 64,
    "a" * 65,
    "../" + "a" * 61,
    "a" * 63 + "\n",
)
SIZES: Final = (0, 1, 4_096, 100_000, 3 * 1024 * 1024 + 17)


def content_of(size: int) -> bytes:
    """Bytes that no other size begins with."""
    return blake3(b"%d" % size).digest(length=size)


@pytest.mark.anyio
class CatalogSuite:
    """Subclass it and say how your catalog is opened."""

    def open_catalog(self, folder: Path) -> AbstractAsyncContextManager[Catalog]:
        """A catalog that keeps what it keeps in `folder`; the same folder, the same catalog."""
        raise NotImplementedError  # pragma: no cover - for whoever forgets it

    @pytest.fixture
    async def catalog(self, tmp_path: Path) -> AsyncGenerator[Catalog]:
        """An empty catalog, open."""
        async with self.open_catalog(tmp_path / "catalog") as catalog:
            yield catalog

    # --- blobs ---

    @pytest.mark.parametrize("size", SIZES)
    async def test_gives_back_what_was_put(self, catalog: Catalog, size: int) -> None:
        content = content_of(size)
        digest = await catalog.put(content)
        assert digest == blake3(content).hexdigest()
        assert await catalog.get(digest) == content

    @pytest.mark.parametrize("size", SIZES)
    async def test_puts_and_fetches_files(
        self, catalog: Catalog, tmp_path: Path, size: int
    ) -> None:
        content = content_of(size)
        source, target = anyio.Path(tmp_path / "source"), anyio.Path(tmp_path / "target")
        await source.write_bytes(content)
        digest = await catalog.put(Path(source))
        assert digest == blake3(content).hexdigest()
        assert await catalog.put(content) == digest
        await catalog.fetch(digest, Path(target))
        assert await target.read_bytes() == content
        assert stat.S_IMODE((await target.stat()).st_mode) == 0o600
        assert await _names(tmp_path) - {"catalog"} == {"source", "target"}

    async def test_the_same_content_may_be_put_again_and_at_once(self, catalog: Catalog) -> None:
        content = content_of(50_000)
        digests: list[str] = []

        async def put() -> None:
            digests.append(await catalog.put(content))

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(put)
        assert digests == [blake3(content).hexdigest()] * 20
        assert await catalog.get(digests[0]) == content

    async def test_what_is_put_does_not_change_with_its_source(
        self, catalog: Catalog, tmp_path: Path
    ) -> None:
        source = anyio.Path(tmp_path / "source")
        await source.write_bytes(b"first")
        digest = await catalog.put(Path(source))
        await source.write_bytes(b"other")
        assert await catalog.get(digest) == b"first"
        buffer = bytearray(b"buffer")
        digest = await catalog.put(bytes(buffer))
        buffer[:] = b"filled"
        assert await catalog.get(digest) == b"buffer"

    async def test_blobs_that_are_not_there(self, catalog: Catalog, tmp_path: Path) -> None:
        with pytest.raises(KeyError):
            await catalog.get(ABSENT)
        with pytest.raises(KeyError):
            await catalog.fetch(ABSENT, tmp_path / "target")
        assert "target" not in await _names(tmp_path)

    @pytest.mark.parametrize("digest", BAD_DIGESTS)
    async def test_what_is_no_digest_is_refused(
        self, catalog: Catalog, tmp_path: Path, digest: str
    ) -> None:
        with pytest.raises(StoreError):
            await catalog.get(digest)
        with pytest.raises(StoreError):
            await catalog.fetch(digest, tmp_path / "target")
        assert "target" not in await _names(tmp_path)

    async def test_fetching_replaces_nothing(self, catalog: Catalog, tmp_path: Path) -> None:
        digest = await catalog.put(b"blob")
        target = anyio.Path(tmp_path / "target")
        await target.write_bytes(b"mine")
        with pytest.raises(StoreError):
            await catalog.fetch(digest, Path(target))
        assert await target.read_bytes() == b"mine"
        await anyio.Path(tmp_path / "link").symlink_to(tmp_path / "aim")
        with pytest.raises(StoreError):
            await catalog.fetch(digest, tmp_path / "link")
        assert await _names(tmp_path) - {"catalog"} == {"target", "link"}

    async def test_only_regular_files_can_be_put(self, catalog: Catalog, tmp_path: Path) -> None:
        os.mkfifo(tmp_path / "pipe")
        for source in (tmp_path, tmp_path / "pipe", Path("/dev/zero"), tmp_path / "absent"):
            with pytest.raises(StoreError):
                await catalog.put(source)

    # --- records ---

    async def test_a_record_is_created_once(self, catalog: Catalog) -> None:
        name = "runs/r1/results/onready-abc.json"
        assert await catalog.put_if_absent(name, b"first") is True
        assert await catalog.put_if_absent(name, b"second") is False
        assert await catalog.put_if_absent(name, b"first") is False
        assert await catalog.read(name) == b"first"

    @pytest.mark.parametrize("size", [0, 1_000_000])
    async def test_records_of_any_size(self, catalog: Catalog, size: int) -> None:
        assert await catalog.put_if_absent("a", content_of(size))
        assert await catalog.read("a") == content_of(size)

    async def test_of_many_that_create_a_record_one_wins(self, catalog: Catalog) -> None:
        for round_ in range(5):
            name = f"race/{round_}"
            won: list[bytes] = []

            async def create(content: bytes, name: str = name, won: list[bytes] = won) -> None:
                if await catalog.put_if_absent(name, content):
                    won.append(content)

            async with anyio.create_task_group() as group:
                for number in range(20):
                    group.start_soon(create, content_of(1_000 + number))
            assert len(won) == 1
            assert await catalog.read(name) == won[0]

    async def test_records_that_are_not_there(self, catalog: Catalog) -> None:
        for name in ("a", "a/b/c"):
            with pytest.raises(KeyError):
                await catalog.read(name)
        assert await catalog.list("") == []
        assert await catalog.list("a/b") == []

    @pytest.mark.parametrize("name", BAD_NAMES)
    async def test_what_is_no_name_is_refused(self, catalog: Catalog, name: str) -> None:
        with pytest.raises(StoreError):
            await catalog.put_if_absent(name, b"x")
        with pytest.raises(StoreError):
            await catalog.read(name)
        with pytest.raises(StoreError):
            await catalog.remove(name)
        assert await catalog.list("") == []

    async def test_a_removed_record_is_gone_and_its_name_is_free(self, catalog: Catalog) -> None:
        for name in ("cache/a", "cache/b", "cache/a.b"):
            assert await catalog.put_if_absent(name, b"first")
        assert await catalog.remove("cache/a") is True
        assert await catalog.remove("cache/a") is False
        with pytest.raises(KeyError):
            await catalog.read("cache/a")
        assert await catalog.list("") == ["cache/a.b", "cache/b"]
        assert await catalog.put_if_absent("cache/a", b"second") is True
        assert await catalog.read("cache/a") == b"second"

    async def test_removing_what_is_no_record_changes_nothing(self, catalog: Catalog) -> None:
        digest = await catalog.put(b"blob")
        assert await catalog.put_if_absent("a/b", b"record")
        for name in ("a", "a/b/c", "c", "x/y/z", digest):
            assert await catalog.remove(name) is False
        assert await catalog.list("") == ["a/b"]
        assert await catalog.get(digest) == b"blob"

    async def test_of_many_that_remove_a_record_some_are_told(self, catalog: Catalog) -> None:
        assert await catalog.put_if_absent("race/a", b"record")
        told: list[bool] = []

        async def remove() -> None:
            told.append(await catalog.remove("race/a"))

        async with anyio.create_task_group() as group:
            for _ in range(20):
                group.start_soon(remove)
        assert len(told) == 20
        assert any(told)
        assert await catalog.remove("race/a") is False
        assert await catalog.list("") == []

    @pytest.mark.parametrize("prefix", ["..", "/", "/etc", "a/../", "../", "a//", "a b", "~", "\0"])
    async def test_what_begins_no_name_is_refused(self, catalog: Catalog, prefix: str) -> None:
        with pytest.raises(StoreError):
            await catalog.list(prefix)

    async def test_lists_the_names_that_begin_with_a_prefix(self, catalog: Catalog) -> None:
        names = ["plans/ab.json", "plans/ac.json", "runs/1/a", "runs/1/b.c", "runs/10/a", "x=@+-_."]
        for name in reversed(names):
            assert await catalog.put_if_absent(name, b"")
        await catalog.put(b"a blob is no record")
        assert await catalog.list("") == sorted(names)
        assert await catalog.list("plans/a") == ["plans/ab.json", "plans/ac.json"]
        assert await catalog.list("plans/ab") == ["plans/ab.json"]
        assert await catalog.list("runs/1") == ["runs/1/a", "runs/1/b.c", "runs/10/a"]
        assert await catalog.list("runs/1/") == ["runs/1/a", "runs/1/b.c"]
        assert await catalog.list("runs/2/") == []
        assert await catalog.list("runs/1/a/") == []
        assert await catalog.list("x=@+-_.") == ["x=@+-_."]

    # --- beyond this process ---

    async def test_says_how_it_is_reached_or_that_it_cannot(self, catalog: Catalog) -> None:
        reachable: list[Access] = []
        for where in ("host", "container", "cluster"):
            with suppress(StoreError):
                reachable.append(catalog.access(where))
        assert all(":" in access.url for access in reachable)
        assert not reachable or catalog.durable

    async def test_a_durable_catalog_keeps_all_of_it(self, tmp_path: Path) -> None:
        async with self.open_catalog(tmp_path / "kept") as catalog:
            if not catalog.durable:
                return
            digest = await catalog.put(b"blob")
            await catalog.put_if_absent("a/b", b"record")
        async with self.open_catalog(tmp_path / "kept") as catalog:
            assert await catalog.get(digest) == b"blob"
            assert await catalog.read("a/b") == b"record"
            assert await catalog.put_if_absent("a/b", b"other") is False


async def _names(folder: Path) -> set[str]:
    return {path.name async for path in anyio.Path(folder).iterdir()}
