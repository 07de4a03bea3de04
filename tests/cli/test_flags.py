"""Flags from a graph's parameters, and parameter files."""

from __future__ import annotations

import json
from enum import Enum
from pathlib import Path
from typing import Annotated, Literal

import pytest
from cyclopts import CycloptsError

from onready.cli.exits import Usage
from onready.cli.flags import Flag, check_complete, inputs_of, parse_flags, read_params


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@pytest.mark.parametrize(
    ("annotation", "words", "value"),
    [
        (str, ["--x", "7"], "7"),
        (str, ["--x=-a"], "-a"),
        (int, ["--x", "7"], 7),
        (int, ["--x", "-7"], -7),
        (float, ["--x", "1e3"], 1000.0),
        (bool, ["--x"], True),
        (bool, ["--no-x"], False),
        (Path, ["--x", "a/b"], Path("a/b")),
        (Colour, ["--x", "red"], Colour.RED),
        (Literal["a", "b"], ["--x", "b"], "b"),
        (int | None, ["--x", "3"], 3),
        (list[float], ["--x", "1", "2.5"], [1.0, 2.5]),
        (list[float], ["--x", "1", "--x", "2"], [1.0, 2.0]),
        (list[str], ["--x", "a", "b"], ["a", "b"]),
        (dict[str, int], ["--x", '{"a": 1}'], {"a": 1}),
        (list[list[int]], ["--x", "[[1], []]"], [[1], []]),
        (tuple[int, str], ["--x", '[1, "a"]'], [1, "a"]),
        (int | str, ["--x", '"a"'], "a"),
        (Annotated[int, "how many"], ["--x", "4"], 4),
    ],
)
def test_types(annotation: object, words: list[str], value: object) -> None:
    assert parse_flags([Flag("x", annotation)], words, "g") == {"x": value}


def test_without_annotation_json_or_text() -> None:
    flags = [Flag("x"), Flag("two_words")]
    assert parse_flags(flags, ["--x", "3", "--two-words", "abc"], "g") == {
        "x": 3,
        "two_words": "abc",
    }


@pytest.mark.parametrize(
    ("annotation", "words", "said"),
    [
        (int, ["--x", "abc"], "abc"),
        (Literal["a", "b"], ["--x", "c"], "Choose from"),
        (dict[str, int], ["--x", "{a}"], "not JSON"),
        (int, ["--y", "1"], "--y"),
    ],
)
def test_wrong_words(annotation: object, words: list[str], said: str) -> None:
    with pytest.raises(CycloptsError) as caught:
        parse_flags([Flag("x", annotation)], words, "g")
    caught.value.verbose = False
    assert said in str(caught.value)


def test_a_close_flag_is_suggested() -> None:
    with pytest.raises(CycloptsError) as caught:
        parse_flags([Flag("learning_rate", float)], ["--learning-rat", "1"], "g")
    caught.value.verbose = False
    assert "--learning-rate" in str(caught.value)


def test_a_word_without_flag() -> None:
    with pytest.raises(Usage, match="'abc' belongs to no flag; g takes --x"):
        parse_flags([Flag("x", int)], ["abc"], "g")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("p.json", json.dumps({"x": 1, "y": [1]})),
        ("p.yaml", "x: 1\ny: [1]\n"),
        ("p.yml", "x: 1\ny: [1]\n"),
        ("p.toml", "x = 1\ny = [1]\n"),
    ],
)
def test_files(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    assert read_params(file) == {"x": 1, "y": [1]}
    flags = [Flag("x", int), Flag("y", list[int])]
    assert inputs_of(flags, ["--x", "2"], file, "g") == {"x": 2, "y": [1]}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("p.json", "{", "p.json"),
        ("p.yaml", "a: [", "p.yaml"),
        ("p.toml", "=", "p.toml"),
        ("p.txt", "", "must end with .json"),
        ("p.json", "[1]", "parameters by name are wanted, not a list"),
        ("p.json", '{"xs": 1}', "g has no parameter 'xs'; did you mean 'x'?"),
    ],
)
def test_wrong_files(tmp_path: Path, name: str, text: str, said: str) -> None:
    file = tmp_path / name
    file.write_text(text)
    with pytest.raises(Usage) as caught:
        inputs_of([Flag("x", int)], [], file, "g")
    assert said in caught.value.text


def test_a_missing_file() -> None:
    with pytest.raises(Usage, match="No such file"):
        read_params(Path("/nowhere/p.json"))


def test_missing_parameters_say_what_to_write() -> None:
    flags = [Flag("url", str), Flag("n", int, 3), Flag("data", list[int]), Flag("any")]
    check_complete(flags, {"url": "a", "data": [], "any": 1}, "g")
    with pytest.raises(Usage) as caught:
        check_complete(flags, {}, "g")
    assert "g needs --url STR --data JSON --any VALUE" in caught.value.text
