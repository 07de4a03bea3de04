"""Events survive the way to bytes and to JSON, and what is malformed is refused."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onready.engine.errors import Failure, NoCodec
from onready.engine.events import EVENT_VERSION, AnyEvent, NodeFailed, NodeSucceeded, RunStarted
from onready.engine.names import NodeKey
from onready.engine.testing.samples import FAILURE, KEY, every_event, started, steps, values
from onready.engine.values.stored import Compound, Live, Stored
from onready.engine.wire import (
    decode_events,
    encode_events,
    from_json,
    to_json,
    value_to_json,
)
from tests.strategies import durables

T = TypeVar("T")
EVENTS = every_event()
GOLDEN = Path(__file__).parent / "golden"
IDS = [type(event).__name__ for event in EVENTS]


def through_json(event: AnyEvent) -> AnyEvent:
    text = json.dumps(to_json("r1", event), allow_nan=False)
    run, back = from_json(cast("dict[str, object]", json.loads(text)))
    assert run == "r1"
    return back


# --- bytes ---


def test_bytes_keep_every_event() -> None:
    back = decode_events(encode_events(EVENTS))
    assert back == EVENTS
    assert [type(event) for event in back] == [type(event) for event in EVENTS]


@pytest.mark.parametrize("event", [*steps(1, 2), started()])
def test_a_batch_may_be_one_event_or_none(event: AnyEvent) -> None:
    assert decode_events(encode_events([event])) == [event]
    assert decode_events(encode_events([])) == []


def nested(depth: int) -> Compound:
    value = Compound("list", ())
    for _ in range(depth):
        value = Compound("list", (value,))
    return value


@pytest.mark.parametrize(
    "value",
    [
        nested(100_000),
        Live(1),
        Compound("list", (1, Live(1))),
        2**64,
        -(2**63) - 1,
        "\ud800",
    ],
)
def test_what_has_no_durable_form_is_refused_by_its_node(value: Stored) -> None:
    events: list[AnyEvent] = [*steps(1, 5), NodeSucceeded(6, 1.0, KEY, 1, value), *steps(7, 8)]
    with pytest.raises(NoCodec) as caught:
        encode_events(events)
    text = str(caught.value)
    assert str(KEY) in text
    assert "onready.codecs" in text
    assert "pickle" in text


def test_a_live_input_is_refused_as_an_input() -> None:
    event = RunStarted(1, 1.0, "g", "n", "", {"x": Live(1)})
    with pytest.raises(NoCodec, match="inputs"):
        encode_events([event])


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", b"\x01", b"\x91\x01", b"\x91\x92\xa1x\x01", encode_events(EVENTS)[:-1]]
)
def test_bytes_that_are_no_batch_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        decode_events(data)


def test_bytes_of_a_newer_release_are_refused() -> None:
    event = started()
    event.version = EVENT_VERSION + 1
    with pytest.raises(ValueError, match="upgrade onready"):
        decode_events(encode_events([event]))


# --- JSON ---


@pytest.mark.parametrize("event", EVENTS, ids=IDS)
def test_json_keeps_every_event(event: AnyEvent) -> None:
    assert through_json(event) == event


def test_json_says_what_people_look_for() -> None:
    event = NodeFailed(7, 1_700_000_000.25, KEY, 2, FAILURE)
    data = to_json("r1", event)
    assert list(data)[:5] == ["run", "seq", "at", "type", "v"]
    assert data["at"] == "2023-11-14T22:13:20.250000Z"
    assert (data["run"], data["seq"], data["type"], data["v"]) == ("r1", 7, "node.failed", 1)
    assert (data["node"], data["attempt"]) == ("train/fold[3]/gate?high/fit", 2)
    failure = cast("dict[str, object]", data["failure"])
    assert failure["type"] == "ValueError"
    assert failure["frames"] == [
        {"file": "pipeline.py", "line": 13, "function": "train", "code": "raise ValueError(...)"}
    ]


def test_json_shows_values() -> None:
    shown = {name: value_to_json(value) for name, value in values().items()}
    assert (shown["none"], shown["yes"], shown["float"], shown["text"]) == (
        None,
        True,
        0.1,
        "l\u00e9tzte \U0001f600\0\n",
    )
    assert shown["json"] == {
        "codec": "json",
        "size": 25,
        "meta": "",
        "value": {"a": [1, 2.5, None, "\u00e9"]},
    }
    assert cast("dict[str, object]", shown["loose"])["value"] == {"a": 1.0}
    assert "value" not in cast("dict[str, object]", shown["broken"])
    assert cast("dict[str, object]", shown["blob"])["digest"] == "5e" * 32
    assert value_to_json(Live(FAILURE)) == {"live": "onready.engine.errors.Failure"}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_json_keeps_floats_that_json_lacks(value: float) -> None:
    back = through_json(NodeSucceeded(1, 1.0, KEY, 1, value))
    assert isinstance(back, NodeSucceeded)
    assert repr(back.value) == repr(value)


@given(durables)
def test_json_keeps_any_value(value: Stored) -> None:
    event = NodeSucceeded(1, 1.0, NodeKey("a"), 1, value)
    assert repr(through_json(event)) == repr(event)


@given(st.floats(0, 4e9))
def test_json_keeps_times_to_the_microsecond(at: float) -> None:
    event = NodeSucceeded(1, at, KEY, 1)
    back = through_json(event)
    assert abs(back.at - at) <= 1e-6
    assert to_json("r1", back) == to_json("r1", event)


@given(
    st.builds(Failure, st.just("error"), st.text(), st.text(), log=st.lists(st.text()).map(tuple))
)
def test_json_keeps_any_failure(failure: Failure) -> None:
    event = NodeFailed(1, 1.0, KEY, 1, failure)
    assert through_json(event) == event


def _without(name: str) -> Callable[[dict[str, object]], object]:
    return lambda data: data.pop(name)


def _with(name: str, value: object) -> Callable[[dict[str, object]], object]:
    return lambda data: data.update({name: value})


@pytest.mark.parametrize(
    "change",
    [
        _without("run"),
        _without("seq"),
        _without("at"),
        _without("type"),
        _without("v"),
        _without("node"),
        _without("failure"),
        _with("seq", "1"),
        _with("seq", True),
        _with("at", 5),
        _with("at", "yesterday"),
        _with("at", "2023-11-14T22:13:20"),
        _with("type", "node.exploded"),
        _with("v", 0),
        _with("v", EVENT_VERSION + 1),
        _with("v", "1"),
        _with("node", "a//b"),
        _with("node", None),
        _with("run", 5),
        _with("failure", "boom"),
        _with("failure", {"kind": "error"}),
        _with("failure", {"kind": "error", "message": "m", "frames": 5}),
        _with("failure", {"kind": "error", "message": "m", "frames": [5]}),
        _with("failure", {"kind": "boom", "message": "m"}),
        _with("failure", {"kind": "error", "message": "m", "frames": [{"file": "f"}]}),
    ],
)
def test_json_that_is_no_event_is_refused(change: Callable[[dict[str, object]], object]) -> None:
    data = to_json("r1", NodeFailed(7, 1.5, KEY, 2, FAILURE))
    change(data)
    with pytest.raises(ValueError, match=r"."):
        from_json(data)


@pytest.mark.parametrize(
    "value",
    [
        {"live": "x.Y"},
        {"a": 1},
        [1],
        {"codec": "json"},
        {"codec": 5, "size": 1, "data": ""},
        {"codec": "bytes", "size": 1, "data": "?"},
        {"kind": "set", "items": [], "keys": []},
        {"kind": "list", "items": 5, "keys": []},
        {"float": "many"},
    ],
)
def test_json_that_is_no_value_is_refused(value: object) -> None:
    data = to_json("r1", NodeSucceeded(1, 1.0, KEY, 1))
    data["value"] = value
    with pytest.raises(ValueError, match=r"."):
        from_json(data)


def test_json_of_inputs_that_are_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"."):
        from_json(to_json("r1", started()) | {"inputs": 5})


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.data())
def test_any_json_is_read_or_refused_with_one_class_of_error(data: st.DataObject) -> None:
    """Whatever stands where, nobody sees a TypeError or an AttributeError."""
    event = data.draw(st.sampled_from(EVENTS))
    form = cast("dict[str, object]", json.loads(json.dumps(to_json("r1", event))))
    place = form
    name = data.draw(st.sampled_from(sorted(place)))
    while isinstance(place[name], dict) and place[name] and data.draw(st.booleans()):
        place = cast("dict[str, object]", place[name])
        name = data.draw(st.sampled_from(sorted(place)))
    place[name] = data.draw(json_values)
    with contextlib.suppress(ValueError):
        run, back = from_json(form)
        to_json(run, back)


def test_json_of_a_later_release_with_more_fields_is_read() -> None:
    event = NodeFailed(7, 1.5, KEY, 2, FAILURE)
    data = to_json("r1", event)
    data["colour"] = "red"
    cast("dict[str, object]", data["failure"])["colour"] = "red"
    assert from_json(data) == ("r1", event)


def test_json_of_an_earlier_release_with_fewer_fields_is_read() -> None:
    event = started()
    data = to_json("r1", event)
    for name in ("on_error", "target", "epoch", "version"):
        del data[name]
    run, back = from_json(data)
    assert isinstance(back, RunStarted)
    assert (run, back.on_error, back.target, back.epoch) == ("r1", "stop", "", 1)


def test_what_the_first_release_wrote_is_read_for_ever() -> None:
    events = decode_events((GOLDEN / "events-1.msgpack").read_bytes())
    lines = (GOLDEN / "events-1.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(events) == 38
    for line, event in zip(lines, events, strict=True):
        golden = cast("dict[str, object]", json.loads(line))
        shown = to_json("r1", event)
        assert {name: shown[name] for name in golden} == golden
        assert to_json(*from_json(golden)) == shown
