"""Blobs and files through real catalogs: to them with `settle`, back with `bring`."""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3

from onready.engine.errors import InternalError, StoreError, ValueMismatch
from onready.engine.spi import Catalog
from onready.engine.values import (
    Dir,
    File,
    ValueType,
    bring,
    combine,
    needs_bringing,
    needs_settling,
    settle,
)
from onready.engine.values.stored import INLINE_LIMIT, Compound, Encoded, Live, Stored
from onready.storage.directory import DirectoryCatalog
from onready.storage.memory import MemoryCatalog
from tests.values.kinds import Fitted, Model

pytestmark = pytest.mark.anyio
ANY = ValueType.any()


@pytest.fixture(params=["memory", "directory"])
async def catalog(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Catalog]:
    async with AsyncExitStack() as stack:
        if request.param == "memory":
            yield MemoryCatalog()
        else:
            yield await stack.enter_async_context(DirectoryCatalog(tmp_path / "catalog"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "scratch" / "inputs"


async def there_and_back(value: object, catalog: Catalog, folder: Path) -> Any:
    stored = await settle(ANY.encode(value), catalog)
    assert not needs_settling(stored)
    brought = await bring(stored, catalog, folder)
    assert not needs_bringing(brought)
    return ANY.decode(brought)


@pytest.mark.parametrize("size", [0, 1, INLINE_LIMIT, INLINE_LIMIT + 1, 200_000])
async def test_bytes_over_the_limit_are_blobs(size: int, catalog: Catalog, folder: Path) -> None:
    data = os.urandom(size)
    encoded = ANY.encode(data)
    large = size > INLINE_LIMIT
    assert needs_settling(encoded) is large
    stored = await settle(encoded, catalog)
    assert isinstance(stored, Encoded)
    assert stored.size == size
    if large:
        assert stored.data is None
        assert stored.digest == blake3(data).hexdigest()
        assert await catalog.get(str(stored.digest)) == data
    assert needs_bringing(stored) is large
    assert ANY.decode(await bring(stored, catalog, folder)) == data
    assert not folder.exists()


@pytest.mark.parametrize(
    "value",
    [
        list(range(100_000)),
        "x" * 100_000,
        [Model(float(number)) for number in range(1000)],
        {"a": [np.arange(10_000), "b"], "c": {"d": (np.ones(9000),)}},
        [np.arange(10) for _ in range(500)],
        {1: np.arange(10_000)},
    ],
    ids=["ints", "text", "models", "arrays", "many", "parts"],
)
async def test_large_values_come_back(value: object, catalog: Catalog, folder: Path) -> None:
    back = await there_and_back(value, catalog, folder)
    assert repr(back) == repr(value)


async def test_what_stays_in_the_event_is_small(catalog: Catalog) -> None:
    import msgspec

    value = {"blobs": [np.arange(10_000) + n for n in range(20)], "small": [b"x" * 20_000] * 50}
    stored = await settle(ANY.encode(value), catalog)
    assert len(msgspec.msgpack.encode(stored)) < INLINE_LIMIT


async def test_compounds_are_settled_and_brought_item_by_item(
    catalog: Catalog, folder: Path
) -> None:
    items: list[Stored] = [
        1,
        ANY.encode("x" * 50_000),
        ANY.encode([1]),
        combine("tuple", [ANY.encode(b"y" * 50_000)]),
    ]
    compound = combine("dict", items, "abcd")
    assert needs_settling(compound)
    stored = await settle(compound, catalog)
    assert isinstance(stored, Compound)
    assert [needs_bringing(item) for item in stored.items] == [False, True, False, True]
    assert stored.items[2] is items[2]
    back = ANY.decode(await bring(stored, catalog, folder))
    assert back == {"a": 1, "b": "x" * 50_000, "c": [1], "d": (b"y" * 50_000,)}
    scalars = combine("list", range(1000))
    assert await settle(scalars, catalog) is scalars
    assert await bring(scalars, catalog, folder) is scalars


async def test_a_live_object_is_never_stored(catalog: Catalog) -> None:
    for stored in (Live(object()), combine("list", [1, Live(3)])):
        assert not needs_settling(stored)
        with pytest.raises(InternalError, match="live"):
            await settle(stored, catalog)


async def test_a_lost_blob_is_a_store_error(catalog: Catalog, folder: Path) -> None:
    for codec in ("json", "file", "dir"):
        lost = Encoded(codec, None, "ab" * 32, 5, "Path:-:name")
        with pytest.raises(StoreError, match="no blob"):
            await bring(lost, catalog, folder)
    with pytest.raises(InternalError, match="before it was brought"):
        ANY.decode(Encoded("json", None, "ab" * 32, 5))


# --- files ------------------------------------------------------------------------------------


NAMES = ["data.csv", "with space", "é.txt", "\udcff.bin", ".hidden", "a" * 200, "-x", ".archive"]


@pytest.mark.parametrize("kind", [File, Path])
async def test_a_file_comes_back_under_its_name(
    kind: Any, catalog: Catalog, tmp_path: Path, folder: Path
) -> None:
    for name in NAMES:
        source = tmp_path / name
        source.write_bytes(b"content\0")
        back = await there_and_back(kind(source), catalog, folder)
        assert type(back) is type(kind(source))
        place = Path(back)
        assert place != source
        assert place.is_relative_to(folder)
        assert place.read_bytes() == b"content\0"
        assert stat.S_IMODE(place.stat().st_mode) == 0o600
        assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700
        assert place.name == name or name in {"\udcff.bin", ".archive"}


async def test_each_consumer_gets_a_copy_of_its_own(
    catalog: Catalog, tmp_path: Path, folder: Path
) -> None:
    source = tmp_path / "a.txt"
    source.write_text("one")
    source.chmod(0o755)
    stored = await settle(ANY.encode([File(source), File(source)]), catalog)
    source.write_text("changed later")
    value: Any = ANY.decode(await bring(stored, catalog, folder))
    other: Any = ANY.decode(await bring(stored, catalog, folder))
    places = {place.path for place in (*value, *other)}
    assert len(places) == 4
    value[0].path.write_text("mine")
    assert [place.path.read_text() for place in (*value, *other)] == ["mine", "one", "one", "one"]
    assert os.access(value[0], os.X_OK)


async def test_files_inside_values(catalog: Catalog, tmp_path: Path, folder: Path) -> None:
    report = tmp_path / "report.txt"
    report.write_text("fine")
    value = {"fit": Fitted(np.arange(10_000.0), File(report)), "paths": (report, [report]), "n": 1}
    back = await there_and_back(value, catalog, folder)
    assert back["fit"].report.path.read_text() == "fine"
    assert back["paths"][1][0].read_text() == "fine"
    np.testing.assert_array_equal(back["fit"].weights, value["fit"].weights)  # type: ignore[attr-defined]
    typed = ValueType.of(dict[str, Fitted])
    stored = await settle(typed.encode({"a": Fitted(np.ones(2), File(report))}), catalog)
    again: Any = typed.decode(await bring(stored, catalog, folder))
    assert again["a"].report.path.read_text() == "fine"


async def test_a_relative_path_is_that_of_the_moment(
    catalog: Catalog, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here.txt").write_text("x")
    monkeypatch.chdir(tmp_path)
    stored = ANY.encode(Path("here.txt"))
    monkeypatch.chdir("/")
    back: Any = ANY.decode(await bring(await settle(stored, catalog), catalog, folder))
    assert back.read_text() == "x"


@pytest.mark.parametrize("kind", [File, Dir, Path])
async def test_what_is_not_there_is_a_mismatch(kind: Any, catalog: Catalog, tmp_path: Path) -> None:
    with pytest.raises(ValueMismatch, match=r"gone.*nothing to hand on.*`str`"):
        await settle(ANY.encode(kind(tmp_path / "gone")), catalog)


async def test_a_file_is_no_folder_and_a_pipe_is_neither(catalog: Catalog, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    os.mkfifo(tmp_path / "pipe")
    for value, text in (
        (Dir(file), "expected a Dir.*is a file"),
        (File(tmp_path), "expected a File.*is a folder"),
        (Path(tmp_path / "pipe"), "neither a file nor a folder"),
    ):
        with pytest.raises(ValueMismatch, match=text):
            await settle(ANY.encode(value), catalog)


# --- folders ----------------------------------------------------------------------------------


def make_tree(root: Path) -> Path:
    (root / "sub" / "empty").mkdir(parents=True)
    (root / "a.txt").write_text("a")
    (root / "sub" / "run.sh").write_text("#!/bin/sh")
    (root / "sub" / "run.sh").chmod(0o755)
    (root / ("n" * 150)).write_text("long")
    (root / "é").write_bytes(b"\xff" * 100_000)
    return root


def tree(root: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() else None
        for path in sorted(root.rglob("*"))
    }


@pytest.mark.parametrize("kind", [Dir, Path])
async def test_a_folder_comes_back_whole(
    kind: Any, catalog: Catalog, tmp_path: Path, folder: Path
) -> None:
    source = make_tree(tmp_path / "model")
    back = await there_and_back(kind(source), catalog, folder)
    assert type(back) is type(kind(source))
    place = Path(back)
    assert place.name == "model"
    assert tree(place) == tree(source)
    assert os.access(place / "sub" / "run.sh", os.X_OK)
    modes = {stat.S_IMODE(path.stat().st_mode) for path in place.rglob("*")}
    assert modes == {0o600, 0o700}
    assert [path.name for path in place.parent.iterdir()] == ["model"]


async def test_equal_folders_are_one_blob(catalog: Catalog, tmp_path: Path) -> None:
    first, second = make_tree(tmp_path / "x" / "model"), make_tree(tmp_path / "y" / "model")
    os.utime(second / "a.txt", (0, 0))
    (second / "a.txt").chmod(0o640)
    digests = set[str | None]()
    for place in (first, second):
        stored = await settle(ANY.encode(Dir(place)), catalog)
        assert isinstance(stored, Encoded)
        digests.add(stored.digest)
    assert len(digests) == 1


LINKS = {"file": "../a.txt", "folder": "empty", "outside": "/etc", "broken": "gone", "pipe": ""}


async def test_links_in_a_folder_are_refused(catalog: Catalog, tmp_path: Path) -> None:
    for name, target in LINKS.items():
        source = make_tree(tmp_path / name)
        if target:
            (source / "sub" / "link").symlink_to(target)
        else:
            os.mkfifo(source / "sub" / "link")
        with pytest.raises(ValueMismatch, match="no links or devices"):
            await settle(ANY.encode(Dir(source)), catalog)
