"""The writer: which segments this process writes to, and how a group of requests becomes durable.

Rule of this room: runs in the writer's thread only. Nothing is trusted about other processes:
before and after each write the folder is looked at.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

from onready.engine.errors import InternalError, OnreadyError, StaleEpoch, StoreError
from onready.storage.confined import Folder, open_root
from onready.storage.files import summary as index
from onready.storage.files.faults import translate, warn_torn
from onready.storage.files.format import HEADER, Header, Place
from onready.storage.files.segments import RunFolder
from onready.storage.files.summary import Summary
from onready.storage.private import make_folder
from onready.storage.threads.servant import Request

OPEN: Final = 128
"""Segments kept open for writing at once; the others are opened again when they are needed."""


class Drive:
    """A segment that this process writes to. `last` is the last event that is durable in it."""

    __slots__ = ("broken", "descriptor", "offset", "place", "summary")

    def __init__(self, place: Place, descriptor: int, summary: Summary) -> None:
        self.place = place
        self.descriptor: int | None = descriptor
        self.summary = summary
        self.offset = HEADER
        self.broken = False

    @property
    def last(self) -> int:
        """The number of the last event that is durable."""
        return self.summary.last_seq

    def close(self) -> None:
        """Give the descriptor back; the segment can be opened again."""
        if self.descriptor is not None:
            descriptor, self.descriptor = self.descriptor, None
            os.close(descriptor)


class Store:
    """The folder of a run log, and the segments that this process writes to."""

    def __init__(self, path: Path, segment_size: int) -> None:
        self.path = path
        self.segment_size = segment_size
        self.drives: dict[str, Drive] = {}
        self._open = ExitStack()
        self._root: Folder = self._open.enter_context(open_root(path))

    @contextmanager
    def run(self, run: str, *, make: bool = False) -> Generator[RunFolder]:
        """The folder of a run; FileNotFoundError where there is none and not `make`."""
        with self._root.folder(run, make=make) as folder:
            yield RunFolder(run, folder, self.path / run)

    def newest(self, folder: RunFolder, epoch: int) -> Place | None:
        """The newest claim; StaleEpoch where it is of a higher epoch."""
        places = folder.places()
        if places and places[-1].epoch > epoch:
            self.forget(folder.run)
            message = (
                f"run {folder.run}: epoch {epoch} is over, a driver has taken epoch "
                f"{places[-1].epoch}"
            )
            raise StaleEpoch(message)
        return places[-1] if places else None

    def drive(self, folder: RunFolder, epoch: int, first: int) -> Drive:
        """The segment to which event `first` may be appended under `epoch`."""
        newest = self.newest(folder, epoch)
        drive = self.drives.get(folder.run)
        if drive is not None and drive.place != newest:
            self.forget(folder.run)
            drive = None
        if drive is None:
            known, _ = _follow(folder, folder.chain())
            _check_follows(folder.run, first, known.last_seq)
            drive = self.begin(folder, _after(newest, epoch))
            _check_follows(folder.run, first, drive.last)  # another may have written meanwhile
            return drive
        _check_follows(folder.run, first, drive.last)
        if drive.broken or drive.place.epoch != epoch or drive.offset >= self.segment_size:
            return self.begin(folder, _after(newest, epoch), drive)
        if drive.descriptor is None:
            self._reopen(folder, drive)
        return drive

    def begin(self, folder: RunFolder, place: Place, before: Drive | None = None) -> Drive:
        """Claim and seal a new segment; `before` is ours, and what it has beyond `last` is void."""
        descriptor = folder.claim(place)
        if descriptor is None:
            message = f"run {folder.run}: another process has begun to write to it"
            raise StoreError(message, retryable=True)
        try:
            if before is None:
                chain = folder.chain()
                known, torn = _follow(folder, chain)
                parent = chain[-1].place if chain else None
                if torn is not None:
                    warn_torn(folder.path, *torn)
            else:
                known, parent = before.summary, before.place
        except BaseException:
            folder.abandon(place, descriptor)
            raise
        folder.seal(descriptor, Header(place, parent, known.last_seq + 1))
        self.forget(folder.run)
        drive = self.drives[folder.run] = Drive(place, descriptor, known)
        # The history now goes on here: the next summary must say so, or it would be read anew.
        known.epoch, known.serial, known.offset = place.epoch, place.serial, HEADER
        if known.last_seq:
            self.save(folder, drive)
        return drive

    def save(self, folder: RunFolder, drive: Drive) -> None:
        """Keep the summary. A disk that is full does not matter here: it is only a help."""
        with suppress(OSError):
            index.save(folder, drive.summary)

    def forget(self, run: str) -> None:
        """Let go of a run's segment."""
        drive = self.drives.pop(run, None)
        if drive is not None:
            drive.close()

    def trim(self) -> None:
        """Close segments where many are open: those of the runs that were begun first."""
        opened = [drive for drive in self.drives.values() if drive.descriptor is not None]
        for drive in opened[: max(len(opened) - OPEN, 0)]:
            drive.close()

    def close(self) -> None:
        """Keep the summaries and close everything."""
        for run, drive in list(self.drives.items()):
            with suppress(OSError, StoreError), self.run(run) as folder:
                self.save(folder, drive)
            drive.close()
        self.drives.clear()
        self._open.close()

    def _reopen(self, folder: RunFolder, drive: Drive) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        drive.descriptor = os.open(drive.place.name, flags, dir_fd=folder.folder.descriptor)
        size = os.fstat(drive.descriptor).st_size
        if size != drive.offset:
            raise folder.damaged(drive.place, drive.offset, f"the file has {size} bytes")


class FilesRequest(Request[Store]):
    """One thing asked of the writer about one run."""

    __slots__ = ("run",)

    def __init__(self, run: str) -> None:
        super().__init__()
        self.run = run

    def finish(self, store: Store) -> None:
        """Make durable what `apply` wrote, after the others of the group have written too."""


class Writer:
    """Makes the folder where missing, and serves groups of requests."""

    def __init__(self, path: Path, segment_size: int) -> None:
        self.path = path
        self._segment_size = segment_size

    def connect(self) -> Store:
        """Open the folder; `StoreError` where it cannot serve."""
        # Once, here in the thread: the host may change its working folder later.
        path = self.path = Path(os.path.abspath(self.path))  # noqa: PTH100 - keeps links
        try:
            make_folder(path)
            return Store(path, self._segment_size)
        except OSError as error:
            raise translate(error, path) from error

    def serve(self, store: Store, group: list[Request[Store]]) -> None:
        """In rounds of at most one request a run, so that one record a run is not yet durable."""
        pending = [request for request in group if self._tried(request, request.prepare)]
        while pending:
            runs: set[str] = set()
            now: list[FilesRequest] = []
            later: list[Request[Store]] = []
            for request in pending:
                if isinstance(request, FilesRequest) and request.run not in runs:
                    runs.add(request.run)
                    now.append(request)
                else:
                    later.append(request)
            for one in [one for one in now if self._tried(one, partial(one.apply, store))]:
                self._tried(one, partial(one.finish, store))
            store.trim()
            pending = later

    def _tried(self, request: Request[Store], work: Callable[[], object]) -> bool:
        try:
            return work() is not False
        except OSError as error:
            request.error = translate(error, self.path)
        except OnreadyError as error:
            request.error = error
        except Exception as error:  # noqa: BLE001 - a bug must not take the other runs along
            fault = InternalError(f"the run log's writer failed: {error!r}; please file a bug")
            fault.__cause__ = error
            request.error = fault
        return False


def _follow(folder: RunFolder, chain: list[Header]) -> tuple[Summary, tuple[Place, int] | None]:
    known = index.load(folder) or index.empty()
    return known, index.advance(folder, chain, known)


def _after(newest: Place | None, epoch: int) -> Place:
    if newest is None or newest.epoch != epoch:
        return Place(epoch, 1)
    return Place(epoch, newest.serial + 1)


def _check_follows(run: str, first: int, last: int) -> None:
    if first != last + 1:
        message = f"run {run}: events from {first} do not follow {last}, the last one"
        raise StoreError(message)
