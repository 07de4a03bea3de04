"""How a thread hands results to the event loop that waits for them, on asyncio and on trio.

One call into the loop delivers the results of a whole group: waking a loop costs a system call.

Rule of this room: knows event loops, and nothing of databases.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol, cast

import sniffio

if TYPE_CHECKING:
    import trio

Answer = tuple[object, BaseException | None]
"""A value, or the error to raise instead of it."""


class Delivery(Protocol):
    """The loop's side (`ticket`) and the thread's side (`deliver`) of waiting."""

    def ticket(self) -> Awaitable[object]:
        """What a caller in the loop awaits."""
        ...

    def deliver(self, answers: Sequence[tuple[object, Answer]]) -> None:
        """From a thread: answer these tickets. Silent where the loop is gone."""
        ...


def here() -> Delivery:
    """The delivery for the event loop that runs now."""
    if sniffio.current_async_library() == "trio":
        return _Trio()
    return _Asyncio()


class _Asyncio:
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.ticket = self._loop.create_future

    def deliver(self, answers: Sequence[tuple[object, Answer]]) -> None:
        settled = cast("Sequence[tuple[asyncio.Future[object], Answer]]", answers)
        with suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(_settle, settled)


def _settle(answers: Sequence[tuple[asyncio.Future[object], Answer]]) -> None:
    for future, (value, error) in answers:
        if future.done():  # whoever waited was cancelled
            continue
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)


class _Ticket:
    __slots__ = ("answer", "event")

    def __init__(self, event: trio.Event) -> None:
        self.event = event
        self.answer: Answer = (None, None)

    def __await__(self) -> Generator[object, None, object]:
        yield from self.event.wait().__await__()
        value, error = self.answer
        if error is not None:
            raise error
        return value


class _Trio:
    def __init__(self) -> None:
        import trio

        self._token = trio.lowlevel.current_trio_token()
        self._event = trio.Event
        self._gone = trio.RunFinishedError

    def ticket(self) -> _Ticket:
        return _Ticket(self._event())

    def deliver(self, answers: Sequence[tuple[object, Answer]]) -> None:
        with suppress(self._gone):
            self._token.run_sync_soon(_ring, cast("Sequence[tuple[_Ticket, Answer]]", answers))


def _ring(answers: Sequence[tuple[_Ticket, Answer]]) -> None:
    for ticket, answer in answers:
        ticket.answer = answer
        ticket.event.set()
