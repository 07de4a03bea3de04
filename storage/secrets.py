"""The built-in secret providers: environment, a folder of files, a dotenv file.

Rule of this room: read at each question, nothing kept; a value is never part of a message. Names
keep the grammar of names (no slash, no dot in front), which is what confines them to the folder.
"""

from __future__ import annotations

import io
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Self

from pydantic import Field

from onready.engine.errors import StoreError
from onready.engine.names import is_name
from onready.engine.plugin import SecretsPlugin
from onready.engine.spi import SecretProvider

LARGEST: Final = 1 << 20
"""Bytes that a file of a secret may have."""


class EnvSecrets:
    """The variables of this process's environment."""

    def get(self, name: str, /) -> str | None:
        """See `SecretProvider`."""
        return os.environ.get(name)


class FolderSecrets:
    """One file per secret, as Docker and Kubernetes mount them: `/run/secrets/NAME`.

    The value is the file's text without its last newline. Links are followed: Kubernetes mounts
    secrets as such.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get(self, name: str, /) -> str | None:
        """See `SecretProvider`. StoreError for what is no UTF-8 text or too large."""
        if not is_name(name):
            return None
        path = self._folder / name
        if not path.is_file():
            return None
        if path.stat().st_size > LARGEST:
            message = f"{path} is larger than {LARGEST:,} bytes, so it is no secret"
            raise StoreError(message)
        return _text(path.read_bytes(), path).removesuffix("\n").removesuffix("\r")


class DotenvSecrets:
    """The `NAME=value` lines of a dotenv file; nothing in a value is filled in."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def get(self, name: str, /) -> str | None:
        """See `SecretProvider`. A file that is not there has no secrets."""
        from dotenv import dotenv_values

        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return None
        text = io.StringIO(_text(data, self._path))
        return dotenv_values(stream=text, interpolate=False).get(name)


def _text(data: bytes, path: Path) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        message = f"{path} is no UTF-8 text, so it holds no secrets"
        raise StoreError(message) from None


# --- settings ---------------------------------------------------------------------------------


class EnvConfig(SecretsPlugin):
    """Secrets in environment variables (`env`): the default."""

    @contextmanager
    def open(self) -> Generator[SecretProvider]:
        """The provider."""
        yield EnvSecrets()


class FolderConfig(SecretsPlugin):
    """Secrets in files (`file:/run/secrets`), one per secret, named as it is."""

    path: Path = Field(default=Path("/run/secrets"))
    """The folder."""

    @classmethod
    def from_address(cls, rest: str) -> Self:
        """The settings for `file` and `file:FOLDER`."""
        return cls(path=Path(rest)) if rest else cls()

    @contextmanager
    def open(self) -> Generator[SecretProvider]:
        """The provider."""
        yield FolderSecrets(self.path.expanduser().absolute())


class DotenvConfig(SecretsPlugin):
    """Secrets in a dotenv file (`dotenv:.env`)."""

    path: Path = Field(default=Path(".env"))
    """The file."""

    @classmethod
    def from_address(cls, rest: str) -> Self:
        """The settings for `dotenv` and `dotenv:PATH`."""
        return cls(path=Path(rest)) if rest else cls()

    @contextmanager
    def open(self) -> Generator[SecretProvider]:
        """The provider."""
        yield DotenvSecrets(self.path.expanduser().absolute())
