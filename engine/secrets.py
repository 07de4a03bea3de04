"""The secret providers of one engine or one worker: asked in their order, opened when first asked.

Rule of this room: everything here may block: the driver calls it in threads. Values are neither
kept nor shown; what is resolved is registered for masking before anybody gets it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Final, NamedTuple

import msgspec

from onready.engine.errors import ConfigError, OnreadyError, PluginError, SecretError, StoreError
from onready.engine.masking import MASKS
from onready.engine.names import is_name
from onready.engine.registry import SECRETS, Spec, create
from onready.engine.spi import SecretProvider

DEFAULT: Final[tuple[Spec, ...]] = ("env",)
"""Where secrets are looked for unless an engine is told otherwise."""
_decode: Final = msgspec.json.Decoder(list[str | dict[str, object]]).decode


class _Asked(NamedTuple):
    """One open provider, by the name that messages give it."""

    name: str
    provider: SecretProvider


class SecretProviders:
    """A `Secrets`: the providers that `specs` describe. Close it with `close`."""

    def __init__(self, specs: Sequence[Spec] = DEFAULT) -> None:
        self._specs = tuple(specs)
        self._lock = threading.Lock()
        self._open: list[_Asked] | None = None
        self._stack = ExitStack()

    @classmethod
    def of(cls, settings: str) -> SecretProviders:
        """Those that somebody else's `settings` describe."""
        return cls(_decode(settings))

    @property
    def settings(self) -> str:
        """See `Secrets`: as they were given, so that `{{VAR}}` is filled where it is needed."""
        plain = [spec if isinstance(spec, str) else dict(spec) for spec in self._specs]
        return msgspec.json.encode(plain).decode()

    @property
    def is_open(self) -> bool:
        """Whether there is something to close."""
        return self._open is not None

    def open(self) -> None:
        """Open the providers now: ConfigError or PluginError where one cannot be."""
        self._providers()

    def resolve(self, name: str, /) -> str:
        """See `Secrets`."""
        if not is_name(name):
            message = f"{name[:80]!r} cannot name a secret"
            raise SecretError(message)
        try:
            providers = self._providers()
        except (ConfigError, PluginError) as error:
            message = f"the secret {name!r} cannot be had: {error}"
            raise SecretError(message) from error
        for asked in providers:
            value = _ask(asked, name)
            if value is not None:
                MASKS.register(value)
                return value
        names = ", ".join(asked.name for asked in providers) or "none"
        message = f"no provider has the secret {name!r}; asked: {names}"
        raise SecretError(message)

    def _providers(self) -> list[_Asked]:
        with self._lock:
            if self._open is None:
                with ExitStack() as stack:
                    self._open = [
                        _Asked(
                            _name(spec),
                            stack.enter_context(create(SECRETS, spec, f"secrets[{index}]").open()),
                        )
                        for index, spec in enumerate(self._specs)
                    ]
                    self._stack = stack.pop_all()
            return self._open

    def close(self) -> None:
        """Close the providers; they open again if somebody asks."""
        with self._lock:
            self._open = None
            self._stack.close()


def _ask(asked: _Asked, name: str) -> str | None:
    try:
        return asked.provider.get(name)
    except OnreadyError:
        raise
    except Exception as error:  # A plug-in's own code: it may raise anything.
        message = (
            f"the secret provider {asked.name!r} could not say whether it has {name!r}: "
            f"{type(error).__name__}: {error}"
        )
        raise StoreError(message, retryable=True) from error


def _name(spec: Spec) -> str:
    """What a message shows of a provider: an address as it is, of a table the type alone."""
    return spec if isinstance(spec, str) else str(spec.get("type", "?"))


def given_specs(given: str | Sequence[Spec] | None) -> tuple[Spec, ...]:
    """What `Engine(secrets=...)` was given; ConfigError for what is no list of providers."""
    if given is None:
        return DEFAULT
    if isinstance(given, str) or not all(isinstance(item, str | Mapping) for item in given):
        message = (
            f"secrets: got {given!r:.80}; give a list of providers in the order to ask them: "
            '["env", "file:/run/secrets", "dotenv:.env"]'
        )
        raise ConfigError(message)
    return tuple(given)
