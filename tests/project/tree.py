"""The project's files, as the tests of this folder read them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("engine", "backends", "storage", "transpiler")
"""Top-level folders that are sub-packages of onready, by symlink."""


def product() -> list[Path]:
    """Every Python file that goes into the wheel, by its real place."""
    folders = [ROOT / room for room in ROOMS] + [ROOT / "src" / "onready"]
    return sorted({path for folder in folders for path in _python(folder)})


def everything() -> list[Path]:
    """Every Python file of the project."""
    folders = [ROOT / name for name in ("tests", "benchmarks", "examples")]
    return sorted({*product(), *(path for folder in folders for path in _python(folder))})


def _python(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_symlink() or path.name in {"__pycache__", "build", "dist"}:
            continue
        if path.is_dir():
            yield from _python(path)
        elif path.suffix == ".py":
            yield path


@cache
def tree_of(path: Path) -> ast.Module:
    """The syntax tree of a file."""
    return ast.parse(path.read_text("utf-8"), str(path))


def short(path: Path) -> str:
    """The path as people write it."""
    return path.relative_to(ROOT).as_posix()


def module_name(path: Path) -> str:
    """The full name under which a product file is imported."""
    parts = list(path.relative_to(ROOT).with_suffix("").parts)
    parts = parts[1:] if parts[0] == "src" else ["onready", *parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def dotted(node: ast.expr) -> str:
    """`a.b.c` for a chain of attributes, or "" for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        left = dotted(node.value)
        return f"{left}.{node.attr}" if left else ""
    return ""
