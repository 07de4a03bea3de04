"""G048: secrets where they cannot be, or would be seen, with file, line and a cure."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import pytest

from onready.engine.errors import GraphError
from onready.engine.graph import GraphBuilder, Secret, graph, shell
from tests.graph.defs import name_of


def bad_name() -> object:
    return Secret("../x")  # here


def no_text() -> object:
    return Secret(1)  # type: ignore[arg-type] # here


def in_a_command_line() -> object:
    def main() -> str:
        return shell("curl {token}", inputs={"token": Secret("TOKEN")})  # here

    return graph(main).bind().graph


def inside_what_a_command_line_shows() -> object:
    body = {"token": [Secret("TOKEN")]}

    def main() -> str:
        return shell(["curl", "-d", "{body}"], inputs={"body": body})  # here

    return graph(main).bind().graph


def as_result() -> object:
    @graph  # here
    def wrong() -> dict[str, str]:
        return {"one": name_of(1), "two": Secret("TOKEN")}

    return wrong.bind().graph


def as_result_of_a_builder() -> object:
    g = GraphBuilder("wrong")  # here
    return g.build([Secret("TOKEN")])


@pytest.mark.parametrize(
    ("function", "message", "cure"),
    [
        (bad_name, "'../x' cannot name a secret", "Use letters, digits"),
        (no_text, "1 cannot name a secret", "Use letters, digits"),
        (in_a_command_line, "{token} would put a secret into", '"$ONREADY_INPUT_TOKEN"'),
        (inside_what_a_command_line_shows, "{body} would put a secret into", "environment="),
        (as_result, "the result of wrong holds Secret('TOKEN')", "Give it to the task"),
        (as_result_of_a_builder, "the result of wrong holds Secret('TOKEN')", "Give it to"),
    ],
)
def test_where_a_secret_cannot_be(function: Callable[[], object], message: str, cure: str) -> None:
    with pytest.raises(GraphError) as caught:
        function()
    error = caught.value
    assert (error.code, message in error.message, cure in error.suggestion) == ("G048", True, True)
    assert error.location is not None
    assert error.location.file == __file__
    lines, first = inspect.getsourcelines(function)
    marked = [first + index for index, line in enumerate(lines) if line.endswith("# here\n")]
    assert [error.location.line] == marked
