"""Every module can be imported by itself: nothing is broken, and coverage counts every file."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

from tests.project.tree import module_name, product, short


@pytest.mark.parametrize(
    "path", [path for path in product() if path.name != "__main__.py"], ids=short
)
def test_every_module_can_be_imported(path: Path) -> None:
    assert importlib.import_module(module_name(path)).__name__ == module_name(path)
