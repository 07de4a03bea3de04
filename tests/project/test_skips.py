"""No test is skipped in silence: a skip says its reason in words."""

from __future__ import annotations

import ast

import pytest

from tests.project.tree import ROOT, dotted, everything, short, tree_of

TESTS = [path for path in everything() if path.is_relative_to(ROOT / "tests")]
LEAST_WORDS = 3


BARE = {"pytest.mark.skip", "pytest.mark.skipif", "pytest.mark.xfail"}


def silent(tree: ast.AST) -> list[int]:
    """Lines that skip or expect a failure without a reason of some words."""
    nodes = list(ast.walk(tree))
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    return [
        node.lineno
        for node in nodes
        if (isinstance(node, ast.Call) and _says_nothing(node))
        or (isinstance(node, ast.Attribute) and id(node) not in called and dotted(node) in BARE)
    ]


def _says_nothing(node: ast.Call) -> bool:
    name = dotted(node.func)
    if name in BARE:
        return not _reason(node, 0 if name == "pytest.mark.skip" else None)
    if name == "pytest.skip":
        return not _reason(node, 0)
    return name == "pytest.importorskip" and not _reason(node, None)


def _reason(node: ast.Call, position: int | None) -> bool:
    values = [keyword.value for keyword in node.keywords if keyword.arg == "reason"]
    if position is not None:
        values += node.args[position : position + 1]
    return any(
        len(value.value.split()) >= LEAST_WORDS
        if isinstance(value, ast.Constant) and isinstance(value.value, str)
        else isinstance(value, ast.JoinedStr | ast.Name)
        for value in values
    )


def test_no_test_is_skipped_in_silence() -> None:
    found = {short(path): silent(tree_of(path)) for path in TESTS}
    assert {name: lines for name, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    "source",
    [
        "@pytest.mark.skip\ndef test(): ...",
        "@pytest.mark.skip()\ndef test(): ...",
        "@pytest.mark.skipif(True, reason='later')\ndef test(): ...",
        "@pytest.mark.xfail\ndef test(): ...",
        "pytest.skip()",
        "pytest.importorskip('numpy')",
    ],
)
def test_the_check_sees_what_is_planted(source: str) -> None:
    assert silent(ast.parse(source)) != []
