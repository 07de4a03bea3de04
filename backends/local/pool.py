"""The thread backend: a pool of daemon threads fed in bulk.

A call costs one queue entry, one dictionary entry and two method calls: no Future, no condition,
no lock. Threads are made when there is more to do than threads, up to the limit; idle ones sleep
in one C-level queue that wakes one sleeper at a time, and only while there is work.

Rule of this room: knows nothing of nodes, loops or contexts; the caller's functions do all that.
It imports no pydantic: the plug-in's settings are in `thread.py`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from queue import SimpleQueue

import anyio

from onready.backends.local.machine import cpu_count
from onready.engine.errors import BackendError
from onready.engine.spi import BulkCall, CallResult, Capabilities


class _Thread(threading.Thread):
    """One thread of the pool. `ended` counts its calls; only the thread itself writes it."""

    def __init__(self, pool: ThreadBackend, number: int) -> None:
        super().__init__(name=f"onready-{number}", daemon=True)
        self._pool = pool
        self.ended = 0
        self.call: BulkCall | None = None

    def run(self) -> None:
        pool = self._pool
        get = pool.waiting.get
        claim = pool.queued.pop
        value: object
        failure: BaseException | None
        while True:
            call = get()
            if call is None:
                return
            # Popping is what decides between this thread and `withdraw`: it succeeds once.
            done = claim(call.token, None)
            if done is None:
                continue
            self.call = call
            try:
                value = call.run()
                failure = None
            except BaseException as error:  # noqa: BLE001 - the submitter judges it
                value = None
                failure = error
            # Counted before `done`: what `done` triggers may submit again and reuses this thread.
            self.ended += 1
            self.call = None
            done(call.token, value, failure)
            # Nothing of the call may live on while this thread sleeps.
            del call, done, value, failure


class ThreadBackend:
    """A `BulkBackend` of at most `limit` threads (default: processors + 4, at most 32).

    `submit` and `withdraw` may be called from any thread. Python cannot stop a thread: `close`
    waits for running calls until its deadline and abandons the rest, which are daemon threads:
    they end with their call, or with the process.
    """

    capabilities = Capabilities(in_process=True, barrier=False)

    def __init__(self, limit: int | None = None) -> None:
        self._limit = limit if limit is not None else min(32, cpu_count() + 4)
        self._threads: list[_Thread] = []
        self._submitted = 0
        self._withdrawn = 0
        self._closed = False
        self._lock = threading.Lock()
        self.waiting: SimpleQueue[BulkCall | None] = SimpleQueue()
        self.queued: dict[object, CallResult] = {}

    @property
    def limit(self) -> int:
        """How many calls run at once at most."""
        return self._limit

    @property
    def threads(self) -> int:
        """How many threads there are now."""
        return sum(thread.is_alive() for thread in self._threads)

    def submit(self, calls: Sequence[BulkCall], done: CallResult) -> None:
        """Queue the calls; BackendError once the pool is closed."""
        put = self.waiting.put
        queued = self.queued
        with self._lock:
            if self._closed:
                message = "the thread backend is closed"
                raise BackendError(message)
            for call in calls:
                queued[call.token] = done
                put(call)
            self._submitted += len(calls)
            if len(self._threads) < self._limit:
                self._grow()

    def _grow(self) -> None:
        """Make threads until every call that waits or runs has one, up to the limit."""
        threads = self._threads
        ended = sum(thread.ended for thread in threads)
        wanted = min(self._limit, self._submitted - self._withdrawn - ended)
        while len(threads) < wanted:
            thread = _Thread(self, len(threads) + 1)
            threads.append(thread)
            thread.start()

    def withdraw(self, token: object) -> bool:
        """Take back a call that has not begun: True if it will not run."""
        if self.queued.pop(token, None) is None:
            return False
        with self._lock:
            self._withdrawn += 1
        return True

    async def close(self, deadline: float = 10.0) -> tuple[str, ...]:
        """End all threads; wait `deadline` seconds at most. Names those that had to be left.

        Calls that have not begun never will; `done` is not called for them.
        """
        with self._lock:
            self._closed = True
            self.queued.clear()
            for _ in self._threads:
                self.waiting.put(None)
        end = time.monotonic() + deadline
        pause = 0.0005
        with anyio.CancelScope(shield=True):  # bounded by the deadline
            while any(thread.is_alive() for thread in self._threads):
                if time.monotonic() >= end:
                    break
                await anyio.sleep(pause)
                pause = min(pause * 2, 0.05)
        return tuple(thread.name for thread in self._threads if thread.is_alive())
