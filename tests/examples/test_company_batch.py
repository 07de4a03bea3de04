"""The sample plug-in, installed as anybody's package is: the entry point is really discovered.

Its own tests (the contract suite among them) run in `make test` as well; here those that show
that an installed copy, away from our tree, works.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[2] / "examples" / "company-batch"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the installed package."""
    folder = tmp_path_factory.mktemp("company-batch")
    ignored = shutil.ignore_patterns("build", "*.egg-info", "__pycache__")
    shutil.copytree(SOURCE, folder / "source", ignore=ignored)
    command = [sys.executable, "-m", "pip", "install", "--no-deps", "--no-build-isolation"]
    subprocess.run(
        [*command, "--quiet", "--no-index", "--target", folder / "site", folder / "source"],
        check=True,
        timeout=120,
    )
    return folder / "site"


def run(site: Path, *command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command],
        env=os.environ | {"PYTHONPATH": str(site)},
        cwd=site,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


@pytest.mark.timeout(200)
def test_it_is_found_where_it_is_installed(site: Path) -> None:
    code = (
        "from onready.engine.registry import installed, load;"
        "row = next(r for r in installed('onready.backends') if r.name == 'company-batch');"
        "print(row.version, load('onready.backends', row.name).__module__);"
        "import company_batch.backend; print(company_batch.backend.__file__)"
    )
    done = run(site, "-c", code)
    found, file = done.stdout.splitlines()
    assert found == "1.0.0 company_batch.backend", done.stderr
    assert Path(file).is_relative_to(site)


@pytest.mark.timeout(200)
def test_its_graph_and_settings_tests_pass(site: Path) -> None:
    tests = [str(SOURCE / "tests" / name) for name in ("test_graph.py", "test_settings.py")]
    done = run(site, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", *tests)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_backend_is_under_a_hundred_lines() -> None:
    source = (SOURCE / "src" / "company_batch" / "backend.py").read_text(encoding="utf-8")
    assert len(source.splitlines()) < 100
