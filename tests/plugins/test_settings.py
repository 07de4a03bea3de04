"""Filling variables into settings, as the configuration file's reader uses it."""

from __future__ import annotations

import pytest

from onready.engine.errors import ConfigError
from onready.engine.registry import fill_variables


def test_texts_are_filled_wherever_they_are() -> None:
    value = {"a": ["{{X}}", 1, None, ("{{X}}{{Y}}",)], "{{X}}": True, "b": {"c": "p-{{ Y }}-s"}}
    filled = fill_variables(value, env={"X": "1", "Y": "{{X}}"})
    assert filled == {"a": ["1", 1, None, ["1{{X}}"]], "{{X}}": True, "b": {"c": "p-{{X}}-s"}}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"a": {"b": ["{{NOPE}}"]}}, "top.a.b[0]: the environment variable NOPE is not set"),
        ("{{HOSST}}", "top: the environment variable HOSST is not set; did you mean 'HOST'?"),
        ("{{}}", "top: '{{}}' does not name an environment variable"),
        ("{{1A}}", "top: '{{1A}}' does not name an environment variable"),
    ],
)
def test_what_cannot_be_filled_names_its_place(value: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        fill_variables(value, "top", {"HOST": "canary"})
    assert str(caught.value) == message


def test_without_a_place_the_message_begins_with_the_matter() -> None:
    with pytest.raises(ConfigError, match=r"^the environment variable NOPE is not set"):
        fill_variables("{{NOPE}}", env={})


def test_braces_that_are_no_variable_stay() -> None:
    assert fill_variables("{x} {{ {y} }}", env={}) == "{x} {{ {y} }}"
