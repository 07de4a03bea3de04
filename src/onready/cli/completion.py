"""`onready completion`: a completion script for a shell.

Rule of this room: cyclopts makes the script; we print it, and install nothing.
"""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from onready.cli.exits import Usage

Shell = Literal["bash", "zsh", "fish"]


def completion(
    shell: Annotated[Shell | None, Parameter(help="The shell that the script is for.")] = None,
) -> int:
    """Print a completion script, for your own shell where none is named.

    bash: `onready completion bash > ~/.local/share/bash-completion/completions/onready`.
    zsh: `onready completion zsh > ~/.zfunc/_onready` (a folder of `fpath`).
    fish: `onready completion fish > ~/.config/fish/completions/onready.fish`.

    """
    from onready.cli.app import build_app
    from onready.cli.console import Console

    if shell is None:
        from cyclopts.completion.detect import ShellDetectionError, detect_shell

        try:
            found = detect_shell()
        except ShellDetectionError:
            found = None
        if found is None or found == "powershell":
            message = "onready completion: which shell? say bash, zsh or fish"
            raise Usage(message)
        shell = found
    script = build_app().generate_completion(prog_name="onready", shell=shell)
    Console().out(script.rstrip("\n"))
    return 0
