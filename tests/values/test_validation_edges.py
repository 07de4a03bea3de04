"""Validation where pydantic's second look, at the value as JSON, has nothing to say."""

from __future__ import annotations

import pytest

from onready.engine.errors import ValueMismatch
from onready.engine.values import ValueType


def test_a_text_that_no_json_can_hold_gives_the_strict_error() -> None:
    with pytest.raises(ValueMismatch, match=r"expected int, got str") as caught:
        ValueType.of(list[int]).encode([1, "\ud800"])
    assert "[1]" in caught.value.path
