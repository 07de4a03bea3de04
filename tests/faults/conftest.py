"""What the faults of containers share: the session's Docker engine, the same as that of tests/docker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.docker import engines


@pytest.fixture(scope="session")
def engine() -> Iterator[str]:
    """The address of a real engine with the test images."""
    with engines.shared() as host:
        yield host
