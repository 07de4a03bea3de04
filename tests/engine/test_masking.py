"""Masks: no form of a secret is left in a text, however the text comes in pieces."""

from __future__ import annotations

import base64
import itertools
import json
import re
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onready.engine import masking
from onready.engine.errors import Failure, Frame
from onready.engine.failure import failure_from
from onready.engine.logs import LogStore
from onready.engine.masking import (
    MASKS,
    OutputMask,
    forms_of,
    mask_bytes,
    mask_event,
    mask_failure,
    mask_text,
)

CANARY = 'can/ary+"s3\u00efcret'


@pytest.fixture(autouse=True)
def no_masks_left() -> Generator[None]:
    MASKS.clear()
    yield
    MASKS.clear()


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def urlsafe(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode()


FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "base64": b64,
    "urlsafe": urlsafe,
    "url": lambda text: quote(text, safe=""),
    "path": quote,
    "form": quote_plus,
    "lower url": lambda text: re.sub("%..", lambda found: found[0].lower(), quote(text)),
    "json": json.dumps,
    "json text": lambda text: json.dumps(text, ensure_ascii=False),
    "json in json": lambda text: json.dumps(json.dumps({"token": text})),
    "repr": repr,
    "bytes": lambda text: repr(text.encode()),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("before", ["", "a", "ab", "abc", "user:"])
@pytest.mark.parametrize("after", ["", "z", "zz"])
def test_no_form_is_left(form: str, before: str, after: str) -> None:
    MASKS.register(CANARY)
    said = FORMS[form](before + CANARY + after)
    masked = mask_text(f"it said {said} and went on")
    assert "***" in masked
    assert masked.startswith("it said ")
    assert masked.endswith(" and went on")
    # Nothing of it can be read back: of base64 at most the characters shared with neighbours.
    left = masked.removeprefix("it said ").removesuffix(" and went on").replace("***", "")
    for part in (CANARY, CANARY[2:-2], said[6:-6]):
        assert part not in left


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=4, max_size=40),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
def test_any_secret_in_any_form(secret: str, around: str) -> None:
    MASKS.clear()
    MASKS.register(secret)
    for form in (str, json.dumps, repr, quote, quote_plus):
        shown = form(secret)
        core = shown[1:-1] if form in {json.dumps, repr} else shown
        assert core not in mask_text(f"{around}{core}{around}").replace("***", "\0" * 50)


@given(
    st.text("abc\u00ef", min_size=4, max_size=9),
    st.lists(st.text("abc\u00ef", max_size=6), max_size=12),
    st.lists(st.integers(0, 200), max_size=12),
)
def test_pieces_are_masked_as_the_whole_is(secret: str, words: list[str], cuts: list[int]) -> None:
    MASKS.clear()
    MASKS.register(secret)
    data = secret.join(words).encode() + b"."
    places = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    mask = OutputMask()
    pieces = [mask.feed(data[a:b]) for a, b in itertools.pairwise(places)]
    whole = b"".join([*pieces, mask.end()])
    assert secret.encode() not in whole
    # What overlaps may be one mask or two, depending on where the cuts are.
    assert _once(whole) == _once(mask_bytes(data))


def _once(data: bytes) -> bytes:
    while b"******" in data:
        data = data.replace(b"******", b"***")
    return data


def test_what_may_be_a_beginning_is_held_back_and_a_cut_off_secret_stays_hidden() -> None:
    MASKS.register("canary-secret")
    mask = OutputMask()
    assert mask.feed(b"it is a ca") == b"it is a "
    assert mask.feed(b"t, or a canary-sec") == b"cat, or a "
    assert mask.end() == b"***"
    assert mask.feed(b"not a can") == b"not a "
    assert mask.end() == b"can"


def test_a_secret_of_one_character_repeated_does_not_hold_pages_back() -> None:
    MASKS.register("----")
    mask = OutputMask()
    given = b"-" * 50_000
    shown = [mask.feed(given) for _ in range(4)]
    assert any(shown)
    assert b"-" not in b"".join([*shown, mask.end()])


def test_short_secrets_and_lines_of_long_ones() -> None:
    assert forms_of("abc") == set()
    MASKS.register("first line here\nsecond line here\nx\n")
    assert mask_text("> second line here\n> x") == "> ***\n> x"


def test_nothing_registered_nothing_touched() -> None:
    data, failure = b"canary", Failure("error", "canary")
    assert mask_bytes(data) is data
    assert mask_failure(failure) is failure
    assert OutputMask().feed(data) is data


def test_who_registers_a_secret_second_does_not_go_before_it_is_masked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, go = threading.Event(), threading.Event()
    told: list[bytes] = []

    def slow(value: str) -> set[bytes]:
        begun.set()
        assert go.wait(30)
        return forms_of(value)

    def second() -> None:
        MASKS.register("a secret of two")
        told.append(mask_bytes(b"a secret of two"))

    monkeypatch.setattr(masking, "forms_of", slow)
    threads = [threading.Thread(target=MASKS.register, args=("a secret of two",))]
    threads[0].start()
    assert begun.wait(30)
    threads.append(threading.Thread(target=second))
    threads[1].start()
    threads[1].join(0.2)  # it has all the time that it needs to be wrong
    go.set()
    for thread in threads:
        thread.join(30)
    assert told == [b"***"]


def test_failures_are_masked_everywhere() -> None:
    MASKS.register("canary-secret")
    frame = Frame("x.py", 1, "f", "login('canary-secret')")
    masked = mask_failure(
        Failure(
            "error",
            "a canary-secret",
            frames=(frame,),
            reason="canary-secret",
            log=("canary-secret!",),
        )
    )
    assert (masked.message, masked.reason, masked.log) == ("a ***", "***", ("***!",))
    assert masked.frames[0].code == "login('***')"
    error = ValueError("x" * 4000 + "canary-secret" + "y" * 6000)  # cut in its middle otherwise
    error.add_note("note canary-secret")
    shown = failure_from(error).message
    assert "canary" not in shown
    assert "secret" not in shown


def test_the_structlog_processor() -> None:
    MASKS.register("canary-secret")
    assert mask_event(None, "info", "say canary-secret") == "say ***"
    assert mask_event(None, "info", b"say canary-secret") == b"say ***"
    assert mask_event(None, "info", {"event": "canary-secret", "n": 1}) == {"event": "***", "n": 1}


def test_the_log_store_masks_over_pieces_and_in_its_tail(tmp_path: Path) -> None:
    MASKS.register("canary-secret")
    store = LogStore(tmp_path)
    writer = store.writer("run", "attempt")
    for piece in (b"one can", b"ary-sec", b"ret two\n", b"and a ca"):
        writer.write("stdout", piece)
    writer.write("stderr", b"canary-secret")
    assert writer.tail(2) == ("one *** two", "and a ***ca")
    writer.close()
    kept = [(frame.stream, frame.data) for frame in store.read("run", "attempt")]
    out = b"".join(data for stream, data in kept if stream == "stdout")
    err = b"".join(data for stream, data in kept if stream == "stderr")
    assert (out, err) == (b"one *** two\nand a ca", b"***")
    assert writer.sizes == {"stdout": 30, "stderr": 13}
