"""The batch service as a real process beside the tests."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest

TOKEN = "made-up-token-7f3a"


@contextmanager
def batch_service(*flags: str) -> Generator[str]:
    """A service of one's own; yields its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "company_batch.service", *flags],
        stdout=subprocess.PIPE,
        env=os.environ | {"COMPANY_BATCH_TOKEN": TOKEN},
    )
    assert process.stdout is not None
    try:
        yield process.stdout.readline().decode().strip()
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


@pytest.fixture(scope="session")
def service() -> Iterator[str]:
    """A service that does what it is asked."""
    with batch_service() as url:
        yield url


@pytest.fixture(scope="session")
def flaky_service() -> Iterator[str]:
    """A service that says no now and then, also after it has done what it was asked."""
    with batch_service("--flaky") as url:
        yield url


@pytest.fixture(scope="module", params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    """The plug-in works on both event loops."""
    return str(request.param)
