"""The settings as a checked model: pydantic-settings merges the layers, we keep the origins.

Rule of this room: imported by `config.py` alone, and only when there is something to check.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
)

from onready.config import (
    PREFIX,
    Config,
    Layer,
    Value,
    build,
    flatten,
    shown_settings,
)
from onready.engine.errors import ConfigError
from onready.engine.settings import fill_variables, settings_error

_PLUGINS = frozenset({"run_log", "catalog", "backends", "secrets"})


class Settings(BaseModel):
    """What a configuration may say. Times are in seconds."""

    model_config = ConfigDict(extra="forbid")

    run_log: str | dict[str, object] | None = Field(
        None, description="address of the run log, or a table with 'type'"
    )
    catalog: str | dict[str, object] | None = Field(
        None, description="address of the catalog, or a table with 'type'"
    )
    folder: str = Field(".onready", description="folder for logs and scratch files")
    max_parallel: int | None = Field(None, ge=1, description="nodes that may run at once")
    grace: float = Field(10.0, ge=0, description="seconds between a polite stop and a kill")
    pools: dict[str, int] = Field({}, description="slots of each named pool")
    backends: dict[str, dict[str, object]] = Field(
        {}, description="settings of each backend, by the name that tasks use"
    )
    secrets: list[str | dict[str, object]] | None = Field(
        None, description="providers of secrets in the order to ask them, as addresses or tables"
    )


# Apart from Settings, which must be free to check one layer alone: these read the environment.
class _Merged(BaseSettings, Settings):  # pyright: ignore[reportIncompatibleVariableOverride] # theirs
    model_config = SettingsConfigDict(
        extra="forbid", env_prefix=PREFIX, env_nested_delimiter="__", case_sensitive=False
    )


def check(layers: Sequence[Layer], env: Mapping[str, str], name: str, profile: str) -> Config:
    """The merged, checked Config of `layers`, strongest first: flags, profile, file.

    ConfigError for each wrong key, with the layer that says it.
    """
    flags, chosen, file = layers
    from_env = _environment(env)
    ordered = [flags, Layer("env", from_env), chosen, file]
    filled = [Layer(layer.origin, _filled(layer)) for layer in ordered]
    for layer, given in zip(filled, ordered, strict=True):
        _check_layer(layer, given, env)

    class Sourced(_Merged):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            del init_settings, env_settings, dotenv_settings, file_secret_settings
            return tuple(InitSettingsSource(settings_cls, dict(layer.settings)) for layer in filled)

    merged = Sourced.model_validate({}).model_dump()
    return build(
        {key: value for key, value in merged.items() if value is not None},
        _origins(merged, filled, env),
        name,
        profile,
    )


def _environment(env: Mapping[str, str]) -> dict[str, object]:
    """The settings that `ONREADY_*` variables give; texts are parsed as JSON for tables."""
    source = EnvSettingsSource(_Merged)
    if env is not os.environ:
        source.env_vars = {key.lower(): value for key, value in env.items()}
    try:
        return dict(source())
    except SettingsError as error:
        message = f"environment: {error}; a table is written as JSON"
        raise ConfigError(message) from error


def _filled(layer: Layer) -> dict[str, object]:
    """`{{VAR}}` filled, but for plug-ins' settings: the registry fills those when it opens them."""
    return {
        key: value if key in _PLUGINS else fill_variables(value, key)
        for key, value in layer.settings.items()
    }


def _check_layer(layer: Layer, given: Layer, env: Mapping[str, str]) -> None:
    try:
        Settings.model_validate(dict(layer.settings))
    except ValidationError as error:
        detail = settings_error(error, Settings, "", given.settings)
        lines = [f"{_origin(layer.origin, line, env)}: {line}" for line in str(detail).splitlines()]
        raise ConfigError("\n".join(lines)) from None


def _origin(origin: str, line: str, env: Mapping[str, str]) -> str:
    return f"env {_variable(line.partition(':')[0], env)}" if origin == "env" else origin


def _variable(key: str, env: Mapping[str, str]) -> str:
    """The variable that gave the setting `key`: its own, or that of the table it is in."""
    parts = [part.upper() for part in key.split(".")]
    names = {name.upper(): name for name in env}
    for length in range(len(parts), 0, -1):
        name = PREFIX + "__".join(parts[:length])
        if name in names:
            return names[name]
    return PREFIX + "__".join(parts)


def _origins(
    merged: Mapping[str, object], layers: Sequence[Layer], env: Mapping[str, str]
) -> list[Value]:
    flat = [(layer.origin, flatten(layer.settings)) for layer in layers]
    values: list[Value] = []
    shown = shown_settings(merged)
    for key, value in flatten(shown).items():
        origin = next((name for name, keys in flat if key in keys), "default")
        if origin == "env":
            origin = f"env {_variable(key, env)}"
        values.append(Value(key, value, origin))
    return values
