"""The `process` backend: warm worker processes, kept across runs.

A worker loads each function once and does one job after the other; a job costs one message each
way. Values go as their stored bytes: the driver decodes none. A function that changes on disk is
loaded anew only by a new worker, so a long-lived engine goes on with what it has loaded.

Rule of this room: which worker does what, and what its death means.
"""

from __future__ import annotations

import shutil
import signal
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import anyio
import anyio.lowlevel
import msgspec
from pydantic import Field

from onready.backends.local.host import Host, open_host
from onready.backends.local.machine import cpu_count
from onready.backends.local.running import Ending, bad_end, warn_unkillable
from onready.backends.local.worker import Died, Worker
from onready.backends.relay import durable, secret_settings
from onready.backends.results import TAIL
from onready.backends.threads import thread_limits
from onready.engine.crashpoints import crash_point
from onready.engine.errors import BackendError, StoreError
from onready.engine.plugin import PluginConfig
from onready.engine.spi import (
    Attempt,
    Call,
    Capabilities,
    Catalog,
    Failed,
    Labels,
    Lost,
    Outcome,
    Reporter,
    Succeeded,
)
from onready.engine.values import bring, needs_bringing, needs_settling, settle
from onready.engine.values.stored import Durable
from onready.engine.worker.frames import Done, Job, frame

T = TypeVar("T")


class ProcessBackend:
    """A `Backend` of at most `limit` worker processes (default: the number of processors)."""

    def __init__(self, host: Host, limit: int | None = None) -> None:
        self._limit = limit if limit is not None else cpu_count()
        self.capabilities: Capabilities = Capabilities(logs=True, concurrency=self._limit)
        self._host = host
        self._idle: list[Worker] = []
        self._alive = 0
        self._queue: deque[anyio.Event] = deque()
        self._address: tuple[Catalog | None, str] = (None, "")
        self._threads = thread_limits(cpu_count(), self._limit)

    async def execute(self, attempt: Attempt, report: Reporter) -> Outcome:
        """See `Backend`."""
        work = attempt.work
        if not isinstance(work, Call):
            message = "worker processes run Python functions; use the backend 'subprocess'"
            raise BackendError(message)
        address = self._reach(attempt.catalog)
        inputs = {name: durable(name, stored) for name, stored in attempt.inputs.items()}
        if not address and any(map(needs_bringing, inputs.values())):
            return await self._with_folder(attempt, work, inputs, report)
        done = await self._do(frame(_job(attempt, work, address, inputs)), attempt, report)
        try:
            return await _outcome(done, attempt, report)
        finally:
            if not isinstance(done, Done) or done.folder:
                await _remove(attempt)

    async def _with_folder(
        self, attempt: Attempt, work: Call, inputs: Mapping[str, Durable], report: Reporter
    ) -> Outcome:
        """As `execute`, where the inputs' blobs have to be brought for the worker."""
        try:
            brought = {
                name: durable(name, await bring(stored, attempt.catalog, attempt.folder))
                for name, stored in inputs.items()
            }
            done = await self._do(frame(_job(attempt, work, "", brought)), attempt, report)
            return await _outcome(done, attempt, report)
        finally:
            await _remove(attempt)

    def _reach(self, catalog: Catalog) -> str:
        """The catalog's address for workers; "" where it has none, and we move all blobs."""
        known, address = self._address
        if known is not catalog:
            try:
                address = catalog.access("host").url
            except StoreError:
                address = ""
            self._address = (catalog, address)
        return address

    async def _do(self, job: bytearray, attempt: Attempt, report: Reporter) -> Done | Failed | Lost:
        worker = await self._take()
        crash_point("handle.before")
        report.started(f"pid {worker.child.pid}")
        crash_point("handle.after")
        try:
            done = await worker.do(job, report)
        except Died:
            code = await self._without(worker.bury())
            starved = code == -signal.SIGKILL and await self._host.memory_ran_out()
            return bad_end(attempt, "the worker process", Ending(code, starved), report)
        except BaseException:
            with anyio.CancelScope(shield=True):  # bounded by `stop`
                if not await self._without(worker.stop(attempt.grace)):
                    warn_unkillable(worker.child.pid, report)
            await _remove(attempt)
            raise
        self._idle.append(worker)
        self._next()
        return done

    # --- the pool -----------------------------------------------------------------------------

    async def _take(self) -> Worker:
        await anyio.lowlevel.checkpoint_if_cancelled()
        while True:
            while self._idle:
                worker = self._idle.pop()
                if not worker.child.has_ended():
                    return worker
                await self._without(worker.bury())
            if self._alive < self._limit:
                return await self._start()
            turn = anyio.Event()
            self._queue.append(turn)
            try:
                await turn.wait()
            except BaseException:
                if turn.is_set():
                    self._next()  # it was ours and we do not use it
                else:
                    self._queue.remove(turn)
                raise

    async def _start(self) -> Worker:
        self._alive += 1
        try:
            await self._host.turn()
            return Worker(self._host, self._host.environment.with_(self._threads))
        except BaseException as error:
            self._alive -= 1
            self._next()
            if isinstance(error, OSError):
                message = f"a worker process cannot be started: {error}"
                raise BackendError(message, retryable=True) from error
            raise
        finally:
            self._host.started()

    async def _without(self, end: Awaitable[T]) -> T:
        """See a worker's end through; its place is free then."""
        try:
            return await end
        finally:
            self._alive -= 1
            self._next()

    def _next(self) -> None:
        if self._queue:
            self._queue.popleft().set()

    # --- the rest of the contract ----------------------------------------------------------------

    async def recover(self, attempt: Attempt, report: Reporter) -> Outcome | None:
        """Nothing is left: workers die with their driver."""
        del attempt, report
        return None

    async def sweep(self, keep: Callable[[Labels], bool]) -> int:
        """Nothing is left: workers die with their driver."""
        del keep
        return 0

    async def close(self) -> None:
        """End the workers; none may have a job."""
        idle, self._idle = self._idle, []
        async with anyio.create_task_group() as tasks:
            for worker in idle:
                tasks.start_soon(worker.leave)


def _job(attempt: Attempt, work: Call, address: str, inputs: dict[str, Durable]) -> Job:
    return Job(
        work.reference,
        work.codec,
        attempt.run,
        str(attempt.key),
        attempt.number,
        str(attempt.folder),
        address,
        inputs,
        secret_settings(attempt),
    )


async def _outcome(done: Done | Failed | Lost, attempt: Attempt, report: Reporter) -> Outcome:
    if not isinstance(done, Done):
        return done
    outcome = done.outcome
    if isinstance(outcome, Failed):
        return Failed(msgspec.structs.replace(outcome.failure, log=report.tail(TAIL)))
    if needs_settling(outcome.value):
        return Succeeded(await settle(outcome.value, attempt.catalog))
    return outcome


async def _remove(attempt: Attempt) -> None:
    with anyio.CancelScope(shield=True):  # a few files of our own
        await anyio.to_thread.run_sync(partial(shutil.rmtree, attempt.folder, ignore_errors=True))


class ProcessConfig(PluginConfig):
    """Warm worker processes on this machine: for work that keeps a processor busy."""

    limit: int | None = Field(default=None, ge=1)
    """Worker processes at most; the default is the number of processors."""

    @asynccontextmanager
    async def open(self) -> AsyncGenerator[ProcessBackend]:
        """The backend; on exit its workers have ended."""
        host = await open_host()
        try:
            backend = ProcessBackend(host, self.limit)
            try:
                yield backend
            finally:
                await backend.close()
        finally:
            await host.close()
