"""A thread that owns what a store works on (`C`: a connection, open folders) and serves requests.

Rule of this room: knows threads and queues; what a request does is the request's own affair.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from queue import Empty, SimpleQueue
from typing import Generic, Protocol, TypeVar

import anyio

from onready.engine.errors import InternalError, StoreError
from onready.storage.threads.delivery import Delivery

CLOSING = 60.0
"""Seconds that closing waits for what was asked before; a hung disk must not hang the host."""


class Closable(Protocol):
    """What a servant owns: it is closed in the servant's thread."""

    def close(self) -> None: ...


C = TypeVar("C", bound=Closable)
C_contra = TypeVar("C_contra", bound=Closable, contravariant=True)


class Request(Generic[C_contra]):
    """One thing asked of a servant; it ends with `value`, or with `error`.

    `prepare` works without the store: False where it found an error. `apply` works on it (for a
    database inside a transaction); it raises our own errors before it has written anything.
    """

    __slots__ = ("error", "ticket", "value")

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.value: object = None
        self.ticket: Awaitable[object] | None = None

    def prepare(self) -> bool:
        """Do what does not need the store; False, and `error` set, where that fails."""
        return True

    def apply(self, connection: C_contra) -> None:
        """Do it."""
        raise NotImplementedError  # pragma: no cover - every request has its own


class Servant(Generic[C]):
    """The thread. Made and used in one event loop, by way of its `delivery`."""

    def __init__(
        self,
        name: str,
        delivery: Delivery,
        connect: Callable[[], C],
        serve: Callable[[C, list[Request[C]]], None],
    ) -> None:
        self._delivery = delivery
        self._connect = connect
        self._serve = serve
        self._queue: SimpleQueue[Request[C] | None] = SimpleQueue()
        self._closed = False
        # A daemon: an interpreter that ends with an open store must not wait for a hung disk.
        # What was not committed by then was never reported.
        self._thread = threading.Thread(target=self._main, name=name, daemon=True)
        self._ready: Request[C] = Request()
        self._ended: Request[C] = Request()

    async def start(self) -> None:
        """Start the thread and wait for its connection; raises what connecting raised."""
        self._ready.ticket = self._delivery.ticket()
        self._ended.ticket = self._delivery.ticket()
        self._thread.start()
        try:
            with anyio.CancelScope(shield=True):
                await self._ready.ticket
        except BaseException:
            # It did not start, or the host's loop is being closed: a shield keeps that not off.
            self._closed = True
            self._queue.put(None)
            await self._join()
            raise

    def ask(self, request: Request[C]) -> Awaitable[object]:
        """Queue a request: await the answer. Requests are served in the order of asking."""
        if self._closed:
            message = "the run log is closed"
            raise StoreError(message)
        ticket = request.ticket = self._delivery.ticket()
        self._queue.put(request)
        return ticket

    async def close(self) -> None:
        """Serve all that was asked, close the connection and join the thread."""
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        await self._join()

    async def _join(self) -> None:
        ended = self._ended.ticket
        if ended is None:  # pragma: no cover - only after start
            return
        with anyio.move_on_after(CLOSING, shield=True):
            await ended
            # Joining would block the loop; by now the thread has nothing left to do but end.
            while self._thread.is_alive():  # noqa: ASYNC110 - a thread's end sets no event
                await anyio.sleep(0.001)

    # --- in the thread ---

    def _main(self) -> None:
        try:
            connection = self._connect()
        except BaseException as error:  # noqa: BLE001 - handed to whoever opens
            self._deliver([(self._ready, error), (self._ended, None)])
            return
        self._deliver([(self._ready, None)])
        try:
            self._work(connection)
        finally:
            try:
                connection.close()
            finally:
                self._deliver([(self._ended, None)])

    def _work(self, connection: C) -> None:
        going = True
        while going:
            group: list[Request[C]] = []
            going = self._take(group)
            if not group:
                continue
            try:
                self._serve(connection, group)
            except BaseException as error:  # noqa: BLE001 - nobody may wait for ever
                fault = InternalError(f"the store's thread failed: {error!r}; please file a bug")
                fault.__cause__ = error
                for request in group:
                    request.error = request.error or fault
            self._deliver([(request, request.error) for request in group])

    def _take(self, group: list[Request[C]]) -> bool:
        """Wait for a request, then take all that are there. False where closing was asked."""
        request = self._queue.get()
        try:
            while request is not None:
                group.append(request)
                request = self._queue.get_nowait()
        except Empty:
            return True
        return False

    def _deliver(self, requests: list[tuple[Request[C], BaseException | None]]) -> None:
        self._delivery.deliver(
            [(request.ticket, (request.value, error)) for request, error in requests]
        )
