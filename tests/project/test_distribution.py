"""What people install: a wheel and an sdist with real files, typed, and without tests."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.project.tree import ROOMS, ROOT, module_name, product

COPIED = (
    "pyproject.toml",
    "MANIFEST.in",
    "README.md",
    "CHANGELOG.md",
    "LICENSE",
    "constraints.txt",
)


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with both, built from a copy; the wheel is built from the sdist."""
    copy = tmp_path_factory.mktemp("copy")
    for name in COPIED:
        shutil.copy(ROOT / name, copy / name)
    for name in (*ROOMS, "src", "tests", "benchmarks", "examples"):
        shutil.copytree(
            ROOT / name,
            copy / name,
            symlinks=True,
            ignore=shutil.ignore_patterns("__pycache__", "*.egg-info", ".onready"),
        )
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", str(copy)],
        check=True,
        capture_output=True,
        text=True,
    )
    return copy / "dist"


def only(folder: Path, pattern: str) -> Path:
    (path,) = folder.glob(pattern)
    return path


def expected() -> set[str]:
    """Paths in the wheel of every product file."""
    found = {"onready/py.typed"}
    for path in product():
        name = module_name(path).replace(".", "/")
        found.add(f"{name}/__init__.py" if path.name == "__init__.py" else f"{name}.py")
    return found


def test_the_wheel_holds_every_source_file_and_nothing_else(dist: Path) -> None:
    with zipfile.ZipFile(only(dist, "*.whl")) as wheel:
        names = {name for name in wheel.namelist() if not name.split("/")[0].endswith(".dist-info")}
        modes = {item.external_attr >> 28 for item in wheel.infolist()}
    assert {name for name in names if name.endswith((".py", ".typed"))} == expected()
    assert {Path(name).suffix for name in names} <= {".py", ".typed", ".json", ".toml", ".sql"}
    assert modes <= {0o10}, "only regular files: no symlink went in"


def test_the_sdist_holds_real_files_and_no_tests(dist: Path) -> None:
    with tarfile.open(only(dist, "*.tar.gz")) as sdist:
        members = sdist.getmembers()
    assert [item.name for item in members if item.issym() or item.islnk()] == []
    tops = {item.name.split("/")[1] for item in members if "/" in item.name}
    assert tops == {*COPIED, "PKG-INFO", "setup.cfg", "src"}
    inside = {item.name.split("/src/")[1] for item in members if "/src/onready/" in item.name}
    assert {name for name in inside if name.endswith((".py", ".typed"))} == expected()


def test_the_wheel_says_what_it_is(dist: Path) -> None:
    with zipfile.ZipFile(only(dist, "*.whl")) as wheel:
        texts = {
            Path(name).name: wheel.read(name).decode()
            for name in wheel.namelist()
            if ".dist-info/" in name and "licenses" not in name
        }
    assert "License-Expression: Apache-2.0" in texts["METADATA"]
    assert "onready = onready.cli:main" in texts["entry_points.txt"]
    assert "[onready.run_logs]" in texts["entry_points.txt"]
