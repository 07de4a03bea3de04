"""Settings texts: filling in variables, and saying what is wrong with a setting.

Shared by the plug-in registry and by the configuration file's reader.

Rule of this room: no file is read here and pydantic is not imported at run time; every error is a
`ConfigError` that names the key's place, what was got and what is allowed.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final, cast

from onready.engine.errors import ConfigError

if TYPE_CHECKING:
    from pydantic import BaseModel, ValidationError
    from pydantic.fields import FieldInfo

_VARIABLE: Final = re.compile(r"\{\{(?P<name>[^{}]*)\}\}")
_VARIABLE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_SHOWN: Final = 80


def fill_variables(value: object, where: str = "", env: Mapping[str, str] | None = None) -> object:
    """`value` with each `{{VAR}}` in its texts replaced by that environment variable.

    Lists and mappings are walked; keys are left alone; everything that is no text stays as it
    is. `where` is the place of `value` in the settings (`backends.batch`), for messages; `env` is
    `os.environ` where it is not given. ConfigError where a variable is not set or its name is no
    name: the message has the place and never a variable's value.
    """
    variables = os.environ if env is None else env
    if isinstance(value, str):
        return _fill_text(value, where, variables) if "{{" in value else value
    if isinstance(value, Mapping):
        mapping = cast("Mapping[str, object]", value)
        return {k: fill_variables(v, join_place(where, str(k)), env) for k, v in mapping.items()}
    if isinstance(value, list | tuple):
        items = cast("Sequence[object]", value)
        return [fill_variables(v, join_place(where, i), env) for i, v in enumerate(items)]
    return value


def _fill_text(text: str, where: str, env: Mapping[str, str]) -> str:
    def replace(match: re.Match[str]) -> str:
        name = match["name"].strip()
        place = f"{where}: " if where else ""
        if _VARIABLE_NAME.match(name) is None:
            message = f"{place}{match[0]!r} does not name an environment variable"
            raise ConfigError(message)
        if name not in env:
            message = f"{place}the environment variable {name} is not set" + did_you_mean(name, env)
            raise ConfigError(message)
        return env[name]

    return _VARIABLE.sub(replace, text)


def join_place(where: str, part: str | int) -> str:
    """The place of `part` inside the place `where`: `backends.batch`, `hosts[2]`."""
    if isinstance(part, int):
        return f"{where}[{part}]"
    return f"{where}.{part}" if where else part


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` where a known word is close to `word`, else nothing."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def listed(names: Iterable[str]) -> str:
    """Names as a sentence shows them: sorted, or `nothing`."""
    return ", ".join(sorted(names)) or "nothing"


def settings_error(
    error: ValidationError,
    model: type[BaseModel],
    where: str,
    given: Mapping[str, object],
) -> ConfigError:
    """What pydantic says of `model`'s settings, in our words: one line for each wrong key.

    `given` are the settings as they were written, before variables were filled in, so that a
    message shows `{{TOKEN}}` and not the token. Values of secret fields are never shown.
    """
    details = error.errors(include_url=False, include_context=False, include_input=False)
    lines = [
        _explain(detail["type"], detail["msg"], detail["loc"], model, where, given)
        for detail in details
    ]
    # A union says the same once for each of its members.
    return ConfigError("\n".join(dict.fromkeys(lines)))


def _explain(
    kind: str,
    message: str,
    path: Sequence[str | int],
    model: type[BaseModel],
    where: str,
    given: Mapping[str, object],
) -> str:
    path = _without_tags(path, given, kind)
    place = where
    for part in path:
        place = join_place(place, part)
    owner, field = _field_at(model, path)
    hint = f" ({field.description})" if field is not None and field.description else ""
    if kind == "extra_forbidden":
        known = [info.alias or name for name, info in owner.model_fields.items()]
        hint = did_you_mean(str(path[-1]), known)
        return f"{place}: no such setting{hint}; allowed: {listed(known)}"
    if kind == "missing":
        return f"{place}: missing, and it has no default{hint}"
    allowed = message.replace("Input should", "should").replace("Value error, ", "")
    prefix = f"{place}: " if place else ""
    if not path:
        return f"{prefix}{allowed}"
    return f"{prefix}got {_shown(path, given, field)}, {allowed}{hint}"


def _without_tags(
    path: Sequence[str | int], given: Mapping[str, object], kind: str
) -> Sequence[str | int]:
    """The path as the user wrote it: pydantic adds the names of a union's members."""
    if kind == "missing":
        return path
    value: object = given
    for length, part in enumerate(path):
        if isinstance(value, Mapping) and part in value:
            value = cast("Mapping[str | int, object]", value)[part]
        elif isinstance(value, list | tuple) and isinstance(part, int):
            value = cast("Sequence[object]", value)[part]
        else:
            return path[: max(1, length)]
    return path


def _field_at(
    model: type[BaseModel], path: Sequence[str | int]
) -> tuple[type[BaseModel], FieldInfo | None]:
    """The model that owns the key at the end of `path`, and that key's field if it has one."""
    owner, field = model, None
    for part in path:
        inner = _model_inside(field)
        if inner is not None:
            owner = inner
        found = _field_named(owner, part)
        if found is None and field is not None and inner is None:
            continue  # An index, a union's tag: still inside the same field.
        field = found
    return owner, field


def _field_named(model: type[BaseModel], part: str | int) -> FieldInfo | None:
    for name, info in model.model_fields.items():
        if part in {name, info.alias}:
            return info
    return None


def _model_inside(field: FieldInfo | None) -> type[BaseModel] | None:
    annotation = field.annotation if field is not None else None
    candidates = (annotation, *getattr(annotation, "__args__", ()))
    for candidate in candidates:
        if isinstance(candidate, type) and hasattr(candidate, "model_fields"):
            return candidate
    return None


def _shown(path: Sequence[str | int], given: Mapping[str, object], field: FieldInfo | None) -> str:
    if field is not None and "Secret" in str(field.annotation):
        return "a secret text"
    value: object = given
    for part in path:
        try:
            value = cast("Mapping[str | int, object]", value)[part]
        except (LookupError, TypeError):
            return "something else"  # it came out of an address, not out of these settings
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 3] + "..."
