"""onready's own contract suite for backends, run on this plug-in."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import httpx
import pytest

from onready.engine.registry import BACKENDS, create
from onready.engine.spi import Backend
from onready.engine.testing.backend_suite import BackendSuite

TOKEN = "made-up-token-7f3a"


class TestCompanyBatch(BackendSuite):
    """Made from settings, through the entry point of the installed package."""

    url: str

    @pytest.fixture(autouse=True)
    def _service(self, service: str) -> None:
        self.url = service

    def open_backend(self, folder: Path) -> AbstractAsyncContextManager[Backend]:
        settings = {
            "type": "company-batch",
            "url": self.url,
            "token": "{{COMPANY_BATCH_TOKEN}}",
            "python": sys.executable,
            "poll": 0.05,
        }
        config = create(BACKENDS, settings, env={"COMPANY_BATCH_TOKEN": TOKEN})
        return config.open()  # type: ignore[return-value] # a Backend, not the bulk kind

    @asynccontextmanager
    async def foreign_job(self) -> AsyncGenerator[Callable[[], Awaitable[bool]]]:
        access = {"Authorization": f"Bearer {TOKEN}"}
        async with httpx.AsyncClient(base_url=self.url, headers=access) as client:
            job = {"name": "payroll", "labels": {"team": "hr"}, "argv": ["sleep", "60"]}
            mine = (await client.post("/jobs", json=job)).json()["id"]

            async def is_there() -> bool:
                states = await client.post("/jobs/states", json={"ids": [mine]})
                return bool(states.json()[mine]["phase"] in {"queued", "running"})

            try:
                yield is_there
            finally:
                await client.post("/jobs/cancel", json={"ids": [mine], "grace": 0})
                await client.post("/jobs/remove", json={"ids": [mine]})


class TestFlakyService(TestCompanyBatch):
    """The same on a service that answers 503 to some requests, before or after it did them."""

    @pytest.fixture(autouse=True)
    def _service(self, flaky_service: str) -> None:
        self.url = flaky_service

    def foreign_job(self) -> None:  # type: ignore[override]
        return None
