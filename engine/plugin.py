"""The base of a plug-in's settings: what an entry point names.

Rule of this room: this module imports pydantic, so `import onready` never imports it; plug-ins do.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Self

from pydantic import BaseModel, ConfigDict

from onready.engine.spi import SecretProvider


class PluginSettings(BaseModel):
    """What the settings of all plug-ins have in common.

    Unknown keys are refused, instances are frozen, and secrets belong in `SecretStr` fields:
    those are never shown.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
        validate_default=True,
    )

    @classmethod
    def from_address(cls, rest: str) -> Self:
        """The settings that the address text `type:rest` means.

        `rest` is all after the first colon, "" for a bare name. A ValueError from here becomes a
        `ConfigError` with the key's place. Here: a bare name alone is accepted, and means the
        defaults.
        """
        if rest:
            message = f"takes settings, not an address: {rest!r}"
            raise ValueError(message)
        return cls()


class PluginConfig(PluginSettings):
    """Settings of a plug-in, and the way to open it.

    Subclass it, give each field a description and bounds, write `open`, and name the class in an
    entry point of `onready.backends`, `onready.run_logs` or `onready.catalogs`.
    """

    def open(self) -> AbstractAsyncContextManager[object]:
        """Start it: a context manager that yields the backend, the run log or the catalog.

        On leaving, nothing of it is left: no task, thread, child process or descriptor.
        """
        raise NotImplementedError


class SecretsPlugin(PluginSettings):
    """Settings of a secret provider: as `PluginConfig`, in an entry point of `onready.secrets`.

    Its settings travel to the workers: write a provider's own token as `{{VAR}}`, which each
    process fills in for itself.
    """

    def open(self) -> AbstractContextManager[SecretProvider]:
        """Open it: a context manager that yields the provider. It may block."""
        raise NotImplementedError
