"""The digits example: from the command line and as a program, on fewer settings than it has."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

EXAMPLE = Path(__file__).parents[2] / "examples" / "digits.py"


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=os.environ | {"MPLCONFIGDIR": str(folder)},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.mark.timeout(120)
def test_it_runs_from_the_command_line(tmp_path: Path) -> None:
    flags = ["--hidden", "8", "16", "--alphas", "0.01", "--folds", "2", "--format", "json"]
    done = run(tmp_path, "-m", "onready", "run", str(EXAMPLE), *flags)
    found = json.loads(done.stdout)
    text = json.dumps(found)
    assert '"status": "succeeded"' in text
    assert (tmp_path / ".onready" / "runs.db").exists()
    blobs = [path for path in (tmp_path / ".onready" / "catalog").rglob("*") if path.is_file()]
    starts = {path.read_bytes()[:4] for path in blobs}
    assert b"\x89PNG" in starts, "the picture is in the catalog"
    assert b"PK\x03\x04" in starts, "the model is in the catalog"


@pytest.mark.timeout(120)
def test_it_runs_as_a_program(tmp_path: Path) -> None:
    source = EXAMPLE.read_text(encoding="utf-8")
    smaller = source.replace("[32, 64, 128, 256]", "[16]").replace(
        "folds: int = 5", "folds: int = 2"
    )
    assert smaller != source
    (tmp_path / "digits.py").write_text(smaller, encoding="utf-8")
    done = run(tmp_path, "digits.py")
    assert "best of all: 16 hidden neurons" in done.stdout
    assert (tmp_path / "digits.png").read_bytes().startswith(b"\x89PNG")
    with np.load(tmp_path / "digits.npz", allow_pickle=False) as arrays:
        weights = dict(arrays)
    images, labels = load_digits(return_X_y=True)
    hidden = np.maximum(images / 16.0 @ weights["weights0"] + weights["biases0"], 0.0)
    outputs = hidden @ weights["weights1"] + weights["biases1"]
    assert np.mean(outputs.argmax(axis=1) == labels) > 0.9
