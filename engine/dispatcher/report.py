"""What a running attempt says while it runs: start, progress, warnings, output.

Reporters may be called from any thread; facts reach the inbox on the loop's thread only.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import anyio.to_thread

from onready.engine.context import NodeContext
from onready.engine.errors import InternalError
from onready.engine.events import AnyEvent, BackendWarning, NodeLog, NodeProgress, NodeStarted
from onready.engine.logs import LogStore, LogWriter
from onready.engine.masking import mask_text
from onready.engine.names import NodeKey, dispatch_name
from onready.engine.scheduler.commands import Fact
from onready.engine.scheduler.state import Row


class Desk(Protocol):
    """What reporters need of the dispatcher."""

    run: str
    now: Callable[[], float]

    def post(self, fact: Fact) -> None: ...

    def on_loop(self, action: Callable[[], None]) -> None: ...

    def find(self, key: NodeKey) -> Row | None: ...

    def start_task(self, body: Callable[[], Coroutine[object, object, None]]) -> None: ...


class AttemptReporter:
    """The `Reporter` of one attempt of one row."""

    def __init__(self, desk: Desk, logs: LogStore, row: Row, number: int) -> None:
        self._desk = desk
        self._logs = logs
        self._row = row
        self._lock = threading.Lock()
        self._writer: LogWriter | None = None
        self._sizes: dict[str, int] = {}
        self._closed = False
        self.number = number
        self.said_start = False

    def _post(self, event: AnyEvent) -> None:
        if not self._closed:
            self._desk.post((self._row, event))

    def _tell(self, event: AnyEvent) -> None:
        """Record what decides nothing: without a row, so that the scheduler passes over it."""
        if not self._closed:
            self._desk.post((None, event))

    def started(self, handle: str) -> None:
        if not self.said_start:
            self.said_start = True
            self._post(NodeStarted(0, self._desk.now(), self._row.key, self.number, handle))

    def progress(self, fraction: float | None, message: str) -> None:
        at = self._desk.now()
        text = mask_text(message)
        self._tell(NodeProgress(0, at, self._row.key, self.number, fraction, text))

    def warning(self, code: str, message: str) -> None:
        at = self._desk.now()
        text = mask_text(message)
        self._tell(BackendWarning(0, at, self._row.key, self.number, code, text))

    def log(self, stream: Literal["stdout", "stderr"], data: bytes) -> None:
        if not data:
            return
        with self._lock:
            if self._closed:
                return
            if self._writer is None:
                name = dispatch_name(self._desk.run, self._row.key, self.number)
                self._writer = self._logs.writer(self._desk.run, name)
            self._writer.write(stream, data)
            first = stream not in self._sizes
            size = self._sizes[stream] = self._sizes.get(stream, 0) + len(data)
        if first:
            # So that a follower knows where to look; the final size comes with `close`, and what
            # waits for the loop until after that has nothing left to say.
            self._desk.on_loop(partial(self._announce, stream, size))

    def tail(self, lines: int) -> tuple[str, ...]:
        return self._writer.tail(lines) if self._writer is not None else ()

    def _announce(self, stream: str, size: int) -> None:
        at = self._desk.now()
        self._tell(NodeLog(0, at, self._row.key, self.number, stream, size))

    def close(self) -> None:
        """The attempt is over: say how much was written, close the file, say nothing more."""
        for stream, size in tuple(self._sizes.items()):
            self._announce(stream, size)
        with self._lock:
            self._closed = True
            if self._writer is not None:
                self._writer.close()


class Reporters:
    """The reporters and scratch folders of a run's live attempts, made when first asked for."""

    def __init__(self, desk: Desk, logs: LogStore, work: Path) -> None:
        self._desk = desk
        self._logs = logs
        self.work = work
        self.live: dict[tuple[NodeKey, int], AttemptReporter] = {}
        self._lock = threading.Lock()
        self._contexts: dict[tuple[NodeKey, int], NodeContext] = {}
        self.used = False
        """Whether anything may be in the work folder."""

    def of(self, row: Row, number: int) -> AttemptReporter:
        """The reporter of an attempt; from any thread."""
        with self._lock:
            found = self.live.get((row.key, number))
            if found is None:
                found = AttemptReporter(self._desk, self._logs, row, number)
                self.live[row.key, number] = found
            return found

    def attempt(self, row: Row, number: int) -> AttemptReporter:
        """A reporter that its attempt keeps to itself, and closes."""
        return AttemptReporter(self._desk, self._logs, row, number)

    def context(self, key: NodeKey, number: int) -> NodeContext:
        """The context of a live attempt; from any thread."""
        known = self._contexts.get((key, number))
        if known is not None:
            return known
        row = self._desk.find(key)
        if row is None:
            message = f"{key} asks for its context, but its scope is closed"
            raise InternalError(message)
        folder = self.folder(key, number)
        made = NodeContext(self._desk.run, key, number, folder, self.of(row, number))
        self._contexts[key, number] = made
        return made

    def folder(self, key: NodeKey, number: int) -> Path:
        """The scratch folder of an attempt; whoever needs it makes it."""
        return self.work / dispatch_name(self._desk.run, key, number)

    async def remove_folder(self, row: Row, number: int) -> None:
        """Remove an attempt's scratch folder, if it was made."""
        folder = self.folder(row.key, number)
        await anyio.to_thread.run_sync(partial(shutil.rmtree, folder, ignore_errors=True))

    def tail(self, row: Row, number: int, lines: int) -> tuple[str, ...]:
        """The last lines of an attempt's output."""
        found = self.live.get((row.key, number)) if self.live else None
        return found.tail(lines) if found is not None else ()

    def close(self, row: Row, number: int) -> None:
        """An attempt ended: its output is complete."""
        if self.live:
            found = self.live.pop((row.key, number), None)
            if found is not None:
                found.close()
                context = self._contexts.pop((row.key, number), None)
                if context is not None and context.used:
                    self.used = True
                    self._desk.start_task(partial(self.remove_folder, row, number))

    def close_all(self) -> None:
        """The run is over, and so is everything it made in its work folder."""
        for reporter in tuple(self.live.values()):
            reporter.close()
        self.live.clear()
        self.used = self.used or any(context.used for context in self._contexts.values())
        self._contexts.clear()

    async def remove_work(self) -> None:
        """Remove the run's whole work folder."""
        await anyio.to_thread.run_sync(partial(shutil.rmtree, self.work, ignore_errors=True))
