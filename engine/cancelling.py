"""Cancelling a run from another process: a request in the catalog, which the run's driver finds.

    runs/<run>/cancel/<epoch>.json, then <epoch>.2.json and so on

The epoch is that of the driver whom the request is meant for, as its first event in the run log
says: a request never hits a later driver of the same run, unless that one goes on with a run that
was interrupted before it could be heard.

Rule of this room: asks and reads; who drives a run, and how it is stopped, is known elsewhere.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import anyio
import msgspec

from onready.engine.dispatcher.journal import ENDS
from onready.engine.errors import ConfigError, RunNotFound, StoreError
from onready.engine.events import RunResumed, RunStarted
from onready.engine.spi import Catalog, RunLog

LOOK: Final = 1.0
"""Seconds between two looks of a driver for a request."""

READING: Final = 10.0
"""Seconds that a look may take; a catalog that hangs is asked again later."""

MOST: Final = 100
"""Requests per driver: beyond that, nobody listens."""


class CancelRequest(msgspec.Struct, frozen=True):
    """What somebody asks a run's driver: `grace` in seconds, None for the driver's own.

    `who` asked, and `at` which time (UTC seconds), are for people.
    """

    reason: str = ""
    grace: float | None = None
    who: str = ""
    at: float = 0.0
    version: int = 1


Cancel = Callable[[str, float | None], None]
"""What to do about a request: its reason, and its grace."""


@dataclass(slots=True, eq=False)
class _Ear:
    """One driver; `heard` is how many requests it has had."""

    run: str
    epoch: int
    cancel: Cancel
    heard: int = 0


def check_grace(grace: float | None) -> None:
    """ConfigError where it is no number of seconds."""
    if grace is not None and not (grace >= 0 and math.isfinite(grace)):
        message = f"grace: seconds from 0 on, not {grace}"
        raise ConfigError(message)


async def ask(run_log: RunLog, catalog: Catalog, run: str, request: CancelRequest) -> bool:
    """Leave a request for whoever drives `run`, or goes on with it; False where it has ended.

    RunNotFound where no run has that id; StoreError where a request would reach nobody, because
    the catalog lives in this process.
    """
    epoch = await _driver(run_log, run)
    if epoch and not catalog.durable:
        message = (
            f"run {run} is not driven here, and a catalog in memory reaches no other process: "
            "open the engine with the catalog of that run"
        )
        raise StoreError(message)
    asked = 0
    while epoch and epoch != asked:
        await _leave(catalog, run, epoch, request)
        asked = epoch
        # It may have passed to another driver meanwhile, who looked before this was there.
        epoch = await _driver(run_log, run)
    return bool(asked)


async def _driver(run_log: RunLog, run: str) -> int:
    """The epoch of the run's newest driver; 0 where the run has ended."""
    epoch = -1
    async for batch in run_log.read(run):
        for event in batch:
            if isinstance(event, (RunStarted, RunResumed)):
                epoch = event.epoch
            elif isinstance(event, ENDS):
                epoch = 0
    if epoch < 0:
        message = f"no run is called {run!r}"
        raise RunNotFound(message)
    return epoch


async def _leave(catalog: Catalog, run: str, epoch: int, request: CancelRequest) -> None:
    content = msgspec.json.encode(request)
    for number in range(1, MOST + 1):
        if await catalog.put_if_absent(_name(run, epoch, number), content):
            return


async def _read(catalog: Catalog, run: str, epoch: int, number: int) -> CancelRequest | None:
    try:
        content = await catalog.read(_name(run, epoch, number))
    except KeyError:
        return None
    return _decode(content)


class Listener:
    """Looks for requests to the drivers of one engine's runs."""

    def __init__(self) -> None:
        self._ears: dict[str, _Ear] = {}

    def add(self, run: str, epoch: int, cancel: Cancel) -> None:
        """From now on `cancel(reason, grace)` is called for each request to this driver."""
        self._ears[run] = _Ear(run, epoch, cancel)

    def drop(self, run: str) -> None:
        """The run has ended, or is left."""
        self._ears.pop(run, None)

    async def recall(self, catalog: Catalog, run: str, epochs: Sequence[int]) -> None:
        """For a driver that goes on with an interrupted run: obey what earlier ones could not.

        `epochs` are those of the drivers since the run began or was last continued after its end.
        """
        ear = self._ears.get(run)
        with anyio.move_on_after(READING), suppress(StoreError):
            for epoch in reversed(epochs):
                request = await _read(catalog, run, epoch, 1)
                if request is not None and ear is not None:
                    ear.cancel(request.reason, request.grace)
                    return

    async def listen(self, catalog: Catalog) -> None:
        """In the host's loop, for ever: one look per live run and second."""
        while True:
            await anyio.sleep(LOOK)
            for ear in tuple(self._ears.values()):
                # What cannot be read now is read later: a look ends no run.
                with anyio.move_on_after(READING), suppress(StoreError):
                    await _look(catalog, ear)


async def _look(catalog: Catalog, ear: _Ear) -> None:
    request = await _read(catalog, ear.run, ear.epoch, ear.heard + 1)
    if request is not None:
        ear.heard += 1
        ear.cancel(request.reason, request.grace)


def _decode(content: bytes) -> CancelRequest:
    try:
        return msgspec.json.decode(content, type=CancelRequest)
    except msgspec.MsgspecError:
        # Whoever wrote it wants the run to end; only why is not to be read.
        return CancelRequest("cancelled from elsewhere")


def _name(run: str, epoch: int, number: int) -> str:
    part = f".{number}" if number > 1 else ""
    return f"runs/{run}/cancel/{epoch}{part}.json"


def new_request(reason: str, grace: float | None, who: str) -> CancelRequest:
    """A request from here, now. ConfigError where `grace` is no number of seconds."""
    check_grace(grace)
    return CancelRequest(reason, grace, who, time.time())
