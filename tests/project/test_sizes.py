"""Files and functions stay small enough to be read in one go."""

from __future__ import annotations

import ast
import statistics
from pathlib import Path

from tests.project.tree import everything, product, short, tree_of

MOST_LINES_OF_A_FILE = 600
MOST_LINES_OF_A_FUNCTION = 60
MOST_LINES_OF_A_TEST = 120  # tables of expected texts
MEDIAN_LINES_OF_A_FILE = 180


def lines_of(path: Path) -> int:
    return len(path.read_text("utf-8").splitlines())


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines from `def` to the end, without the docstring: it is read apart."""
    total = (node.end_lineno or node.lineno) - node.lineno + 1
    first = node.body[0]
    if ast.get_docstring(node, clean=False) is not None:
        total -= (first.end_lineno or first.lineno) - first.lineno + 1
    return total


def test_no_file_is_too_long() -> None:
    sizes = {short(path): lines_of(path) for path in everything()}
    assert {name: size for name, size in sizes.items() if size > MOST_LINES_OF_A_FILE} == {}


def test_no_function_is_too_long() -> None:
    long = {
        f"{short(path)}:{node.lineno} {node.name}": length(node)
        for path in everything()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and length(node) > most(path)
    }
    assert long == {}


def most(path: Path) -> int:
    """Lines that a function of this file may have."""
    return MOST_LINES_OF_A_TEST if path.name.startswith("test_") else MOST_LINES_OF_A_FUNCTION


def test_half_of_the_files_are_short() -> None:
    sizes = [size for path in product() if (size := lines_of(path))]
    assert statistics.median(sizes) <= MEDIAN_LINES_OF_A_FILE
