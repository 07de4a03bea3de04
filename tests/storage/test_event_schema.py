"""The published JSON schema is the one of the code, and fits what the code writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
from jsonschema import Draft202012Validator, ValidationError

from onready.engine.event_schema import event_schema
from onready.engine.events import AnyEvent, NodeFailed, NodeSucceeded
from onready.engine.testing.samples import FAILURE, KEY, every_event
from onready.engine.values.stored import Live
from onready.engine.wire import Json, to_json

PUBLISHED = Path(__file__).parents[2] / "docs" / "events.schema.json"
validator = Draft202012Validator(event_schema())


def test_the_published_schema_is_up_to_date() -> None:
    command = [sys.executable, "-m", "onready.engine.event_schema"]
    printed = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    assert PUBLISHED.read_text(encoding="utf-8") == printed, (
        "write it anew: python -m onready.engine.event_schema > docs/events.schema.json"
    )


def test_the_schema_is_a_schema() -> None:
    Draft202012Validator.check_schema(event_schema())


@pytest.mark.parametrize("event", every_event(), ids=lambda event: type(event).__name__)
def test_what_is_written_fits(event: AnyEvent) -> None:
    validator.validate(json.loads(json.dumps(to_json("r1", event))))


def test_a_live_value_fits() -> None:
    validator.validate(to_json("r1", NodeSucceeded(1, 1.0, KEY, 1, Live(object()))))


@pytest.mark.parametrize(
    "change",
    [
        {"seq": 0},
        {"seq": "1"},
        {"v": 2},
        {"type": "node.exploded"},
        {"node": None},
        {"failure": {"kind": "boom", "message": ""}},
        {"failure": {"kind": "error"}},
        {"attempt": 1.5},
    ],
)
def test_what_is_malformed_does_not_fit(change: Json) -> None:
    data = to_json("r1", NodeFailed(7, 1.5, KEY, 2, FAILURE))
    validator.validate(data)
    with pytest.raises(ValidationError):
        validator.validate(data | change)


def test_every_event_has_its_description() -> None:
    definitions = cast("dict[str, Json]", event_schema()["$defs"])
    for event in every_event():
        tag = str(to_json("r1", event)["type"])
        assert definitions[tag]["description"]
