"""The arguments and the environment of a shell node, out of its inputs.

Values reach a program as whole arguments, as parts of arguments, and as variables. They are put
in once and never read again: a value that looks like a placeholder stays what it is.

Rule of this room: texts only; who starts the program, and where, is the backend's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from os import PathLike, fspath
from typing import Final

from onready.engine.errors import ValueMismatch
from onready.engine.spi import Shell
from onready.engine.values import ValueType
from onready.engine.values.stored import Stored

PREFIX: Final = "ONREADY_INPUT_"
"""Inputs are variables with this before their name in capitals."""
CURE: Final = "let the program read the input's variable, ONREADY_INPUT_<NAME>"
_PLACE: Final = re.compile(
    r"\{\{(?P<literal>[A-Za-z_][A-Za-z0-9_]*)\}\}"
    r"|(?<!\{)\{(?P<input>[A-Za-z_][A-Za-z0-9_]*)\}(?!\})"
)


def texts(inputs: Mapping[str, Stored]) -> dict[str, str]:
    """The inputs as a program sees them; what `bring` gives must be at hand.

    Texts as they are, numbers as Python prints them, paths of files, `true` and `false`, nothing
    for None, JSON for lists and dicts. ValueMismatch for what has no such form.
    """
    return {name: _text(name, ValueType.any().decode(stored)) for name, stored in inputs.items()}


def _text(name: str, value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        text = value
    elif isinstance(value, PathLike):
        text = str(fspath(value))
    else:
        text = _json(name, value)
    if "\0" in text:
        message = f"input {name!r}: a text with a NUL character cannot be given to a program"
        raise ValueMismatch(message)
    return text


def _json(name: str, value: object) -> str:
    import json

    try:
        return json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        message = (
            f"input {name!r}: a {type(value).__name__} cannot be given to a program; "
            "give a text, a number, a file, or lists and dicts of those"
        )
        raise ValueMismatch(message) from error


def arguments(shell: Shell, given: Mapping[str, str]) -> tuple[str, ...]:
    """The argv with `{name}` replaced where `name` is an input, and `{{name}}` by `{name}`."""

    def fill(match: re.Match[str]) -> str:
        literal = match["literal"]
        return f"{{{literal}}}" if literal is not None else given.get(match["input"], match[0])

    return tuple(_PLACE.sub(fill, part) if "{" in part else part for part in shell.argv)


def placeholders(shell: Shell) -> frozenset[str]:
    """The inputs that stand in the command line."""
    return frozenset(
        match["input"]
        for part in shell.argv
        for match in _PLACE.finditer(part)
        if match["input"] in shell.inputs
    )


def environment(shell: Shell, given: Mapping[str, str]) -> dict[str, str]:
    """The variables of the node's own, and one for each input."""
    variables = {f"{PREFIX}{name.upper()}": text for name, text in given.items()}
    return {**dict(shell.environment), **variables}
