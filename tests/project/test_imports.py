"""Every module can be imported by itself: nothing is broken, and coverage counts every file."""

from __future__ import annotations

import importlib

from tests.project.tree import module_name, product


def test_every_module_can_be_imported() -> None:
    names = [module_name(path) for path in product() if path.name != "__main__.py"]
    assert [importlib.import_module(name).__name__ for name in names] == names
