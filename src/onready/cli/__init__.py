"""The command line: `onready VERB ...`.

Rule of this room: words, colours and exit codes; no logic that the API lacks. Each verb has its
own module, imported when that verb is used: this one starts with every command, and with every
node of a subprocess, container or Job.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command in `arguments` (those of the process by default) and exit with its code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    sys.exit(_run(words))


def _run(words: list[str]) -> int:
    if words[:1] == ["execute-single-node"]:
        # Started once per node: nothing but the worker is imported.
        from onready.cli.worker import execute

        return execute(words[1:])
    if words == ["--version"]:
        from importlib.metadata import version

        sys.stdout.write(f"onready {version('onready')}\n")
        return 0
    from onready.cli.app import run_app

    return run_app(words)


__all__ = ["main"]
