"""Tests on a real Docker engine: `ONREADY_DOCKER` names one with our images, else one is started.
Those that ask for `fake` are on the fake daemon of `fake/`, which needs no Docker.

Without any, the tests of this folder that need it are skipped, in one loud line; with
`ONREADY_REQUIRE=docker` they fail.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.docker import daemons, engines


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Asyncio alone: aiohttp, which aiodocker stands on, knows no other loop."""
    return "asyncio"


@pytest.fixture(scope="session")
def engine() -> Iterator[str]:
    """The address of a real engine with the test images."""
    with engines.shared() as host:
        yield host


@pytest.fixture(scope="session")
def fake() -> Iterator[str]:
    """The address of a fake engine with the test images."""
    daemons.skip_without()
    with daemons.fake() as host:
        yield host
