"""What the addresses of the built-in stores have in common: `scheme:rest`.

Rule of this room: texts only; no store is imported.
"""

from __future__ import annotations

from pathlib import Path

from onready.engine.errors import ConfigError


def path_of(scheme: str, rest: str) -> Path:
    """The path in the address `scheme:rest`; ConfigError where there is none."""
    if not rest or "\0" in rest:
        message = f"an address of this kind names a path: '{scheme}:PATH', not '{scheme}:{rest}'"
        raise ConfigError(message)
    return Path(rest)


def nothing(rest: str) -> None:
    """ConfigError where the address `memory:rest` has a rest."""
    if rest:
        message = f"'memory:' takes nothing after the colon, not {rest!r}"
        raise ConfigError(message)
