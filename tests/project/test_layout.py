"""Where things are: symlinked rooms, packages, the Makefile's help."""

from __future__ import annotations

import re
import subprocess
import tomllib

import pytest

from tests.project.tree import ROOMS, ROOT, product, short


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_is_in_the_package_by_a_relative_symlink(room: str) -> None:
    link = ROOT / "src" / "onready" / room
    assert link.is_symlink()
    assert str(link.readlink()) == f"../../{room}"


def test_every_folder_of_the_product_is_a_package() -> None:
    folders = {path.parent for path in product()}
    missing = [short(folder) for folder in sorted(folders) if not (folder / "__init__.py").exists()]
    assert missing == []


def test_help_lists_every_target_with_a_word_on_it() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert phony is not None
    run = subprocess.run(["make", "-C", str(ROOT)], capture_output=True, text=True, check=True)
    listed = dict(re.findall(r"^  ([a-z-]+) +(\S.*)$", run.stdout, re.MULTILINE))
    assert set(listed) == set(phony[1].split())
    assert {"help", "demo", "test", "check", "bench", "docs"} <= set(listed)


def test_every_direct_dependency_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = {*project["dependencies"]}.union(*project["optional-dependencies"].values())
    pins = {
        _normal(line.partition("==")[0]) for line in (ROOT / "constraints.txt").read_text().split()
    }
    names = {_normal(re.split(r"[\[><=]", item)[0]) for item in wanted} - {"onready"}
    assert names - pins == set()


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
