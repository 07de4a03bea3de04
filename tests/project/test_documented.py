"""Every public name says what it means: modules, classes, functions, methods.

Two exceptions. A class that fills in a documented Protocol of ours does not repeat its contract,
and a Protocol whose own docstring holds the contract need not repeat it on every method.
"""

from __future__ import annotations

import ast
from functools import cache

import pytest

from tests.project.tree import ROOT, product, short, tree_of

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
SILENT_DECORATORS = {"overload", "override", "setter"}


@cache
def contracts() -> frozenset[str]:
    """Names of methods that a Protocol of ours describes."""
    trees = [tree_of(path) for path in product() if path.is_relative_to(ROOT / "engine")]
    return frozenset(
        item.name
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef) and _is_protocol(node)
        for item in node.body
        if isinstance(item, ast.FunctionDef | ast.AsyncFunctionDef)
    )


def undocumented(tree: ast.Module) -> list[str]:
    found = [] if ast.get_docstring(tree) or not tree.body else ["the module"]
    return found + _in_body(tree.body, "")


def _in_body(body: list[ast.stmt], prefix: str) -> list[str]:
    found: list[str] = []
    for node in body:
        if not isinstance(node, Definition) or node.name.startswith("_"):
            continue
        name = f"{prefix}{node.name}"
        if ast.get_docstring(node) is None and not _excused(node, inside=bool(prefix)):
            found.append(f"{name}, line {node.lineno}")
        if isinstance(node, ast.ClassDef) and not _is_protocol(node):
            found += _in_body(node.body, f"{name}.")
    return found


def _excused(node: Definition, *, inside: bool) -> bool:
    if isinstance(node, ast.ClassDef):
        return False
    words = {_last_word(decorator) for decorator in node.decorator_list}
    if words & SILENT_DECORATORS or node.name.startswith("test_"):
        return True  # names of tests speak: the contract suites are made of them
    return inside and node.name in contracts()


def _is_protocol(node: ast.ClassDef) -> bool:
    return any(_last_word(base) == "Protocol" for base in node.bases)


def _last_word(node: ast.expr) -> str:
    if isinstance(node, ast.Subscript | ast.Call):
        return _last_word(node.value if isinstance(node, ast.Subscript) else node.func)
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def test_every_public_name_is_documented() -> None:
    silent = {short(path): undocumented(tree_of(path)) for path in product()}
    assert {name: missing for name, missing in silent.items() if missing} == {}


@pytest.mark.parametrize(
    ("source", "missing"),
    [
        ("'''Doc.'''\ndef f(): ...", ["f, line 2"]),
        ("'''Doc.'''\nclass C:\n  '''Doc.'''\n  def m(self): ...", ["C.m, line 4"]),
        ("def _f(): ...", ["the module"]),
        ("'''Doc.'''\nclass C:\n  '''Doc.'''\n  def _m(self): ...", []),
    ],
)
def test_the_check_sees_what_is_planted(source: str, missing: list[str]) -> None:
    assert undocumented(ast.parse(source)) == missing
