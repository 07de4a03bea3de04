"""The plug-in: settings, and what to ask the batch service for. The rest is `PollingBackend`."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Literal

import httpx
import msgspec
from pydantic import Field, HttpUrl, SecretStr

from onready.backends.polling import Job, Pace, PollingBackend, envelope, labels
from onready.engine.errors import BackendError
from onready.engine.plugin import PluginConfig
from onready.engine.spi import Attempt, Capabilities, Labels


class CompanyBatchConfig(PluginConfig):
    """Where the service is and how to use it: `[backends.NAME]` with `type = "company-batch"`."""

    url: HttpUrl = Field(description="address of the batch service")
    token: SecretStr = Field(min_length=1, description="access token; write '{{VARIABLE}}'")
    queue: Literal["short", "long"] = Field("short", description="the queue that jobs go to")
    python: str = Field("python3", description="a Python on the batch machines that has onready")
    poll: float = Field(1.0, ge=0.05, le=60, description="seconds between polls, at the least")

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[CompanyBatch]:
        """The backend, with its connections; they are closed on the way out."""
        access = {"Authorization": f"Bearer {self.token.get_secret_value()}"}
        async with httpx.AsyncClient(base_url=str(self.url), headers=access) as client:
            yield CompanyBatch(self, client)


class CompanyBatch(PollingBackend):
    """Runs attempts as jobs of the batch service, whose machines share our file system."""

    capabilities = Capabilities(adopt=True, logs=True, concurrency=200)
    transient = (httpx.TransportError,)

    def __init__(self, config: CompanyBatchConfig, client: httpx.AsyncClient) -> None:
        super().__init__(Pace(shortest=config.poll))
        self._config = config
        self._client = client

    async def submit(self, attempt: Attempt) -> str:
        """A job that runs `execute-single-node` on the attempt's envelope."""
        mine = msgspec.to_builtins(labels(attempt))
        job = {
            "name": attempt.name,
            "queue": self._config.queue,
            "labels": mine,
            "argv": [self._config.python, "-m", "onready.engine.worker", "envelope.json"],
            "files": {"envelope.json": envelope(attempt, "host").decode()},
        }
        reply = await self._ask("POST", "/jobs", json=job)
        found = reply.json()  # The new job, or (409) the one that has this name.
        if found["labels"] != mine:
            message = f"the batch service has another job named {attempt.name}: {found['labels']}"
            raise BackendError(message)
        return str(found["id"])

    async def poll(self, handles: Sequence[str]) -> Mapping[str, Job]:
        """One request for all of them."""
        reply = await self._ask("POST", "/jobs/states", json={"ids": handles})
        return {handle: msgspec.convert(job, Job) for handle, job in reply.json().items()}

    async def cancel(self, handles: Sequence[str], grace: float) -> None:
        """The service sends TERM, waits, and sends KILL, to the whole process group."""
        await self._ask("POST", "/jobs/cancel", json={"ids": handles, "grace": grace})

    async def find(self, name: str) -> str | None:
        """The job of that name: after a crash of ours, it goes on without us."""
        found = (await self._ask("GET", "/jobs", params={"name": name})).json()
        return str(found[0]["id"]) if found else None

    async def logs(self, handle: str) -> AsyncIterator[tuple[Literal["stdout", "stderr"], bytes]]:
        """All of both streams."""
        yield "stdout", (await self._ask("GET", f"/jobs/{handle}/stdout")).content
        yield "stderr", (await self._ask("GET", f"/jobs/{handle}/stderr")).content

    async def leftovers(self) -> Mapping[str, Labels]:
        """Jobs that carry our labels; other people's have none, or others."""
        jobs = (await self._ask("GET", "/jobs")).json()
        ours = (job for job in jobs if set(job["labels"]) == set(Labels.__struct_fields__))
        return {job["id"]: msgspec.convert(job["labels"], Labels) for job in ours}

    async def remove(self, handles: Sequence[str]) -> None:
        """The service keeps ended jobs until told."""
        await self._ask("POST", "/jobs/remove", json={"ids": handles})

    async def _ask(self, method: str, path: str, **content: object) -> httpx.Response:
        reply = await self._client.request(method, path, **content)  # type: ignore[arg-type]
        if reply.is_error and reply.status_code != 409:
            message = f"batch service: {method} {path}: {reply.status_code} {reply.text[:200]}"
            raise BackendError(message, retryable=reply.status_code in {429, 500, 502, 503, 504})
        return reply
