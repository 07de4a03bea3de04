"""Plug-ins: what is installed, by entry point, and how settings become a plug-in's config model.

Rule of this room: no plug-in, and no pydantic, is imported before somebody asks for that very
plug-in; built-ins are entry points like all others and have no special case here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Final, Literal, Protocol, cast, get_args, overload

from onready.engine.errors import ConfigError, PluginError
from onready.engine.settings import (
    did_you_mean,
    fill_variables,
    join_place,
    listed,
    settings_error,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

    from onready.engine.spi import Backend, BulkBackend, Catalog, RunLog, SecretProvider

__all__ = [
    "BACKENDS",
    "CATALOGS",
    "CODECS",
    "RUN_LOGS",
    "SECRETS",
    "BackendConfig",
    "CatalogConfig",
    "Group",
    "Installed",
    "RunLogConfig",
    "SecretsConfig",
    "create",
    "fill_variables",
    "forget",
    "installed",
    "load",
]

Group = Literal[
    "onready.backends",
    "onready.run_logs",
    "onready.catalogs",
    "onready.codecs",
    "onready.secrets",
]
"""The entry-point groups."""
GROUPS: Final[tuple[Group, ...]] = get_args(Group)

BACKENDS: Literal["onready.backends"] = "onready.backends"
RUN_LOGS: Literal["onready.run_logs"] = "onready.run_logs"
CATALOGS: Literal["onready.catalogs"] = "onready.catalogs"
CODECS: Literal["onready.codecs"] = "onready.codecs"
SECRETS: Literal["onready.secrets"] = "onready.secrets"


class BackendConfig(Protocol):
    """Settings of a backend."""

    def open(self) -> AbstractAsyncContextManager[Backend | BulkBackend]:
        """Start the backend."""
        ...


class RunLogConfig(Protocol):
    """Settings of a run log."""

    def open(self) -> AbstractAsyncContextManager[RunLog]:
        """Open the run log."""
        ...


class CatalogConfig(Protocol):
    """Settings of a catalog."""

    def open(self) -> AbstractAsyncContextManager[Catalog]:
        """Open the catalog."""
        ...


class SecretsConfig(Protocol):
    """Settings of a secret provider. Synchronous: workers have no event loop."""

    def open(self) -> AbstractContextManager[SecretProvider]:
        """Open the provider; it may block."""
        ...


@dataclass(frozen=True, slots=True)
class Installed:
    """One registered plug-in. `target` is `module:name`; nothing of it has been imported."""

    name: str
    target: str
    distribution: str
    version: str


@cache
def _all_entry_points() -> dict[Group, dict[str, list[metadata.EntryPoint]]]:
    found: dict[Group, dict[str, list[metadata.EntryPoint]]] = {}
    everything = metadata.entry_points()  # reads a file of each distribution that is installed
    for group in GROUPS:
        points = found.setdefault(group, {})
        for point in everything.select(group=group):
            points.setdefault(point.name, []).append(point)
    return found


def _entry_points(group: Group) -> dict[str, list[metadata.EntryPoint]]:
    return _all_entry_points()[group]


def forget() -> None:
    """Look for entry points anew at the next question: after one was installed while we run."""
    _all_entry_points.cache_clear()


def installed(group: Group) -> tuple[Installed, ...]:
    """All plug-ins of a group, by name, then by distribution."""
    rows = [
        Installed(
            name,
            point.value,
            point.dist.name if point.dist else "?",
            point.dist.version if point.dist else "?",
        )
        for name, points in _entry_points(group).items()
        for point in points
    ]
    return tuple(sorted(rows, key=lambda row: (row.name, row.distribution)))


def load(group: Group, name: str) -> object:
    """The object that the entry point `name` of `group` names.

    PluginError where there is none (it says what is installed), where two distributions register
    the name, or where its import fails (with the cause).
    """
    points = _entry_points(group).get(name, [])
    if not points:
        known = _entry_points(group)
        message = (
            f"no plug-in {name!r} in {group}{did_you_mean(name, known)}; installed: {listed(known)}"
        )
        raise PluginError(message)
    if len(points) > 1:
        rivals = " and ".join(_origin(point) for point in points)
        message = f"the plug-in {name!r} in {group} is registered by {rivals}; uninstall one"
        raise PluginError(message)
    point = points[0]
    try:
        return cast("object", point.load())
    except Exception as error:  # Importing runs the plug-in's own code: it may raise anything.
        message = (
            f"the plug-in {name!r} in {group} does not load from {_origin(point)}: "
            f"{type(error).__name__}: {error}"
        )
        raise PluginError(message) from error


def _origin(point: metadata.EntryPoint) -> str:
    return f"{point.dist.name if point.dist else '?'} ({point.value})"


Spec = str | Mapping[str, object]
AnyConfig = BackendConfig | RunLogConfig | CatalogConfig | SecretsConfig


@overload
def create(
    group: Literal["onready.backends"],
    spec: Spec,
    where: str = "",
    env: Mapping[str, str] | None = None,
) -> BackendConfig: ...
@overload
def create(
    group: Literal["onready.run_logs"],
    spec: Spec,
    where: str = "",
    env: Mapping[str, str] | None = None,
) -> RunLogConfig: ...
@overload
def create(
    group: Literal["onready.catalogs"],
    spec: Spec,
    where: str = "",
    env: Mapping[str, str] | None = None,
) -> CatalogConfig: ...
@overload
def create(
    group: Literal["onready.secrets"],
    spec: Spec,
    where: str = "",
    env: Mapping[str, str] | None = None,
) -> SecretsConfig: ...
def create(
    group: Literal["onready.backends", "onready.run_logs", "onready.catalogs", "onready.secrets"],
    spec: Spec,
    where: str = "",
    env: Mapping[str, str] | None = None,
) -> AnyConfig:
    """The settings `spec`, as an instance of the plug-in's config model; call its `open()`.

    `spec` is a bare name (`"memory"`), an address (`"sqlite:.onready/runs.db"`), or a mapping with
    `type` and the plug-in's own settings. `{{VAR}}` in texts is filled from `env` (the process
    environment where it is None). `where` is the spec's place in the configuration, for messages.

    PluginError as `load`; ConfigError where the settings are wrong: the place of each wrong key,
    what was got and what is allowed.
    """
    if isinstance(spec, str):
        return _from_text(group, spec, where, env)
    kind = spec.get("type")
    if not isinstance(kind, str) or not kind:
        got = f"got {kind!r}" if "type" in spec else "missing"
        place = join_place(where, "type")
        message = f"{place}: {got}; a plug-in of {group}: {listed(_entry_points(group))}"
        raise ConfigError(message)
    settings = {key: value for key, value in spec.items() if key != "type"}
    filled = fill_variables(settings, where, env)
    model = _model(group, str(fill_variables(kind, join_place(where, "type"), env)))
    return _checked(model, where, settings, lambda: model.model_validate(filled))


def _from_text(group: Group, text: str, where: str, env: Mapping[str, str] | None) -> AnyConfig:
    name, _, rest = str(fill_variables(text, where, env)).partition(":")
    model = _model(group, name)
    from_address = cast("Callable[[str], object] | None", getattr(model, "from_address", None))
    if from_address is not None:
        return _checked(model, where, {}, lambda: from_address(rest))
    if rest:
        message = f"{where}: {name!r} takes settings, not an address; give a mapping with 'type'"
        raise ConfigError(message.removeprefix(": "))
    return _checked(model, where, {}, lambda: model.model_validate({}))


def _model(group: Group, name: str) -> type[BaseModel]:
    found = load(group, name)
    if not (
        isinstance(found, type) and hasattr(found, "model_validate") and hasattr(found, "open")
    ):
        message = (
            f"the plug-in {name!r} in {group} is no settings model with an 'open' method: {found!r}"
        )
        raise PluginError(message)
    return cast("type[BaseModel]", found)


def _checked(
    model: type[BaseModel],
    where: str,
    given: Mapping[str, object],
    build: Callable[[], object],
) -> AnyConfig:
    from pydantic import ValidationError  # The plug-in has imported it already.

    try:
        return cast("BackendConfig", build())
    except ValidationError as error:
        raise settings_error(error, model, where, given) from None
    except (ValueError, ConfigError) as error:
        message = f"{where}: {error}".removeprefix(": ")
        raise ConfigError(message) from error
