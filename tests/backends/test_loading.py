"""References: one means one thing, wherever it is loaded."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from onready.engine.errors import GraphError
from onready.engine.loading import file_module, load, load_file, load_function


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "neighbour_of_script.py").write_text("FACTOR = 3\n")
    path = tmp_path / "my script.py"
    path.write_text(
        "from neighbour_of_script import FACTOR\n"
        "count = 0\n"
        "count += 1\n"
        "class Sums:\n"
        "    @staticmethod\n"
        "    def triple(x: int) -> int:\n"
        "        return x * FACTOR\n"
        "def triple(x: int) -> int:\n"
        "    return x * FACTOR\n"
        "constant = 7\n"
        "if __name__ == '__main__':\n"
        "    raise SystemExit('ran as a program')\n"
    )
    return path


def test_a_module_is_loaded_by_name() -> None:
    assert load("json.decoder:JSONDecoder.decode") is __import__("json").JSONDecoder.decode


def test_a_file_runs_once_and_never_as_main(script: Path) -> None:
    triple = load_function(f"{script}:triple")
    assert triple(2) == 6
    assert load_function(f"{script}:Sums.triple")(3) == 9
    module = load_file(script)
    assert vars(module)["count"] == 1
    assert sys.modules[module.__name__] is module
    assert module.__name__ == file_module(script.resolve())
    assert str(script.parent) not in sys.path


def test_a_file_is_compiled_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # With a cache of byte code, the second would be taken for the first: same size, same second.
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    file = tmp_path / "pipeline.py"
    for text in ("x = 1", "x = 2"):
        file.write_text(text)
        os.utime(file, (1_000_000_000, 1_000_000_000))
        monkeypatch.delitem(sys.modules, file_module(file), raising=False)
        assert vars(load_file(file))["x"] == int(text[-1])
    assert [found.name for found in tmp_path.iterdir()] == ["pipeline.py"]


def test_a_task_gives_its_plain_function(tmp_path: Path) -> None:
    path = tmp_path / "with_task.py"
    path.write_text("from onready.engine.graph import task\n@task\ndef f() -> int:\n    return 5\n")
    assert load_function(f"{path}:f")() == 5


@pytest.mark.parametrize(
    ("reference", "code", "words"),
    [
        ("json", "G060", "module:name"),
        ("no_such_package.sub:f", "G061", "install"),
        ("/no/such/file.py:f", "G061", "no file"),
        ("json:dumpz", "G062", "did you mean 'dump'"),
        ("json:zzz", "G062", "__main__"),
        ("json:f.<locals>.g", "G062", "json has no 'f'"),
    ],
)
def test_what_cannot_be_loaded_says_why(reference: str, code: str, words: str) -> None:
    with pytest.raises(GraphError) as caught:
        load(reference)
    assert caught.value.code == code
    assert words in str(caught.value)


def test_a_function_inside_a_function_names_the_cure(script: Path) -> None:
    with pytest.raises(GraphError, match="top level"):
        load(f"{script}:triple.<locals>.inner")


def test_what_is_no_function_is_refused(script: Path) -> None:
    with pytest.raises(GraphError) as caught:
        load_function(f"{script}:constant")
    assert caught.value.code == "G064"


def test_a_module_that_fails_is_not_said_to_be_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wants_another.py").write_text("import not_installed_anywhere\n")
    (tmp_path / "divides.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("wants_another", "divides"):
        with pytest.raises(GraphError) as caught:
            load(f"{name}:f")
        assert caught.value.code == "G063"


def test_a_file_that_exits_does_exit(tmp_path: Path) -> None:
    path = tmp_path / "exits.py"
    path.write_text("raise SystemExit(3)\n")
    with pytest.raises(SystemExit):
        load(f"{path}:f")
    assert file_module(path.resolve()) not in sys.modules


@pytest.mark.parametrize("body", ["import no_such_thing_at_all\n", "1 / 0\n", "def f(:\n"])
def test_a_file_that_fails_is_the_users_error_and_can_be_tried_again(
    tmp_path: Path, body: str
) -> None:
    path = tmp_path / "broken.py"
    path.write_text(body)
    for _ in range(2):
        with pytest.raises(GraphError) as caught:
            load(f"{path}:f")
        assert caught.value.code == "G063"
        assert isinstance(
            caught.value.__cause__, (ModuleNotFoundError, ZeroDivisionError, SyntaxError)
        )
    path.write_text("def f() -> int:\n    return 1\n")
    sys.path_importer_cache.clear()
    assert load_function(f"{path}:f")() == 1
