"""`onready config show`: every setting, and where it came from.

Rule of this room: reads the configuration and prints it; secrets are masked.
"""

from __future__ import annotations

import json

from onready.cli.common import FormatOption, Stores
from onready.cli.console import Console
from onready.cli.words import columns
from onready.config import masked


def show(*, stores: Stores = Stores(), format: FormatOption = "text") -> int:  # noqa: A002, B008 - the flag's name; a frozen default
    """Every setting, its value, and the flag, variable, profile or file that it came from."""
    console = Console()
    config = stores.config()
    shown = [(item.key, masked(item.key, item.value), item.origin) for item in config.values]
    if format == "json":
        rows = [{"key": key, "value": value, "origin": origin} for key, value, origin in shown]
        console.out(json.dumps(rows, indent=2, default=str))
        return 0
    lines = columns(
        (key, json.dumps(value, default=str), console.paint(origin, "dim"))
        for key, value, origin in shown
    )
    console.out("\n".join(lines))
    if not config.file:
        console.say(
            "no onready.toml, onready.yaml or [tool.onready] here: these are the defaults; "
            "`onready init` writes a file"
        )
    return 0
