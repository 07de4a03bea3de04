"""The plug-in's settings: what is refused, and that the token is shown nowhere."""

from __future__ import annotations

import pytest

from onready.engine.errors import ConfigError
from onready.engine.registry import BACKENDS, create

GOOD = {"type": "company-batch", "url": "https://batch.example.com", "token": "{{BATCH_TOKEN}}"}
ENV = {"BATCH_TOKEN": "canary-7f3a"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"queue": "slow"}, "b.queue: got 'slow', should be 'short' or 'long'"),
        ({"quue": "long"}, "b.quue: no such setting; did you mean 'queue'?"),
        ({"poll": 0}, "b.poll: got 0, should be greater than or equal to 0.05"),
        ({"url": "batch"}, "b.url: got 'batch', should be a valid URL"),
        ({"token": "{{NOT_SET}}"}, "b.token: the environment variable NOT_SET is not set"),
    ],
)
def test_wrong_settings(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        create(BACKENDS, GOOD | settings, "b", ENV)
    assert message in str(caught.value)
    assert "canary" not in str(caught.value)


def test_the_token_is_not_shown() -> None:
    assert "canary" not in repr(create(BACKENDS, GOOD, "b", ENV))
