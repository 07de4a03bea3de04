"""Cached tasks: a look-up before a row is queued, a record after its success.

A row of a cached task that became ready is looked up first, beside the run's other work. A hit is
a `node.cached`; on a miss the row goes its ordinary way, and once its success is durable in the
run log, its value is recorded. A cache that cannot be read or written is a warning, never a
failure: the node runs as if there were none.

Of nodes with the same key that are at work in one engine, in whichever of its runs, one runs and
the others wait for it (`Flights`): each of them gets its value, or, where it failed, the next one
runs.

What may not live here: what counts into a key, where records are, limits, how attempts run.
"""

from __future__ import annotations

import inspect
from collections import deque
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import anyio

from onready.engine.cache.key import Ingredients, ingredients_of
from onready.engine.cache.store import Cache, CacheEntry
from onready.engine.cache.why import SEEN, seen_event
from onready.engine.dispatcher.tasks import LiveTask
from onready.engine.errors import DamagedEntry, Failure, NoCodec
from onready.engine.events import BackendWarning, NodeCached
from onready.engine.names import NodeKey
from onready.engine.plan.model import FromProvided
from onready.engine.scheduler.commands import Command, Drop, Skip
from onready.engine.scheduler.commands import Fact as Posted
from onready.engine.scheduler.state import READY, SUCCEEDED, TERMINAL, Row
from onready.engine.values import ValueType
from onready.engine.values.stored import Live, Stored

if TYPE_CHECKING:
    from onready.engine.dispatcher.core import Dispatcher

LOOK_UPS: Final = 32
"""Look-ups at once in one run."""

WRITES: Final = 8
"""Records being written at once in one run."""

WRITING: Final = 5.0
"""Seconds that the end of a run waits for its records; what is not written by then is lost."""

HASTY: Final = 1.0
"""The same, for a run that was cancelled."""


class Waiter(Protocol):
    """One who waits for a key that another works out."""

    def found(self, origin: str, value: Stored) -> None:
        """The value is there; `origin` is the run that made it."""
        ...

    def lead(self) -> bool:
        """There is no value: work it out. False where it is not wanted any more."""
        ...


class Flights:
    """The keys that are being worked out in one engine, each once, and who waits for them.

    A value that is there, and whose record is still being written, is known here too.
    """

    def __init__(self) -> None:
        self._waiting: dict[str, deque[Waiter]] = {}
        self._landed: dict[str, tuple[str, Stored]] = {}

    def join(self, key: str, waiter: Waiter) -> bool:
        """True: nobody works it out, so the caller does, and tells. False: the waiter is told."""
        known = self._landed.get(key)
        if known is not None:
            waiter.found(*known)
            return False
        waiting = self._waiting.get(key)
        if waiting is None:
            self._waiting[key] = deque()
            return True
        waiting.append(waiter)
        return False

    def land(self, key: str, origin: str, value: Stored) -> None:
        """The value is there, and durable. Call `forget` once its record is, too."""
        self._landed[key] = (origin, value)
        for waiter in self._waiting.pop(key):
            waiter.found(origin, value)

    def forget(self, key: str) -> None:
        """From now on the record tells, or nobody."""
        self._landed.pop(key, None)

    def give_up(self, key: str) -> None:
        """No value comes of it: the next one who waits goes on."""
        waiting = self._waiting[key]
        while waiting:
            if waiting.popleft().lead():
                return
        del self._waiting[key]


class Flight:
    """One row, what its value is made of, and in the end the value itself.

    `replace`: a record is there, and is damaged. `landed`: who waited for its value was told.
    """

    __slots__ = ("_cached", "ingredients", "key", "landed", "replace", "row", "value")

    def __init__(self, cached: Cached, row: Row, ingredients: Ingredients) -> None:
        self._cached = cached
        self.row = row
        self.ingredients = ingredients
        self.key = ingredients.key
        self.replace = False
        self.landed = False
        self.value: Stored = None

    def found(self, origin: str, value: Stored) -> None:
        self._cached.hit(self.row, origin, value)

    def lead(self) -> bool:
        return self._cached.take_over(self)


class Cached:
    """The cached tasks of one run. Made only where it has some."""

    def __init__(self, dispatcher: Dispatcher, flights: Flights) -> None:
        self._dispatcher = dispatcher
        self._flights = flights
        self._cache = Cache(dispatcher.services.catalog)
        self._queue: deque[Row] = deque()
        self._looking = 0
        self._flying: dict[int, Flight] = {}
        self._unwritten: dict[int, Flight] = {}
        self._unkept: deque[tuple[Flight, CacheEntry]] = deque()
        self._writing = 0
        self._written = anyio.Event()
        self._closed = False
        self._defaults: dict[int, dict[str, Stored]] = {}
        resumed = dispatcher.options.resumed
        self._redo = frozenset(resumed.redo) if resumed is not None else frozenset()

    # --- before an attempt ----------------------------------------------------------------------

    def takes(self, row: Row) -> bool:
        """Look this ready row up first. False: that was done, this is a retry."""
        if id(row) in self._flying:
            return False
        self._queue.append(row)
        if self._looking < LOOK_UPS:
            self._looking += 1
            self._dispatcher.start_task(self._look_ups)
        return True

    async def _look_ups(self) -> None:
        try:
            while self._queue:
                row = self._queue.popleft()
                if row.state is READY:
                    await self._look_up(row)
        finally:
            self._looking -= 1

    async def _look_up(self, row: Row) -> None:
        dispatcher = self._dispatcher
        task = dispatcher.tasks[row.node.task]  # type: ignore[index] # a task row has a task
        try:
            ingredients = ingredients_of(task.spec, await self._inputs(row, task))
        except NoCodec as error:
            if row.state is READY:
                dispatcher.outcomes.failed(row, 0, Failure("config", str(error), "NoCodec"))
                dispatcher.tick_soon()
            return
        except Exception:  # noqa: BLE001 - it will fail with the same, and as an attempt of its own
            self._enter(row)
            return
        if row.state is not READY:
            return  # skipped or cancelled meanwhile
        flight = Flight(self, row, ingredients)
        if not self._flights.join(flight.key, flight):
            return
        self._flying[id(row)] = flight
        if _is_in(row.key, self._redo):
            # It had a value, and somebody wants another: that is the one to be found later.
            flight.replace = True
            self._depart(flight)
            return
        entry = await self._find(flight, task)
        if self._flying.get(id(row)) is not flight:
            return  # as above, and somebody else leads by now
        if entry is None:
            self._depart(flight)
        else:
            del self._flying[id(row)]
            self._flights.land(flight.key, entry.run, entry.value)
            self._flights.forget(flight.key)
            self.hit(row, entry.run, entry.value)

    async def _inputs(self, row: Row, task: LiveTask) -> dict[str, Stored]:
        """The declared inputs in their stored form, those that the function's defaults give too."""
        dispatcher = self._dispatcher
        flow = dispatcher.flow
        folder = dispatcher.reporters.folder(row.key, 0)
        given: dict[str, Stored] = {}
        for arg in row.node.args:
            if type(arg.value) is not FromProvided:
                try:
                    given[arg.name] = await flow.durable(flow.argument(row, arg), folder)
                except NoCodec as error:
                    message = f"input {arg.name!r} of a cached task: {error}"
                    raise NoCodec(message) from None
        provided = {arg.name for arg in row.node.args} - given.keys()
        defaults = self._defaults.get(task.position)
        if defaults is None:
            defaults = self._defaults[task.position] = _defaults(task)
        return {name: value for name, value in defaults.items() if name not in provided} | given

    async def _find(self, flight: Flight, task: LiveTask) -> CacheEntry | None:
        """The entry, where there is one that can be used; warns where there is one that cannot."""
        row = flight.row
        reporters = self._dispatcher.reporters
        try:
            entry = await self._cache.read(flight.ingredients)
            if entry is not None:
                reporters.used = True
                folder = reporters.folder(row.key, 0)
                await self._cache.check(entry, task.returns, task.spec.codec, folder)
        except DamagedEntry as error:
            flight.replace = True
            self._warn(row, f"the value of an earlier run cannot be used: {error}")
            return None
        except Exception as error:  # noqa: BLE001 - of any catalog: the node can do without
            self._warn(row, f"the cache cannot be read: {error}")
            return None
        return entry

    def hit(self, row: Row, origin: str, value: Stored) -> None:
        """The row has its value; without effect where it has ended meanwhile."""
        if self._closed or row.state is not READY:
            return
        dispatcher = self._dispatcher
        event = NodeCached(0, dispatcher.now(), row.key, 0, origin, value)
        dispatcher.inbox.append((row, event))
        dispatcher.tick_soon()

    def take_over(self, flight: Flight) -> bool:
        """The row goes its ordinary way, and others wait for it now."""
        if self._closed or flight.row.state is not READY:
            return False
        self._flying[id(flight.row)] = flight
        self._depart(flight)
        return True

    def _depart(self, flight: Flight) -> None:
        row = flight.row
        dispatcher = self._dispatcher
        event = seen_event(dispatcher.now(), row.key, row.attempt + 1, flight.ingredients)
        dispatcher.journal.extend([event])
        self._enter(row)

    def _enter(self, row: Row) -> None:
        if not self._closed and row.state is READY:
            self._dispatcher.admission.enter(row)

    # --- after an attempt -----------------------------------------------------------------------

    def see(self, facts: Sequence[Posted], commands: Sequence[Command]) -> None:
        """One turn was made: rows that were looked up may have ended by it."""
        flying = self._flying
        if not flying:
            return
        for row, _ in facts:
            if row is not None and id(row) in flying and row.state in TERMINAL:
                self._ended(flying.pop(id(row)))
        for command in commands:
            if isinstance(command, (Skip, Drop)):
                flight = flying.pop(id(command.row), None)
                if flight is not None:
                    self._flights.give_up(flight.key)

    def _ended(self, flight: Flight) -> None:
        row = flight.row
        if row.state is not SUCCEEDED:
            self._flights.give_up(flight.key)
        else:
            flight.value = row.value  # type: ignore[assignment] # a task's value is a stored one
            self._unwritten[id(flight)] = flight
            # Not before: a value must not be found whose success a crash takes back.
            self._dispatcher.journal.when_durable(partial(self._keep, flight))

    def _keep(self, flight: Flight) -> None:
        if self._closed:
            return
        flight.landed = True
        dispatcher = self._dispatcher
        row = flight.row
        value = flight.value
        if isinstance(value, Live):
            kind = type(value.value).__qualname__
            self._done(flight, f"its result ({kind}) has no stored form, and is not cached")
            self._flights.give_up(flight.key)
            return
        self._flights.land(flight.key, dispatcher.run, value)
        task = dispatcher.tasks[row.node.task]  # type: ignore[index] # a task row has a task
        entry = CacheEntry(
            key=flight.key,
            task=task.spec.name,
            run=dispatcher.run,
            node=str(row.key),
            attempt=row.attempt,
            created=dispatcher.now(),
            ingredients=flight.ingredients,
            value=value,
        )
        self._unkept.append((flight, entry))
        if self._writing < WRITES:
            self._writing += 1
            dispatcher.start_task(self._writes)

    async def _writes(self) -> None:
        try:
            while self._unkept:
                flight, entry = self._unkept.popleft()
                problem = ""
                try:
                    await self._cache.write(entry, replace=flight.replace)
                except Exception as error:  # noqa: BLE001 - of any catalog: nothing is lost but time
                    problem = f"the value cannot be kept in the cache: {error}"
                self._done(flight, problem)
        finally:
            self._writing -= 1

    def _done(self, flight: Flight, problem: str) -> None:
        if self._unwritten.pop(id(flight), None) is not None:
            self._flights.forget(flight.key)
            if problem:
                self._warn(flight.row, problem)
            if not self._unwritten:
                self._written.set()

    def _warn(self, row: Row, message: str) -> None:
        dispatcher = self._dispatcher
        number = row.attempt or 1
        event = BackendWarning(0, dispatcher.now(), row.key, number, SEEN, message)
        dispatcher.journal.extend([event])

    # --- the end --------------------------------------------------------------------------------

    async def finish(self, *, hasty: bool) -> None:
        """Wait for the records of this run's successes; for a while, and not for ever."""
        if not self._unwritten:
            return
        await self._dispatcher.journal.flushed()
        with anyio.move_on_after(HASTY if hasty else WRITING):
            while self._unwritten:
                self._written = anyio.Event()
                await self._written.wait()
        for flight in tuple(self._unwritten.values()):
            self._done(flight, "the value was not kept: the catalog took too long")

    def close(self) -> None:
        """The run is over: others who wait for its nodes go on without."""
        self._closed = True
        self._queue.clear()
        # Also of successes that never became durable.
        flights = [*self._flying.values(), *self._unwritten.values()]
        self._flying.clear()
        self._unwritten.clear()
        for flight in flights:
            if flight.landed:
                self._flights.forget(flight.key)
            else:
                self._flights.give_up(flight.key)


def _is_in(key: NodeKey, chosen: frozenset[NodeKey]) -> bool:
    """Whether a node, or anything that it is inside of, is among the chosen."""
    here: NodeKey | None = key if chosen else None
    while here is not None:
        if here in chosen or NodeKey(here.name, here.parent) in chosen:
            return True
        here = here.parent
    return False


def _defaults(task: LiveTask) -> dict[str, Stored]:
    """The defaults of the function's own parameters: what it takes where a call gives nothing."""
    found: dict[str, Stored] = {}
    if task.function is not None:
        for parameter in inspect.signature(task.function).parameters.values():
            if parameter.default is not parameter.empty:
                found[parameter.name] = _default(parameter)
    return found


def _default(parameter: inspect.Parameter) -> Stored:
    try:
        return ValueType.any().encode(parameter.default)
    except NoCodec:
        # `ingredients_of` refuses it by name, unless the call gives another value.
        return Live(parameter.default)
