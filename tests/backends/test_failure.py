"""A Failure says what the user needs of an exception, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from onready.engine.errors import GraphError, NoCodec, ValueMismatch
from onready.engine.failure import failure_from
from onready.engine.worker.calling import run_function


def caught(function: Callable[[], object]) -> BaseException:
    try:
        function()
    except BaseException as error:  # noqa: BLE001 - that is the point
        return error
    pytest.fail("it did not raise")


def by_division() -> float:
    return 1 / 0


async def later() -> float:
    return by_division()


def test_frames_are_the_users_own() -> None:
    failure = failure_from(caught(lambda: run_function(later, {})), node="a[1]", attempt=2)
    assert [frame.function for frame in failure.frames] == [
        "caught",
        "<lambda>",
        "later",
        "by_division",
    ]
    assert failure.frames[-1].code == "return 1 / 0"
    assert failure.frames[-1].file == __file__
    assert (failure.kind, failure.type, failure.node, failure.attempt) == (
        "error",
        "ZeroDivisionError",
        "a[1]",
        2,
    )
    assert failure.bases[:2] == ("builtins.ZeroDivisionError", "builtins.ArithmeticError")
    assert failure.bases[-1] == "builtins.BaseException"


def test_a_librarys_frames_are_left_out() -> None:
    failure = failure_from(caught(lambda: json.loads("{")))
    assert {frame.file for frame in failure.frames} == {__file__}


def test_frames_of_deep_recursion_are_cut_in_the_middle() -> None:
    def down(depth: int) -> int:
        return down(depth - 1) if depth else int("x")

    failure = failure_from(caught(lambda: down(200)))
    assert len(failure.frames) == 30
    assert failure.frames[0].function == "caught"
    assert failure.frames[-1].function == "down"


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (NoCodec("no form"), "config", "no form"),
        (GraphError("G062", "not there"), "config", "G062"),
        (MemoryError(), "oom", ""),
        (ValueMismatch("too short", "$.a[3]"), "error", "$.a[3]: too short"),
        (SystemExit(3), "error", "sys.exit(3)"),
        (SystemExit(), "error", "sys.exit(0)"),
        (SystemExit("bye"), "error", "saying: bye"),
        (KeyboardInterrupt(), "error", "KeyboardInterrupt"),
        (
            ExceptionGroup("two", [ValueError("a"), ExceptionGroup("in", [KeyError("b")])]),
            "error",
            "ValueError: a; KeyError: 'b'",
        ),
        (ExceptionGroup("many", [ValueError(str(n)) for n in range(9)]), "error", "and 4 more"),
    ],
)
def test_kinds_and_messages(error: BaseException, kind: str, words: str) -> None:
    failure = failure_from(error)
    assert failure.kind == kind
    assert words in failure.message


def test_a_kind_that_is_given_wins() -> None:
    assert failure_from(ValueError(), kind="timeout", log=("x",)).kind == "timeout"


def test_notes_are_kept_and_long_messages_cut() -> None:
    error = ValueError("x" * 100_000)
    error.add_note("look here")
    message = failure_from(error).message
    assert len(message) < 10_000
    assert "characters left out" in message
    assert message.endswith("look here")


def test_an_exception_whose_text_fails_does_no_harm() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    failure = failure_from(Broken())
    assert "RuntimeError" in failure.message
    assert failure.type.endswith("Broken")
