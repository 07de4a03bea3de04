"""Hostile archives: nothing is written outside the folder, and nothing but files and folders."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from onready.engine.errors import StoreError
from onready.engine.values.archive import pack, unpack


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    info.size = 1 if kind == tarfile.REGTYPE else 0
    return info


@pytest.mark.parametrize(
    "members",
    [
        [member("/absolute")],
        [member("../outside")],
        [member("a/../../outside")],
        [member("")],
        [member(".")],
        [member("link", tarfile.SYMTYPE, "/etc/passwd")],
        [member("link", tarfile.LNKTYPE, "other")],
        [member("link", tarfile.SYMTYPE, ".."), member("link/file")],
        [member("pipe", tarfile.FIFOTYPE)],
        [member("device", tarfile.CHRTYPE)],
        [member("twice"), member("twice")],
        [member("no/folder")],
    ],
    ids=lambda members: "+".join(info.name or "empty" for info in members),
)
def test_members_that_do_not_belong_are_refused(
    members: list[tarfile.TarInfo], tmp_path: Path
) -> None:
    source = tmp_path / "bad.tar"
    with tarfile.open(source, "w") as archive:
        for info in members:
            archive.addfile(info, io.BytesIO(b"x" * info.size))
    (tmp_path / "place").mkdir()
    with pytest.raises(StoreError, match="archive of a folder"):
        unpack(source, tmp_path / "place" / "target")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.tar", "place"]
    assert [path.name for path in (tmp_path / "place").iterdir()] == ["target"]


@pytest.mark.parametrize("data", [b"", b"no tar at all" * 100, b"\0" * 100])
def test_what_is_no_archive_is_refused(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad").write_bytes(data)
    with pytest.raises(StoreError, match="does not unpack"):
        unpack(tmp_path / "bad", tmp_path / "target")


def test_a_cut_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "file").write_bytes(b"x" * 10_000)
    with (tmp_path / "whole").open("wb") as target:
        size = pack(tmp_path / "source", target)
    assert size == (tmp_path / "whole").stat().st_size
    (tmp_path / "cut").write_bytes((tmp_path / "whole").read_bytes()[:5000])
    with pytest.raises(StoreError, match="does not unpack"):
        unpack(tmp_path / "cut", tmp_path / "target")
