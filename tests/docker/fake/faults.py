"""What a fake daemon can be told to do wrong: a fault is for one call, and for so many times.

    daemon.faults.add("start", loses())              # does it, and the answer is lost
    daemon.faults.add("inspect", says(500), times=3)
    daemon.faults.add("logs", cut(at=11), times=2)   # the stream breaks in a frame's head

Rule of this room: faults, and nothing of what is right.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from aiohttp import web

from tests.docker.fake.bodies import answer
from tests.docker.fake.output import Message

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Act = Callable[[web.Request, Handler], Awaitable[web.StreamResponse]]
Edit = Callable[[Sequence[Message]], Sequence[Message]]
ALWAYS = 1_000_000
CUT = web.RequestKey("cut", int)
POLITE = web.RequestKey("polite", bool)
EDIT = web.RequestKey("edit", object)
SINCE = web.RequestKey("since", int)


@dataclass(slots=True)
class _Fault:
    act: Act
    left: int


class Faults:
    """The faults that are to come, by call, in the order in which they were added."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[_Fault]] = {}
        self.done: list[str] = []
        """The calls that went wrong."""

    def add(self, call: str, act: Act, *, times: int = 1) -> None:
        """The next `times` calls of that name go wrong."""
        self._waiting.setdefault(call, deque()).append(_Fault(act, times))

    def clear(self) -> None:
        """All is well again."""
        self._waiting.clear()

    def next(self, call: str) -> Act | None:
        """What goes wrong with this call."""
        waiting = self._waiting.get(call)
        if not waiting:
            return None
        fault = waiting[0]
        fault.left -= 1
        if fault.left <= 0:
            waiting.popleft()
        self.done.append(call)
        return fault.act


def hang_up(request: web.Request) -> None:
    """Close the connection in the middle of whatever it was."""
    if request.transport is not None:
        request.transport.abort()


def says(
    status: int, message: str = "something went wrong in the daemon", *, does: bool = False
) -> Act:
    """Refuse it; with `does` after it was done."""

    async def act(request: web.Request, handler: Handler) -> web.StreamResponse:
        if does:
            await handler(request)
        return answer({"message": message}, status=status)

    return act


def tells(body: bytes) -> Act:
    """Answer at once, with this body, whatever is true."""

    async def act(request: web.Request, handler: Handler) -> web.StreamResponse:
        del request, handler
        return web.Response(body=body, content_type="application/json")

    return act


def loses() -> Act:
    """Do it; the connection breaks before the answer."""

    async def act(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = await handler(request)
        hang_up(request)
        return given

    return act


def breaks(*, begun: bool = False) -> Act:
    """Do nothing; the connection breaks, with `begun` in the middle of a good answer."""

    async def act(request: web.Request, handler: Handler) -> web.StreamResponse:
        del handler
        given = web.StreamResponse()
        if begun:
            await given.prepare(request)
        hang_up(request)
        return given

    return act


def silent(*, does: bool = False, begun: bool = False) -> Act:
    """Take it, with `does` do it, and never answer; with `begun` fall silent in a good answer."""

    async def act(request: web.Request, handler: Handler) -> web.StreamResponse:
        if does:
            await handler(request)
        if begun:
            await web.StreamResponse().prepare(request)
        await asyncio.Event().wait()
        raise AssertionError

    return act


def cut(at: int, *, polite: bool = False) -> Act:
    """Break the stream after `at` bytes; `polite`: as if this were its proper end."""

    async def act(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[CUT], request[POLITE] = at, polite
        return await handler(request)

    return act


def since(at: int) -> Act:
    """Give the log from this time (in nanoseconds), whatever was asked."""

    async def act(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[SINCE] = at
        return await handler(request)

    return act


def edited(edit: Edit) -> Act:
    """Give other messages than those that were asked for."""

    async def act(request: web.Request, handler: Handler) -> web.StreamResponse:
        request[EDIT] = edit
        return await handler(request)

    return act
