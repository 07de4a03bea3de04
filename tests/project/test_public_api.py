"""What `import onready` gives, and what it costs."""

from __future__ import annotations

import json
import subprocess
import sys
from types import ModuleType

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


def test_exports_are_sorted_and_few() -> None:
    names = list(onready.__all__)
    assert names == sorted(set(names), key=str.lower) or names == sorted(set(names))
    assert 10 < len(names) <= MOST_NAMES


def test_exports_are_exactly_the_public_names() -> None:
    public = {
        name
        for name in dir(onready)
        if not name.startswith("_")
        and not isinstance(getattr(onready, name), ModuleType)
        and name != "annotations"
    }
    assert public == set(onready.__all__)


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
