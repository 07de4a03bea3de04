"""What README.md shows is so: the settings are accepted, the service starts as it says."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

from onready.engine.registry import BACKENDS, create

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README, re.DOTALL)
    assert found is not None
    return found[1]


def test_the_settings_are_good() -> None:
    settings = tomllib.loads(block("toml"))["backends"]["company-batch"]
    config = create(BACKENDS, settings, "", {"COMPANY_BATCH_TOKEN": "made-up"})
    assert "batch.example.com" in repr(config)


def test_the_service_starts() -> None:
    variable, *command = shlex.split(block("console").removeprefix("$ "))
    assert command.pop(0) == "python"
    name, _, value = variable.partition("=")
    process = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, env=os.environ | {name: value}
    )
    assert process.stdout is not None
    with process.stdout as said:
        address = said.readline()
        process.terminate()
        assert process.wait(20) == 0
    assert address.startswith(b"http://127.0.0.1:")
