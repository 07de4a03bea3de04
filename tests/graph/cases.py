"""Ways to meet a code of graph errors: what the tests of codes go through.

A case is a function whose faulty line is marked `# here`.

Rule of this room: the list, and how a case gets into it; the cases are in modules of their own.
"""

from __future__ import annotations

from collections.abc import Callable

from onready.engine.graph import graph

Case = Callable[[], object]
CASES: list[tuple[str, Case, str, str]] = []


def case(code: str, message: str, suggestion: str) -> Callable[[Case], Case]:
    """The test of one way to meet a code: parts of its message and of its suggestion."""

    def add(function: Case) -> Case:
        CASES.append((code, function, message, suggestion))
        return function

    return add


def traced(function: Callable[[], object]) -> object:
    return graph(function).bind().graph
