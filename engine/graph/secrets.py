"""`Secret(...)`: a text that only the node that uses it sees, and where it may not be written.

Rule of this room: references alone; providers and values are unknown here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, cast

from onready.engine.graph.body import Gathered
from onready.engine.graph.codes import Code
from onready.engine.graph.locate import here
from onready.engine.names import is_name
from onready.engine.values.secret import SecretRef, refers_to_secret, secret_names
from onready.engine.values.stored import Compound, Encoded

if TYPE_CHECKING:
    from onready.engine.graph.body import Body, Value


def Secret(name: str, /) -> str:  # noqa: N802 - reads as a type in signatures
    """Stand for the text that the engine's secret providers have under `name`.

    As a parameter's default (`token: str = Secret("TOKEN")`), as an argument of a call, inside
    lists, tuples and dicts that are arguments, as an input of a run, and in `inputs=` and
    `environment=` of `shell`. It is looked up where the node runs and when it runs; events, plans
    and catalogs hold the name alone. GraphError for what is no name.
    """
    given: object = name
    if isinstance(given, str) and is_name(given):
        return cast("str", SecretRef(name))
    message = f"{name!r:.80} cannot name a secret"
    raise Code.G048.error(message, here(), "Use letters, digits, `_`, `.` and `-`.")


def refuse_secret_result(body: Body) -> None:
    """Refuse a graph whose value is, or holds, a secret that is written in it."""
    names = list(_written(body.result))
    if names:
        message = f"the result of {body.name} holds Secret({names[0]!r})"
        cure = "Give it to the task that uses it; a run's result is stored in plain."
        raise Code.G048.error(message, body.location, cure)


def _written(value: Value) -> Iterator[str]:
    if isinstance(value, Encoded | Compound):
        yield from secret_names(value)
    elif isinstance(value, Gathered):
        for item in value.items:
            yield from _written(item)


def refuse_in_arguments(key: str, values: Mapping[str, object]) -> None:
    """Refuse `{key}` in a command where that input is a secret."""
    if refers_to_secret(values[key]):
        variable = f"$ONREADY_INPUT_{key.upper()}"
        message = f"{{{key}}} would put a secret into a command line, which other users can read"
        cure = (
            f'Let the program read the variable "{variable}", or give it one of its own: '
            f'environment={{"{key.upper()}": Secret(...)}}.'
        )
        raise Code.G048.error(message, here(), cure)
