"""Nodes that say a secret in every way they can: they run wherever their graph sends them."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, quote_plus

from onready.engine.context import current
from onready.engine.graph import Secret, task


def forms(secret: str) -> list[str]:
    """The secret as people and programs write it."""
    raw = secret.encode()
    return [
        secret,
        base64.b64encode(raw).decode(),
        base64.urlsafe_b64encode(raw).decode(),
        base64.b64encode(b"user:" + raw).decode(),
        base64.b64encode(b"x:" + raw + b"!").decode(),
        quote(secret, safe=""),
        quote_plus(secret),
        json.dumps(secret),
        json.dumps({"token": secret}, ensure_ascii=False),
        json.dumps(json.dumps([secret])),
        repr(secret),
    ]


def say(secret: str, place: str) -> None:
    """Print it in every form, whole and in pieces, also from a child; report it as progress."""
    node = current()
    assert node is not None
    for form in forms(secret):
        node.log("stdout", f"out {form}\n".encode())
        node.log("stderr", f"err {form[:7]}".encode())
        node.log("stderr", f"{form[7:]}\n".encode())
        node.progress(0.5, f"using {form}")
    if place == "apart":
        print("printed", secret, *forms(secret))
        for character in secret:
            sys.stderr.write(character)
            sys.stderr.flush()
        warnings.warn(f"a warning with {secret}", stacklevel=1)
        child = "import os, sys; print('child', os.environ['S'], file=sys.stderr)"
        subprocess.run([sys.executable, "-c", child], env={"S": secret}, check=True)


def wait(folder: str) -> None:
    """Say that this node is there, and stay until the test has looked."""
    node = current()
    assert node is not None
    Path(folder, f"ready-{node.node}").touch()
    deadline = time.monotonic() + 30
    while not Path(folder, "go").exists() and time.monotonic() < deadline:
        time.sleep(0.01)


@task
def passes(folder: str, place: str, token: str = Secret("CANARY")) -> int:
    say(token, place)
    wait(folder)
    return len(token)


@task
def fails(folder: str, place: str, config: dict[str, str]) -> None:
    secret = config["token"]
    say(secret, place)
    wait(folder)
    error = ExceptionGroup("several", list(_errors(secret)))
    error.add_note(f"a note with {secret}")
    raise error


def _errors(secret: str) -> Iterator[Exception]:
    for form in forms(secret)[:4]:
        yield ValueError(f"refused: {form}")


@task
def fails_with(token: str, number: int) -> None:
    raise RuntimeError(forms(token)[number])


@task
async def passes_inline(token: str = Secret("CANARY")) -> int:
    say(token, "here")
    return len(token)


@task
async def fails_inline(token: str) -> None:
    say(token, "here")
    raise KeyError(token)
