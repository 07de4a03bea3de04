"""Configuration: where its values come from, in which order, and what the engine gets of it.

`onready.toml`, `onready.yaml` or `[tool.onready]` of `pyproject.toml` in the current folder.
Order: flag, `ONREADY_*` variable, the chosen profile, the file, default.

Rule of this room: reading and merging only. pydantic-settings is imported when a file or a
variable is there to be checked, never otherwise: most commands start without it.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

from onready.engine.errors import ConfigError
from onready.engine.settings import did_you_mean, join_place, listed

FILES: Final = ("onready.toml", "onready.yaml", "pyproject.toml")
PREFIX: Final = "ONREADY_"
PROFILE_VARIABLE: Final = "ONREADY_PROFILE"
OTHER_VARIABLES: Final = frozenset({PROFILE_VARIABLE, "ONREADY_ENVELOPE"})
"""Variables with our prefix that are no settings."""
DEFAULTS: Final[Mapping[str, object]] = {
    "run_log": "sqlite:.onready/runs.db",
    "catalog": "file:.onready/catalog",
    "folder": ".onready",
    "max_parallel": None,
    "grace": 10.0,
    "pools": {},
    "backends": {},
    "secrets": ["env"],
}
SECRET: Final = re.compile(
    r"(?i)(secret|token|passw|passphrase|credential|api_?key|private_?key|access_?key)"
)
_USERINFO: Final = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/@\s]+@")

Plugin = str | Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Value:
    """One setting: its dotted key, its value, and the place it came from."""

    key: str
    value: object
    origin: str


@dataclass(frozen=True, slots=True)
class Config:
    """The settings of one command.

    `run_log` and `catalog` are addresses or tables with `type`, `secrets` a list of such; None
    leaves the engine's default.
    `grace` is in seconds. `values` has every setting with its origin, for `onready config show`.
    """

    run_log: Plugin | None = None
    catalog: Plugin | None = None
    folder: str = ".onready"
    max_parallel: int | None = None
    grace: float = 10.0
    pools: Mapping[str, int] = field(default_factory=dict)
    backends: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    secrets: Sequence[Plugin] | None = None
    values: tuple[Value, ...] = ()
    file: str = ""
    profile: str = ""


def load_config(
    flags: Mapping[str, object] | None = None,
    *,
    profile: str | None = None,
    folder: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Config:
    """The configuration for a command that was started in `folder` (the current one).

    `flags` are settings given on the command line, by name; None values are left out. ConfigError
    where a key is unknown, a value does not fit, a file does not parse, or two files compete.
    """
    variables = os.environ if env is None else env
    given = {name: value for name, value in (flags or {}).items() if value is not None}
    place = Path() if folder is None else folder
    name, data = read_file(place)
    chosen = profile or variables.get(PROFILE_VARIABLE, "")
    layer = take_profile(data, chosen, name)
    _check_variables(variables)
    layers = [
        Layer("flag", given),
        Layer(f"profile {chosen} in {name}", layer),
        Layer(name, {key: value for key, value in data.items() if key != "profiles"}),
    ]
    if not name and not _has_settings(variables):
        return _unchecked(given)
    from onready.config_model import check

    return check(layers, variables, name, chosen)


@dataclass(frozen=True, slots=True)
class Layer:
    """Settings of one origin."""

    origin: str
    settings: Mapping[str, object]


def read_file(folder: Path) -> tuple[str, dict[str, object]]:
    """The name and content of the configuration file in `folder`; ("", {}) where there is none.

    ConfigError where more than one is there: which of two files wins is nothing to guess.
    """
    found: list[tuple[str, dict[str, object]]] = []
    for name in FILES:
        path = folder / name
        if not path.is_file():
            continue
        data = _parse(path)
        if name == "pyproject.toml":
            tool = data.get("tool")
            section = tool.get("onready") if isinstance(tool, dict) else None
            if section is None:
                continue
            data = _table(section, "[tool.onready] in pyproject.toml")
        found.append((name, data))
    if len(found) > 1:
        names = " and ".join(name for name, _ in found)
        message = f"configuration in two places: {names}; keep one"
        raise ConfigError(message)
    return found[0] if found else ("", {})


def _parse(path: Path) -> dict[str, object]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"{path.name}: cannot be read: {error}"
        raise ConfigError(message) from error
    if path.suffix == ".toml":
        try:
            return cast("dict[str, object]", tomllib.loads(text))
        except tomllib.TOMLDecodeError as error:
            message = f"{path.name}: not TOML: {error}"
            raise ConfigError(message) from error
    import yaml

    try:
        data: object = yaml.safe_load(text)
    except yaml.YAMLError as error:
        message = f"{path.name}: not YAML: {error}"
        raise ConfigError(message) from error
    return {} if data is None else _table(data, path.name)


def _table(data: object, where: str) -> dict[str, object]:
    if isinstance(data, dict):
        return {str(key): value for key, value in data.items()}
    message = f"{where}: settings by name are wanted, not {type(data).__name__}"
    raise ConfigError(message)


def take_profile(data: Mapping[str, object], chosen: str, name: str) -> dict[str, object]:
    """The settings of profile `chosen`; ConfigError where the file has no such profile."""
    profiles = _table(data.get("profiles", {}), f"profiles in {name}")
    if not chosen:
        return {}
    if chosen not in profiles:
        where = name or "there is no configuration file"
        message = (
            f"no profile {chosen!r} ({where}){did_you_mean(chosen, profiles)}; "
            f"profiles: {listed(profiles)}"
        )
        raise ConfigError(message)
    return _table(profiles[chosen], f"profiles.{chosen} in {name}")


def _settings_variables(env: Mapping[str, str]) -> dict[str, str]:
    """Variables with our prefix, each with the first part of the setting it may name."""
    return {
        name: name.removeprefix(PREFIX).split("__")[0].lower()
        for name in env
        if name.startswith(PREFIX) and name not in OTHER_VARIABLES
    }


def _has_settings(env: Mapping[str, str]) -> bool:
    return any(part in DEFAULTS for part in _settings_variables(env).values())


def _check_variables(env: Mapping[str, str]) -> None:
    """Refuse a variable that is nearly one of ours; others' variables are their business."""
    for name, part in sorted(_settings_variables(env).items()):
        if part not in DEFAULTS and (hint := did_you_mean(part, DEFAULTS)):
            wanted = hint.split("'")[1]
            message = (
                f"the environment variable {name} names no setting; "
                f"did you mean {PREFIX}{wanted.upper()}?"
            )
            raise ConfigError(message)


def _unchecked(flags: Mapping[str, object]) -> Config:
    """No file and no variable: flags have their types from the command line already."""
    values = [
        Value(key, value, "flag" if key in flags else "default")
        for key, value in shown_settings(flags).items()
    ]
    return build(flags, values, "", "")


def shown_settings(settings: Mapping[str, object]) -> dict[str, object]:
    """Every setting with what holds where it is not set: both stores are in `folder` then."""
    folder = settings.get("folder") or DEFAULTS["folder"]
    defaults = dict(DEFAULTS) | {
        "run_log": f"sqlite:{folder}/runs.db",
        "catalog": f"file:{folder}/catalog",
    }
    return {
        key: default if settings.get(key) is None else settings[key]
        for key, default in defaults.items()
    }


def build(settings: Mapping[str, object], values: list[Value], name: str, profile: str) -> Config:
    """A Config of checked settings; those not given keep the engine's own defaults."""
    return Config(
        run_log=cast("Plugin | None", settings.get("run_log")),
        catalog=cast("Plugin | None", settings.get("catalog")),
        folder=str(settings.get("folder", ".onready")),
        max_parallel=cast("int | None", settings.get("max_parallel")),
        grace=cast("float", settings.get("grace", 10.0)),
        pools=cast("Mapping[str, int]", settings.get("pools", {})),
        backends=cast("Mapping[str, Mapping[str, object]]", settings.get("backends", {})),
        secrets=cast("Sequence[Plugin] | None", settings.get("secrets")),
        values=tuple(values),
        file=name,
        profile=profile,
    )


def flatten(settings: Mapping[str, object], where: str = "") -> dict[str, object]:
    """Settings by dotted key, tables opened; an empty table is one value."""
    flat: dict[str, object] = {}
    for key, value in settings.items():
        place = join_place(where, str(key))
        if isinstance(value, Mapping) and value:
            flat |= flatten(cast("Mapping[str, object]", value), place)
        else:
            flat[place] = value
    return flat


def masked(key: str, value: object) -> object:
    """`value` as it may be shown: secret-looking ones hidden, passwords in URLs too.

    A `{{VAR}}` stays as it is written: it names a secret and holds none.
    """
    if isinstance(value, Mapping):
        return {name: masked(str(name), item) for name, item in value.items()}
    if key == "secrets" and isinstance(value, list):
        # Its items are providers: only what they hold may be secret.
        return [masked("provider", item) for item in value]
    if isinstance(value, list):
        return [masked(key, item) for item in value]
    if isinstance(value, str) and not re.fullmatch(r"\{\{[^{}]*\}\}", value):
        if SECRET.search(key.rpartition(".")[2]) and value:
            return "********"
        return _USERINFO.sub(r"\g<scheme>********@", value)
    return value
