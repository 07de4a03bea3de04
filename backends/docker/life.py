"""The life of one container: created or found, started once, watched, inspected, removed.

    create ──> start ──> wait, follow its output ──> inspect ──> rest of the output ──> remove
       └ name taken: labels compared, adopted

Whatever breaks on the way, inspection says how things stand. A container is started at most once:
where nobody knows whether a start was obeyed, it is not started again.

Rule of this room: knows containers and no outcomes; every call has a deadline, and the daemon's
absence has a patience.
"""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from typing import Final, TypeVar, cast

import anyio

from onready.backends.docker.client import CONFLICT, GONE, Client, Json, Refused, Unreachable
from onready.backends.docker.frames import LogFrames
from onready.backends.docker.options import OURS
from onready.backends.docker.states import Ending, View, view_of
from onready.engine.crashpoints import crash_point
from onready.engine.errors import BackendError
from onready.engine.spi import Reporter

T = TypeVar("T")
_log: Final = logging.getLogger(__name__)
QUIET: Final = 1.0
"""Seconds after which the output of a container is followed; that of shorter ones is read once."""
_ROUND: Final = 5.0
"""Seconds of waiting after which a container is looked at, whatever its daemon says."""
_FIRST_PAUSE: Final = 0.1
_FOLLOW_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 2.0
_REST: Final = 1.0
"""Seconds in which the output that is followed must end after the container has; what it has not
given by then is read once more."""
_ABOUT_TO: Final = 5.0
"""Seconds that another driver has to start the container that it made."""
MAKER: Final = f"{OURS}maker"
"""The label by which a create whose answer was lost is known to have been ours, and nobody else's:
one that was adopted may be about to be started by whoever made it."""
_KILLED: Final = frozenset({137, 143, 255})
"""Codes of a container that was killed, or stopped with its daemon or its machine."""
_BY_KILL: Final = 137
_AFTERTHOUGHT: Final = 1.5
"""Seconds after its end in which the daemon may still say that a container had no memory left."""


class Vanished(Exception):
    """The container is gone, and it was not we who removed it."""


class NotStarted(Exception):
    """Nobody knows whether the start was obeyed, and the container does not run."""


class MayHaveRun(Exception):
    """The daemon died while it was to start the container, and knows nothing of a start since.

    Such a container may run, or have run, all the same: dockerd writes down that it has started
    one after it has.
    """


class StartRefused(Exception):
    """The daemon would not start it; `error` has its words."""

    def __init__(self, error: Refused) -> None:
        self.error = error
        super().__init__(error.message)


class Life:
    """One container of one attempt. `identity` are the labels that make it this attempt's."""

    def __init__(
        self,
        client: Client,
        name: str,
        identity: Mapping[str, str],
        frames: LogFrames,
        report: Reporter,
        *,
        start_deadline: float,
        patience: float,
    ) -> None:
        self._client = client
        self._name = name
        self._identity = identity
        self._frames = frames
        self._report = report
        self._start_deadline = start_deadline
        self._patience = patience
        self._container = ""
        self._disturbed = False
        self._told = False
        self._ended = False
        self._maker = secrets.token_hex(8)
        self._tried = False
        """Whether there may be a container of ours whose id is not known."""

    @property
    def may_run(self) -> bool:
        """Whether a container that was started, or may have been, is not known to have ended."""
        return self._told

    @property
    def has_ended(self) -> bool:
        """Whether it is known to have ended."""
        return self._ended

    # --- from the beginning, and from where somebody else left it -----------------------------

    async def run(self, body: Json) -> Ending:
        """Create it, or adopt the one with its name, and see it to its end.

        Refused where the daemon will not create it, StartRefused where it will not start it,
        BackendError where the name is taken by something else or the daemon stays away,
        NotStarted, MayHaveRun and Vanished where its fate is not known.
        """
        view = await self._create(self._signed(body))
        if view is None or (not view.started and view.labels.get(MAKER) == self._maker):
            await self._start()
            view = None
        elif not view.started:
            view = await self._leave_time(view)
        return await self._see_it_end(view)

    async def rejoin(self) -> Ending | None:
        """Find the container that an earlier driver made, and see it to its end.

        None where there is none, or where it was never started: it is removed then.
        """
        view = await self._patiently(self._look_by_name)
        if view is None:
            return None
        self._adopt(view)
        if not view.started:
            await self.remove()
            return None
        self._disturbed = True
        return await self._see_it_end(view)

    def _signed(self, body: Json) -> Json:
        labels = cast("Mapping[str, str]", body.get("Labels") or {})
        return {**body, "Labels": {**labels, MAKER: self._maker}}

    async def _create(self, body: Json) -> View | None:
        """Create it: None, or what there is of that name already."""

        async def create() -> View | None:
            # A create that is cut off would leave something behind that we do not know of.
            with anyio.CancelScope(shield=True):
                self._tried = True
                crash_point("spawn.before")
                try:
                    found = await self._client.create(self._name, body, self._start_deadline)
                except Refused as error:
                    # Podman's compatible interface has another status for the same.
                    if error.status != CONFLICT and "is already in use" not in error.message:
                        raise
                else:
                    self._container = found
                    crash_point("spawn.after")
                    return None
            view = await self._look_by_name()
            if view is None:  # it was being removed
                message = f"the name {self._name} was taken a moment ago"
                raise Unreachable(message)
            return view

        view = await self._patiently(create)
        if view is not None:
            self._adopt(view)
        return view

    def _adopt(self, view: View) -> None:
        theirs = {label: view.labels.get(label) for label in self._identity}
        if theirs != dict(self._identity):
            message = (
                f"a container called {self._name} is there already and is not this attempt's: "
                f"its labels say {theirs}, not {dict(self._identity)}; remove or rename it"
            )
            raise BackendError(message)
        self._container = view.container

    async def _start(self) -> None:
        try:
            # In a shield: what is started must be known to be, for it to be stopped.
            with anyio.CancelScope(shield=True):
                crash_point("spawn.before")
                await self._client.start(self._container, self._start_deadline)
                crash_point("spawn.after")
        except Refused as error:
            # Whoever has a fault of its own may have done it all the same.
            if error.status < 500 or not (await self._patiently(self._look)).started:
                raise StartRefused(error) from error
        except Unreachable:
            self._disturbed = True
            died = False
            try:
                view = await self._look()
            except Unreachable:
                died = True
                view = await self._patiently(self._look)
            if not view.started:
                raise (MayHaveRun if died else NotStarted) from None

    async def _leave_time(self, view: View) -> View:
        """Somebody else made it and has not started it: they may be about to."""
        with anyio.move_on_after(_ABOUT_TO):
            while not view.started:
                await anyio.sleep(_FIRST_PAUSE)
                view = await self._patiently(self._look)
        if not view.started:
            raise NotStarted
        return view

    # --- to the end ---------------------------------------------------------------------------

    async def _see_it_end(self, view: View | None) -> Ending:
        self._tell_start()
        if view is None or not view.ended:
            view = await self._await_end()
        self._ended = True
        await self._drain()
        return await self._ending(view)

    async def _await_end(self) -> View:
        if await self._wait(QUIET):
            view = await self._patiently(self._look)
            if view.ended:
                return view
        found: View | Exception | None = None
        async with anyio.create_task_group() as tasks:
            ended = anyio.Event()
            tasks.start_soon(self._follow, ended)
            try:
                found = await self._until_ended()
                # What follows the output comes to its end by itself now; not for ever, though.
                tasks.cancel_scope.deadline = anyio.current_time() + _REST
            except (Vanished, BackendError) as error:
                found = error
                tasks.cancel_scope.cancel()
            ended.set()
        if isinstance(found, Exception):
            raise found
        assert found is not None
        return found

    async def _until_ended(self) -> View:
        pause = _FIRST_PAUSE
        while True:
            early = await self._wait(_ROUND)
            view = await self._patiently(self._look)
            if view.ended:
                return view
            if early:
                await anyio.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE) if early else _FIRST_PAUSE

    def _tell_start(self) -> None:
        if not self._told:
            self._told = True
            crash_point("handle.before")
            self._report.started(f"container {self._container[:12]}")
            crash_point("handle.after")

    async def _wait(self, patience: float) -> bool:
        """Wait for its end, at most `patience` seconds; False where they are over."""
        try:
            return await self._client.wait(self._container, patience)
        except Refused as error:
            if error.status == GONE:
                raise Vanished from error
        except Unreachable:
            self._disturbed = True
        return True

    async def _follow(self, ended: anyio.Event) -> None:
        pause = _FOLLOW_PAUSE
        while not ended.is_set():
            await self._client.logs(self._container, self._frames, follow=True)
            # It has ended, most likely, and those who wait for that are about to be told.
            with anyio.move_on_after(pause):
                await ended.wait()
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _drain(self) -> None:
        """What the stream has not given, for it ends when it likes."""

        async def drain() -> None:
            end = await self._client.logs(self._container, self._frames, follow=False)
            if end.whole or (end.status and end.status < 500 and end.status != 200):
                if not end.whole:
                    self._report.warning("LogsUnread", f"Docker has no output: {end.message}")
                return
            message = f"the output could not be read: {end.message or 'the stream broke off'}"
            raise Unreachable(message)

        await self._patiently(drain)
        if self._frames.unfinished:
            await anyio.to_thread.run_sync(self._frames.finish)

    async def _ending(self, view: View) -> Ending:
        starved = view.starved or (view.code == _BY_KILL and await self._has_starved(view))
        return Ending(
            view.code,
            starved,
            self._disturbed and view.code in _KILLED and not starved,
            view.error,
            view.begun,
            view.finished,
        )

    async def _has_starved(self, view: View) -> bool:
        """Whether the daemon says it in an event: its word of an end can be quicker than that.

        Docker 20.10 under load: the state of one in four containers lacks it, two thirds of them
        have the event, up to 0.7 s after the end; of the others containerd has lost it.
        """
        try:
            return await self._client.starved(
                self._container, view.begun, view.finished + _AFTERTHOUGHT
            )
        except (Refused, Unreachable):
            return False

    # --- calls --------------------------------------------------------------------------------

    async def _look(self) -> View:
        try:
            return view_of(await self._client.inspect(self._container))
        except Refused as error:
            if error.status == GONE:
                raise Vanished from error
            raise Unreachable(error.message) from error

    async def _look_by_name(self) -> View | None:
        try:
            return view_of(await self._client.inspect(self._name))
        except Refused as error:
            if error.status == GONE:
                return None
            raise Unreachable(error.message) from error

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        """Ask until the daemon answers; its Unreachable after `patience` seconds without."""
        end = time.monotonic() + self._patience
        pause = _FIRST_PAUSE
        while True:
            try:
                return await call()
            except Unreachable:
                self._disturbed = True
                if time.monotonic() + pause > end:
                    raise
                await anyio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    # --- away with it -------------------------------------------------------------------------

    async def remove(self) -> None:
        """Remove it; a line in Python's log where that is not possible now: a sweep will."""
        try:
            await self._client.remove(self._container or self._name)
        except (Refused, Unreachable) as first:
            # It runs still, or the daemon is away.
            try:
                await self._patiently(
                    lambda: self._client.remove(self._container or self._name, force=True)
                )
            except (Refused, Unreachable):
                # The attempt may be over: its reporter tells nobody any more.
                _log.warning(
                    "the container %s could not be removed: %s; `onready gc` will do it",
                    self._name,
                    first,
                )

    async def stop(self, grace: Callable[[], float]) -> None:
        """Its stop signal, `grace()` seconds, KILL; then remove it. Never raises.

        The grace may become less meanwhile. Bounded by it and three deadlines; what is left is a
        warning, and a sweep's.
        """
        limit = grace() + 3 * self._client.deadline
        with anyio.move_on_after(limit, shield=True) as scope:
            try:
                await self._stop(grace)
            except (Refused, Unreachable) as error:
                message = f"the container {self._name} could not be removed: {error}"
                self._report.warning("CancelTimeout", message)
        if scope.cancelled_caught:
            message = f"the container {self._name} did not go within {limit:g} s"
            self._report.warning("CancelTimeout", message)

    async def _stop(self, grace: Callable[[], float]) -> None:
        if not self._container:
            view = await self._patiently(self._look_by_name) if self._tried else None
            if view is None or any(
                view.labels.get(label) != text for label, text in self._identity.items()
            ):
                return
            self._container = view.container
        await self._ask_to_stop(grace)
        await self._patiently(lambda: self._client.remove(self._container, force=True))

    async def _ask_to_stop(self, grace: Callable[[], float]) -> None:
        """Its stop signal, and its end or that of the grace."""
        begun = anyio.current_time()
        async with anyio.create_task_group() as tasks:

            async def stop() -> None:
                with suppress(Refused, Unreachable):  # to remove it by force is what remains
                    await self._client.stop(self._container, math.ceil(grace()))
                tasks.cancel_scope.cancel()

            tasks.start_soon(stop)
            # That the grace becomes less is no event.
            while (left := begun + grace() - anyio.current_time()) > 0:  # noqa: ASYNC110 - see above
                await anyio.sleep(min(left, _FIRST_PAUSE))
            tasks.cancel_scope.cancel()
