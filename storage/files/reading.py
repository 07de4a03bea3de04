"""Reading: batches of events, and the index of runs.

Rule of this room: runs in the reader's thread only; nothing is held between two requests, and what
is handed out is durable: it is made so first.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

from onready.engine.errors import OnreadyError, StoreError
from onready.engine.events import AnyEvent
from onready.engine.names import is_run_id
from onready.engine.spi import RunFilter, RunRecord
from onready.storage.clock import Clock
from onready.storage.confined import Folder, open_root
from onready.storage.files import leases
from onready.storage.files import summary as index
from onready.storage.files.faults import translate, warn_torn
from onready.storage.files.format import HEADER, Header, Place
from onready.storage.files.segments import RunFolder, Segment
from onready.storage.files.summary import Summary
from onready.storage.index import BATCH, matches
from onready.storage.threads.servant import Request

SETTLING: Final = 0.05
"""Seconds after which a record that somebody is writing has grown."""

_REMEMBERED: Final = 1_000
_log: Final = logging.getLogger(__name__)


class Library:
    """The folder of a run log, for reading, and what was learned of it."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self.clock = clock
        self.cursors: dict[tuple[str, int], tuple[Place, int, int]] = {}
        self.summaries: dict[str, Summary] = {}
        self.warned: set[tuple[str, Place, int]] = set()
        self._open = ExitStack()
        self._root: Folder = self._open.enter_context(open_root(path))

    @contextmanager
    def run(self, run: str) -> Generator[RunFolder]:
        """The folder of a run; FileNotFoundError where there is none."""
        with self._root.folder(run) as folder:
            yield RunFolder(run, folder, self.path / run)

    def runs(self) -> list[str]:
        """The ids of all runs that have a folder."""
        return [name for name in self._root.names() if is_run_id(name)]

    def remember(self, run: str, after: int, cursor: tuple[Place, int, int]) -> None:
        """Where the record with the event after `after` begins, and with which number."""
        if len(self.cursors) >= _REMEMBERED:
            self.cursors.pop(next(iter(self.cursors)))
        self.cursors[run, after] = cursor

    def driver(self, folder: RunFolder) -> tuple[str, bool]:
        """Who holds the run's lease, "" for nobody; whether it had a driver and has none."""
        _, state = leases.current(folder.folder, folder.path)
        return state.owner, state.epoch > 0 and state.lapsed(self.clock())

    def torn(self, folder: RunFolder, place: Place, offset: int) -> None:
        """Warn, once, of a record that nobody is writing any more."""
        key = (folder.run, place, offset)
        if key in self.warned:
            return
        _, state = leases.current(folder.folder, folder.path)
        if state.owner and not state.lapsed(self.clock()):
            return
        size = _size(folder, place)
        time.sleep(SETTLING)
        if _size(folder, place) == size and folder.places()[-1] == place:
            self.warned.add(key)
            warn_torn(folder.path, place, offset)

    def close(self) -> None:
        """Let go of the folder."""
        self._open.close()


class ReadEvents(Request[Library]):
    """The next batch of a run after `after`; the value is a list, empty at the end."""

    __slots__ = ("after", "events", "run")

    def __init__(self, run: str, after: int) -> None:
        super().__init__()
        self.run = run
        self.after = after
        self.events: list[AnyEvent] = []
        self.value = self.events

    def apply(self, connection: Library) -> None:
        """Read records until the batch is full."""
        if not is_run_id(self.run):
            return
        try:
            with connection.run(self.run) as folder:
                self._read(connection, folder)
        except FileNotFoundError:
            return

    def _read(self, library: Library, folder: RunFolder) -> None:
        promised = index.load(folder)  # before the events: what it promises must then be there
        chain = folder.chain()
        if not chain:
            index.check_end(folder, promised, 0)
            return
        position = max((n for n, one in enumerate(chain) if one.first <= self.after + 1), default=0)
        for segment in folder.segments(chain, position):
            end = self._segment(library, segment)
            if len(self.events) >= BATCH:
                return
            if segment.until is None:
                index.check_end(folder, promised, max(end, chain[-1].first - 1))
                if segment.torn is not None:
                    library.torn(folder, segment.header.place, segment.torn)

    def _segment(self, library: Library, segment: Segment) -> int:
        """Read from one segment; the number of the last event that was seen in it."""
        events = self.events
        position, end = self._begin(library, segment.header)
        first = end + 1
        for offset, head in segment.heads(position, first):
            if head.last > self.after:
                found = index.events_of(segment, offset, head)
                if found is None:
                    break
                fresh = found[max(self.after + 1 - head.first, 0) :]
                room = BATCH - len(events)
                events += fresh[:room]
                if len(fresh) > room:  # the rest of this record is for the next batch
                    position, first, end = offset, head.first, events[-1].seq
                    break
            position, first, end = offset + head.size, head.last + 1, head.last
            if len(events) >= BATCH:
                break
        if events:
            library.remember(self.run, events[-1].seq, (segment.header.place, position, first))
            if segment.until is None:
                segment.sync()
        return end

    def _begin(self, library: Library, header: Header) -> tuple[int, int]:
        cursor = library.cursors.pop((self.run, self.after), None)
        if cursor is not None and cursor[0] == header.place and not self.events:
            return cursor[1], cursor[2] - 1
        return HEADER, header.first - 1


class ListRuns(Request[Library]):
    """Runs that a filter wants; the value is a list of records."""

    __slots__ = ("query",)

    def __init__(self, query: RunFilter) -> None:
        super().__init__()
        self.query = query

    def apply(self, connection: Library) -> None:
        """Look at every run: at its summary, and at what came after."""
        query = self.query
        found: list[RunRecord] = []
        for run in connection.runs():
            record = _record(connection, run)
            if record is not None and matches(record, query):
                found.append(record)
        found.sort(key=lambda record: (record.created, record.run), reverse=True)
        self.value = found[: max(query.limit, 0)]


class Reader:
    """Opens the folder, which the writer has made, and serves requests."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path = path
        self._clock = clock

    def connect(self) -> Library:
        """Open the folder."""
        try:
            return Library(self._path, self._clock)
        except OSError as error:
            raise translate(error, self._path) from error

    def serve(self, connection: Library, group: list[Request[Library]]) -> None:
        """Answer one after the other."""
        for request in group:
            try:
                request.apply(connection)
            except OSError as error:
                request.error = translate(error, self._path)
            except OnreadyError as error:
                request.error = error


def _record(library: Library, run: str) -> RunRecord | None:
    """The index's line; of a damaged run as far as it can be read, with a warning."""
    summary = library.summaries.pop(run, None)
    try:
        with library.run(run) as folder:
            stored = index.load(folder)
            if summary is None or (stored is not None and stored.last_seq > summary.last_seq):
                summary = stored or index.empty()
            try:
                index.advance(folder, folder.chain(), summary)
            except StoreError as error:
                _log.warning("%s", error)
            if not summary.last_seq:
                return None
            if len(library.summaries) >= _REMEMBERED:
                library.summaries.pop(next(iter(library.summaries)))
            library.summaries[run] = summary
            owner, interrupted = library.driver(folder)
            return summary.record(run, owner, interrupted=interrupted)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except StoreError as error:  # a link in the place of a run's folder, a lease that is damaged
        _log.warning("%s", error)
        return None


def _size(folder: RunFolder, place: Place) -> int | None:
    return folder.folder.size(place.name)
