"""The scheduler is pure: no clock, I/O, await, randomness or logging in its syntax trees."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.project.tree import ROOT, dotted, short, tree_of

ALLOWED_MODULES = {
    "__future__",
    "bisect",
    "collections",
    "collections.abc",
    "dataclasses",
    "enum",
    "functools",
    "heapq",
    "itertools",
    "math",
    "operator",
    "typing",
    "msgspec",
    "onready.engine.names",
    "onready.engine.errors",
    "onready.engine.options",
    "onready.engine.events",
    "onready.engine.plan.model",
    "onready.engine.values.stored",
    "onready.engine.scheduler",
}
FORBIDDEN_CALLS = {"open", "print", "input", "breakpoint", "__import__", "globals"}
FORBIDDEN_NODES = (
    ast.AsyncFunctionDef,
    ast.Await,
    ast.AsyncFor,
    ast.AsyncWith,
    ast.Global,
    ast.Nonlocal,
)

FILES = sorted((ROOT / "engine" / "scheduler").glob("*.py"))


def impurities(tree: ast.AST) -> list[tuple[int, str]]:
    """Everything that would make the outcome depend on more than the facts."""
    return [(getattr(node, "lineno", 0), what) for node in ast.walk(tree) for what in _impure(node)]


def _impure(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names if not _allowed(alias.name)]
    if isinstance(node, ast.ImportFrom):
        module = "." * node.level + (node.module or "")
        return [] if _allowed(module) else [module]
    if isinstance(node, FORBIDDEN_NODES):
        return [type(node).__name__]
    if isinstance(node, ast.Call) and dotted(node.func) in FORBIDDEN_CALLS:
        return [f"{dotted(node.func)}()"]
    return []


def _allowed(module: str) -> bool:
    return module in ALLOWED_MODULES or module.startswith("onready.engine.scheduler.")


def test_there_is_a_scheduler_to_look_at() -> None:
    assert len(FILES) > 3


@pytest.mark.parametrize("path", FILES, ids=short)
def test_the_scheduler_is_pure(path: Path) -> None:
    assert impurities(tree_of(path)) == []


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "from datetime import datetime",
        "import random",
        "import logging",
        "import structlog",
        "import asyncio",
        "import anyio",
        "from pydantic import BaseModel",
        "from onready.engine.spi import Backend",
        "from onready.engine.plan.compile import compile_plan",
        "from os import urandom",
        "async def f(): await g()",
        "open('x')",
        "print(1)",
    ],
)
def test_the_check_sees_what_is_planted(source: str) -> None:
    assert impurities(ast.parse(source)) != []
