"""Secrets by reference: `env:VARIABLE` or `file:PATH` of this machine.

Rule of this room: reads them when an attempt needs them, in a thread; never keeps or shows one.
"""

from __future__ import annotations

import os
from pathlib import Path


class SecretMissing(Exception):
    """What the reference names is not there; the message has the reference and no secret."""


def read_secret(reference: str) -> str:
    """The secret itself."""
    kind, _, name = reference.partition(":")
    if kind == "env":
        found = os.environ.get(name)
        if found is None:
            message = f"the secret {reference!r}: there is no such variable here"
            raise SecretMissing(message)
        return found
    if kind == "file":
        try:
            return Path(name).read_text(encoding="utf-8").removesuffix("\n")
        except (OSError, UnicodeDecodeError) as error:
            message = f"the secret {reference!r} cannot be read: {type(error).__name__}"
            raise SecretMissing(message) from error
    message = f"the secret {reference!r}: a reference begins with env: or file:"
    raise SecretMissing(message)
