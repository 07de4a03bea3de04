"""What the product imports is what its package declares: a clean install has everything."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator

from tests.project.tree import ROOT, product, short, tree_of

IMPORT_NAMES = {
    "pyyaml": "yaml",
    "pydantic-settings": "pydantic_settings",
    "python-dotenv": "dotenv",
}
"""Packages that are imported under another name."""
OPTIONAL = {
    "numpy": "codecs, for those who use it",
    "pandas": "codecs, for those who use it",
    "polars": "codecs, for those who use it",
    "pyarrow": "codecs, for those who use it",
    "aiodocker": "the extra `docker`",
    "aiohttp": "the extra `docker`",
    "yarl": "comes with aiohttp",
    "obstore": "the extra `objects`",
    "trio": "only where the host runs on it",
    "pydantic_core": "comes with pydantic",
    "typing_extensions": "comes with pydantic",
    "pytest": "the contract suites of onready.engine.testing",
}

AWAITED: set[str] = set()
"""Declared, and used by nothing yet."""


def declared() -> set[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    names = {re.split(r"[\[><=]", item)[0].lower() for item in project["dependencies"]}
    return {IMPORT_NAMES.get(name, name) for name in names}


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and top-level package of every import."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name.partition(".")[0]) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.lineno, node.module.partition(".")[0]


def test_everything_that_is_imported_is_declared() -> None:
    known = {*declared(), *OPTIONAL, *sys.stdlib_module_names, "onready"}
    foreign = [
        f"{short(path)}:{line} {name}"
        for path in product()
        for line, name in imported(tree_of(path))
        if name not in known
    ]
    assert foreign == []


def test_everything_that_is_declared_is_imported() -> None:
    used = {name for path in product() for _, name in imported(tree_of(path))}
    assert declared() - used == AWAITED
