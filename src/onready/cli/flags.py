"""A graph's parameters as typed flags, and as the content of a `--params` file.

Rule of this room: words become values here; whether a value fits its parameter is the engine's to
say.
"""

from __future__ import annotations

import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal, Optional, cast

from cyclopts import App, Parameter, Token

from onready.cli.exits import Usage
from onready.engine.settings import did_you_mean, listed

if TYPE_CHECKING:
    from cyclopts import Group

PLAIN: Final = (str, int, float, bool, Path)
MISSING: Final = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class Flag:
    """One parameter of the graph. `default` is MISSING where it must be given."""

    name: str
    annotation: object = MISSING
    default: object = MISSING

    @property
    def option(self) -> str:
        """As it is written: `--learning-rate`."""
        return f"--{self.name.replace('_', '-')}"

    @property
    def type_name(self) -> str:
        """The annotation as people write it, "" where there is none."""
        if self.annotation is MISSING:
            return ""
        return inspect.formatannotation(self.annotation).replace("pathlib.", "")


def parse_flags(
    flags: Sequence[Flag], words: Sequence[str], graph: str, taken: frozenset[str] = frozenset()
) -> dict[str, object]:
    """The values that `words` give, by parameter; those not given are left out.

    `taken` are names of options of the command itself: they come here only behind `--`.
    Usage errors, cyclopts' own among them, name the graph.
    """
    if not words:
        return {}
    _refuse_loose_words(flags, words, graph)
    app = flags_app(flags, graph, taken)
    _, bound, _ = app.parse_args(list(words), exit_on_error=False, print_error=False)
    return dict(bound.arguments)


def flags_app(
    flags: Sequence[Flag],
    graph: str,
    taken: frozenset[str] = frozenset(),
    group: Group | None = None,
    about: str = "",
) -> App:
    """An application whose only command takes the graph's parameters as flags.

    With a `group` it is for its help page: there, what must be given is marked as such.
    """

    def command(**values: object) -> dict[str, object]:
        return values

    parameters = [_parameter(flag, taken, group) for flag in flags]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # inspect reads it
    command.__annotations__ = {item.name: item.annotation for item in parameters}
    command.__doc__ = about
    app = App(
        name=f"onready run {graph}",
        result_action="return_value",
        help_flags=[],
        version_flags=[],
    )
    app.default(command)
    return app


def _refuse_loose_words(flags: Sequence[Flag], words: Sequence[str], graph: str) -> None:
    """A word before any flag belongs to nothing: say what would have been right."""
    first = words[0]
    if first.startswith("-"):
        return
    options = listed(flag.option for flag in flags)
    message = f"onready run: {first!r} belongs to no flag; {graph} takes {options}"
    raise Usage(message)


def _parameter(flag: Flag, taken: frozenset[str], group: Group | None) -> inspect.Parameter:
    base = flag.annotation
    extra: tuple[object, ...] = ()
    if typing.get_origin(base) is Annotated:
        base, *more = typing.get_args(base)
        extra = tuple(more)
    kind, options = _kind(base)
    help_text = next((item for item in extra if isinstance(item, str)), "")
    if flag.option in taken:
        help_text = f"{help_text} Write it behind `--`.".strip()
    parameter = Parameter(
        name=flag.option,
        help=help_text or None,
        required=group is not None and flag.default is MISSING,
        show_default=False if flag.default is MISSING else _shown_default(flag),
        negative_iterable=(),
        group=group,
        **options,  # type: ignore[arg-type] # the table below
    )
    return inspect.Parameter(
        flag.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=MISSING if parameter.required else None,
        # None fits: where pydantic is loaded, cyclopts checks defaults with it.
        annotation=Annotated[Optional[kind], parameter],  # noqa: UP045 - `kind` is no static type
    )


def _shown_default(flag: Flag) -> Callable[[object], str]:
    text = repr(flag.default)
    return lambda _: text if len(text) <= 60 else f"{text[:57]}..."


def _kind(annotation: object) -> tuple[object, dict[str, object]]:
    """What cyclopts converts by itself, else JSON: the type to give it, and options."""
    if annotation is MISSING or annotation is object or annotation is typing.Any:
        return object, {"converter": _json_or_text, "metavar": "JSON|TEXT", "n_tokens": 1}
    if _is_plain(annotation):
        return annotation, {}
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in {typing.Union, types.UnionType} and _is_plain_optional(args):
        return annotation, {}
    if origin is list and args and _is_plain(args[0]) and args[0] is not bool:
        return annotation, {"consume_multiple": True}
    return object, {"converter": _json, "metavar": "JSON", "n_tokens": 1}


def _is_plain(annotation: object) -> bool:
    if typing.get_origin(annotation) is Literal:
        return True
    return isinstance(annotation, type) and (annotation in PLAIN or issubclass(annotation, Enum))


def _is_plain_optional(args: tuple[object, ...]) -> bool:
    rest = [item for item in args if item is not type(None)]
    return len(rest) == 1 and _is_plain(rest[0])


def _json(kind: object, tokens: Sequence[Token]) -> object:
    del kind
    text = tokens[0].value
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        message = f"not JSON: {error}"
        raise ValueError(message) from error


def _json_or_text(kind: object, tokens: Sequence[Token]) -> object:
    """For parameters that take anything: JSON where it is JSON, else the text itself."""
    del kind
    try:
        return json.loads(tokens[0].value)
    except json.JSONDecodeError:
        return tokens[0].value


# --- files ------------------------------------------------------------------------------------


def read_params(path: Path) -> dict[str, object]:
    """The inputs in a JSON, YAML or TOML file, by parameter name. Usage where it is neither."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"onready run: --params {path}: {error}"
        raise Usage(message) from error
    try:
        data = _parse(path, text)
    except ValueError as error:
        message = f"onready run: --params {path}: {error}"
        raise Usage(message) from error
    if not isinstance(data, dict):
        kind = type(data).__name__
        message = f"onready run: --params {path}: parameters by name are wanted, not a {kind}"
        raise Usage(message)
    return {str(key): value for key, value in cast("Mapping[object, object]", data).items()}


def _parse(path: Path, text: str) -> object:
    if path.suffix == ".toml":
        import tomllib

        return tomllib.loads(text)
    if path.suffix in {".yaml", ".yml"}:
        import yaml

        try:
            return cast("object", yaml.safe_load(text))
        except yaml.YAMLError as error:
            raise ValueError(str(error)) from error
    if path.suffix == ".json":
        return cast("object", json.loads(text))
    message = "the file's name must end with .json, .yaml, .yml or .toml"
    raise ValueError(message)


# --- all together -----------------------------------------------------------------------------


def inputs_of(
    flags: Sequence[Flag],
    words: Sequence[str],
    params: Path | None,
    graph: str,
    taken: frozenset[str] = frozenset(),
) -> dict[str, object]:
    """Values from the file, and over them those from flags. Usage where a name is unknown."""
    values = read_params(params) if params is not None else {}
    names = [flag.name for flag in flags]
    for name in values:
        if name not in names:
            hint = did_you_mean(name, names)
            message = f"onready run: --params {params}: {graph} has no parameter {name!r}{hint}"
            raise Usage(message)
    return values | parse_flags(flags, words, graph, taken)


def _metavar(flag: Flag) -> str:
    if flag.annotation is MISSING:
        return "VALUE"
    return flag.type_name.upper() if _is_plain(flag.annotation) else "JSON"


def check_complete(flags: Sequence[Flag], values: Mapping[str, object], graph: str) -> None:
    """Usage where a parameter without a default has no value: says what to write."""
    missing = [flag for flag in flags if flag.default is MISSING and flag.name not in values]
    if not missing:
        return
    wanted = " ".join(f"{flag.option} {_metavar(flag)}" for flag in missing)
    message = f"onready run: {graph} needs {wanted}\n  give flags, or a file with --params FILE"
    raise Usage(message)
