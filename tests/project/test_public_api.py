"""What `import onready` gives, and what it costs."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

import onready

HEAVY = {
    "aiodocker",
    "aiohttp",
    "cyclopts",
    "fastapi",
    "hera",
    "httpx",
    "jinja2",
    "kubernetes_asyncio",
    "matplotlib",
    "numpy",
    "pandas",
    "polars",
    "pyarrow",
    "pydantic_settings",
    "rich",
    "sklearn",
    "starlette",
    "uvicorn",
    "yaml",
}
OURS = {"onready.backends", "onready.storage", "onready.transpiler", "onready.cli"}
MOST_NAMES = 40


def imported_by(statement: str) -> set[str]:
    """Modules that are loaded in a fresh interpreter after `statement`."""
    script = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(run.stdout))


def test_importing_it_pulls_nothing_heavy() -> None:
    loaded = imported_by("import onready")
    assert loaded & HEAVY == set()
    assert {name for name in loaded if name.startswith(tuple(OURS))} == set()


def test_a_worker_loads_nothing_that_drives_runs() -> None:
    loaded = imported_by("import onready.cli.worker, onready.engine.testing.work")
    assert "onready.engine.graph.task" in loaded
    assert not loaded & {"asyncio", "onready.engine.engine", "onready.engine.scheduler", "pytest"}


@pytest.mark.parametrize("name", onready.__all__)
def test_every_export_is_there_in_a_fresh_interpreter(name: str) -> None:
    script = f"import onready\nfrom onready import {name}\nassert onready.{name} is {name}"
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_name_that_is_none_of_it_is_refused() -> None:
    with pytest.raises(AttributeError, match="'onready' has no attribute 'Motor'"):
        getattr(onready, "Motor")  # noqa: B009 - a type checker knows better


def test_exports_are_sorted_and_few() -> None:
    names = list(onready.__all__)
    assert names == sorted(set(names), key=str.lower) or names == sorted(set(names))
    assert 10 < len(names) <= MOST_NAMES


def test_exports_are_exactly_the_public_names() -> None:
    for name in onready.__all__:  # some are loaded when they are named
        getattr(onready, name)
    ours = {
        name
        for name, value in vars(onready).items()
        if not name.startswith("_") and getattr(value, "__module__", "").startswith("onready")
    }
    assert ours == set(onready.__all__)
    assert dir(onready) == sorted(ours)


def test_the_names_of_the_design_are_there() -> None:
    wanted = {
        "Engine",
        "Failure",
        "GraphBuilder",
        "Provided",
        "Resources",
        "Retry",
        "RunFailed",
        "Secret",
        "branch",
        "each",
        "graph",
        "repeat",
        "rescue",
        "run_sync",
        "shell",
        "switch",
        "task",
    }
    assert wanted <= set(onready.__all__)
