"""The little that asyncio and trio do differently, for code that runs once per node.

anyio's task groups and streams cost several times a node's whole budget here (DESIGN.md §3.1), so
this file speaks to the loop directly. Nothing else in the engine may.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Coroutine
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

import anyio

if TYPE_CHECKING:
    import trio

Body = Callable[[], Coroutine[object, object, None]]


class Handle(Protocol):
    """A spawned coroutine or a timer."""

    def cancel(self) -> object: ...


class Waker(Protocol):
    """Where one coroutine parks until somebody wakes it. A wake before the park is kept."""

    async def park(self) -> None: ...

    def wake(self) -> None: ...


class Loop(Protocol):
    """The running event loop, and an owner for what is spawned in it."""

    def spawn(self, body: Body) -> Handle:
        """Run `body`; what it raises is reported to the owner."""
        ...

    def start(self, body: Body) -> Handle:
        """Run a `body` that raises nothing and calls `forget` with its handle at its end.

        For what is started once per waiting node: half the price of `spawn`.
        """
        ...

    def forget(self, handle: Handle | None) -> None: ...

    @property
    def soon(self) -> Callable[[Callable[[], None]], object]: ...

    @property
    def soon_threadsafe(self) -> Callable[[Callable[[], None]], object]: ...

    @property
    def later(self) -> Callable[[float, Callable[[], None]], Handle]: ...

    def waker(self) -> Waker: ...

    async def pause(self) -> None: ...


class AsyncioWaker:
    """A future per park; nothing is allocated while nobody parks."""

    __slots__ = ("_awake", "_future", "_loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._future: asyncio.Future[None] | None = None
        self._awake = False

    async def park(self) -> None:
        if self._awake:
            self._awake = False
            return
        self._future = future = self._loop.create_future()
        try:
            await future
        finally:
            self._future = None
            self._awake = False

    def wake(self) -> None:
        future = self._future
        if future is None:
            self._awake = True
        elif not future.done():
            future.set_result(None)


class AsyncioLoop:
    """Tasks are kept here and ended when the owner leaves."""

    def __init__(self, crash: Callable[[BaseException], None]) -> None:
        self._loop = asyncio.get_running_loop()
        self._tasks: set[asyncio.Task[None]] = set()
        self._crash = crash
        # Bound once: these are the loop's own, without a call of ours in between.
        self.soon: Callable[[Callable[[], None]], object] = self._loop.call_soon
        self.soon_threadsafe: Callable[[Callable[[], None]], object] = (
            self._loop.call_soon_threadsafe
        )
        self.later: Callable[[float, Callable[[], None]], Handle] = self._loop.call_later

    def spawn(self, body: Body) -> Handle:
        task = self._loop.create_task(self._own(body))
        self._tasks.add(task)
        return task

    def start(self, body: Body) -> Handle:
        task = self._loop.create_task(body())
        self._tasks.add(task)
        return task

    def forget(self, handle: Handle | None) -> None:
        self._tasks.discard(handle)

    async def _own(self, body: Body) -> None:
        # In the coroutine itself: a task's done callbacks cost as much as the task.
        try:
            await body()
        except Exception as error:  # noqa: BLE001 - handed to the owner
            self._crash(error)
        finally:
            self._tasks.discard(asyncio.current_task())

    def waker(self) -> Waker:
        return AsyncioWaker(self._loop)

    async def pause(self) -> None:
        await asyncio.sleep(0)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # Code that swallows its cancellation gets a second and a third, then is given up.
        for _ in range(3):  # pragma: no branch - three cancellations swallowed take seconds
            if not self._tasks:
                return
            for task in tuple(self._tasks):
                task.cancel()
            done: set[asyncio.Task[None]] = set()
            with anyio.CancelScope(shield=True):
                done, _ = await asyncio.wait(tuple(self._tasks), timeout=1.0)
            # One that was cancelled before its first step has not seen to this itself.
            self._tasks -= done


class TrioWaker:
    """Parks on the scheduler itself."""

    __slots__ = ("_awake", "_task")

    def __init__(self) -> None:
        self._task: trio.lowlevel.Task | None = None
        self._awake = False

    async def park(self) -> None:
        import trio

        if self._awake:
            self._awake = False
            return
        self._task = trio.lowlevel.current_task()

        def abort(_: object) -> trio.lowlevel.Abort:
            self._task = None
            return trio.lowlevel.Abort.SUCCEEDED

        await trio.lowlevel.wait_task_rescheduled(abort)

    def wake(self) -> None:
        import trio

        task = self._task
        if task is None:
            self._awake = True
        else:
            self._task = None
            trio.lowlevel.reschedule(task)


class TrioLoop:
    """Spawned coroutines live in a nursery, each in a cancel scope of its own.

    The scopes are shielded: when the host is cancelled, the run is told, and decides what stops.
    """

    def __init__(self, nursery: trio.Nursery, crash: Callable[[BaseException], None]) -> None:
        import trio

        self._trio = trio
        self._nursery = nursery
        self._crash = crash
        self._scopes: set[trio.CancelScope] = set()
        token = trio.lowlevel.current_trio_token()
        self.soon: Callable[[Callable[[], None]], object] = token.run_sync_soon
        self.soon_threadsafe: Callable[[Callable[[], None]], object] = token.run_sync_soon
        self.later: Callable[[float, Callable[[], None]], Handle] = self._later

    def spawn(self, body: Body) -> Handle:
        scope = self._trio.CancelScope(shield=True)
        self._scopes.add(scope)

        async def run() -> None:
            with scope:
                try:
                    await body()
                except Exception as error:  # noqa: BLE001 - handed to the owner
                    self._crash(error)
                finally:
                    self._scopes.discard(scope)

        self._nursery.start_soon(run)
        return scope

    def start(self, body: Body) -> Handle:
        return self.spawn(body)

    def forget(self, handle: Handle | None) -> None:
        """Scopes look after themselves here."""

    def _later(self, delay: float, action: Callable[[], None]) -> Handle:
        async def wait() -> None:
            await self._trio.sleep(delay)
            action()

        return self.spawn(wait)

    def cancel_all(self) -> None:
        """End everything that was spawned."""
        for scope in tuple(self._scopes):
            scope.cancel()

    def waker(self) -> Waker:
        return TrioWaker()

    async def pause(self) -> None:
        await self._trio.lowlevel.checkpoint()


@contextlib.asynccontextmanager
async def open_loop(crash: Callable[[BaseException], None]) -> AsyncGenerator[Loop, None]:
    """The loop that is running; leaving ends everything that was spawned through it.

    `crash` is called with the exception of a spawned coroutine that raised: a fault of ours.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        import trio

        fault: Exception | None = None
        async with trio.open_nursery() as nursery:
            trio_loop = TrioLoop(nursery, crash)
            try:
                yield trio_loop
            except Exception as error:  # noqa: BLE001 - raised below, where no group wraps it
                fault = error
            finally:
                trio_loop.cancel_all()
        if fault is not None:
            raise fault from fault.__cause__
    else:
        async with AsyncioLoop(crash) as loop:
            yield loop
