"""Durations, times, counts, tables, colours."""

from __future__ import annotations

import io

import pytest

from onready.cli import words
from onready.cli.console import Console, wants_colour


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1.0, "<1 ms"),
        (0.0004, "<1 ms"),
        (0.0421, "42 ms"),
        (0.0996, "0.1 s"),
        (1.04, "1.0 s"),
        (9.97, "10 s"),
        (59.4, "59 s"),
        (59.6, "1 min"),
        (125, "2 min 5 s"),
        (3599.8, "1 h"),
        (3780, "1 h 3 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert words.took(seconds) == text


@pytest.mark.parametrize(
    ("age", "text"),
    [(3, "just now"), (42, "42 s ago"), (300, "5 min ago"), (7200, "2 h ago")],
)
def test_ages(age: float, text: str) -> None:
    assert words.when(1_000_000 - age, 1_000_000) == text


def test_old_moments_are_dates() -> None:
    assert words.when(1_000_000, 2_000_000) == words.clock(1_000_000)[:16]


def test_counts_and_lists() -> None:
    assert words.counted(1, "node") == "1 node"
    assert words.counted(12000, "node") == "12,000 nodes"
    assert words.some(["a", "b"]) == "a, b"
    assert words.some(list("abcdefgh"), 3) == "a, b, c and 5 more"
    assert words.cut("a  b\nc", 10) == "a b c"
    assert words.cut("abcdefghij", 8) == "abcde..."


def test_columns_are_aligned_and_end_with_words() -> None:
    assert words.columns([("a", "bb", ""), ("ccc", "d", "e")]) == ["a    bb", "ccc  d   e"]
    assert words.columns([]) == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_colours_are_for_terminals(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert wants_colour(Terminal())
    assert not wants_colour(io.StringIO())
    monkeypatch.setenv("TERM", "dumb")
    assert not wants_colour(Terminal())
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert wants_colour(io.StringIO())
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(Terminal())
    assert words.paint("a", "red", colour=True) == "\x1b[31ma\x1b[0m"
    assert words.paint("a", "red", colour=False) == "a"


def test_quiet_says_nothing_but_complains(capsys: pytest.CaptureFixture[str]) -> None:
    console = Console(quiet=True)
    console.say("progress")
    console.complain("failure")
    console.out("result")
    said = capsys.readouterr()
    assert said.out == "result\n"
    assert said.err == "failure\n"
