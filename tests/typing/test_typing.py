"""Three type checkers take all good uses of the API and find all planted errors, no others.

`bad.py.txt` has its ending so that nothing but this test takes it for a module.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
COMMANDS = {
    "mypy": [
        *("mypy", "--strict", "--no-error-summary", "--config-file=", "--cache-dir={cache}"),
        *("--python-executable", sys.executable),
    ],
    "basedpyright": ["basedpyright", "--pythonpath", sys.executable],
    "ty": ["ty", "check", "--output-format=concise", "--python", sys.executable],
}


def errors(checker: str, file: Path) -> list[str]:
    """The lines of a checker's report that speak of an error in `file`."""
    program = Path(sys.executable).parent / COMMANDS[checker][0]
    cache = file.parent / "cache"
    arguments = [part.format(cache=cache) for part in COMMANDS[checker][1:]]
    # Run where the file is: the project's own settings are for the project.
    done = subprocess.run(
        [program, *arguments, file.name],
        cwd=file.parent,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode in {0, 1}, done.stdout + done.stderr
    return [
        line
        for line in done.stdout.splitlines()
        if re.search(rf"{file.name}:\d+(:\d+)?:? (- )?(error|warning)\b", line)
    ]


def line_of(report: str) -> int:
    found = re.search(r"\.py:(\d+)", report)
    assert found is not None, report
    return int(found[1])


@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", COMMANDS)
def test_good_uses_and_planted_errors(checker: str, tmp_path: Path) -> None:
    good = tmp_path / "good.py"
    shutil.copy(HERE / "good.py", good)
    bad = tmp_path / "bad.py"
    (tmp_path / "pyrightconfig.json").write_text('{"typeCheckingMode": "strict"}')
    text = (HERE / "bad.py.txt").read_text()
    bad.write_text(text)
    planted = [
        number for number, line in enumerate(text.splitlines(), 1) if line.endswith("# wrong")
    ]
    assert errors(checker, good) == []
    found = errors(checker, bad)
    assert sorted({line_of(report) for report in found}) == planted, "\n".join(found)
