"""The loop of a warm worker process: one job at a time from the driver's socket.

Started as `python -P -m onready.engine.worker.warm DRIVER`, with the driver's process id and with
the socket as descriptor 3. It ends when the socket does, when its driver dies, and by TERM.

Rule of this room: nothing is imported before a job needs it; the result stays encoded.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from contextvars import copy_context
from pathlib import Path
from typing import TYPE_CHECKING, Final

from onready.engine.failure import failure_from
from onready.engine.names import NodeKey
from onready.engine.spi import Call, Failed, Succeeded
from onready.engine.values import needs_settling
from onready.engine.values.stored import Stored
from onready.engine.worker.calling import run_call
from onready.engine.worker.catalogs import WorkerCatalog, any_needs_bringing, providers
from onready.engine.worker.ending import Terminated, die_by_term, raise_on_term
from onready.engine.worker.frames import (
    Done,
    FrameReader,
    Hello,
    Job,
    Progress,
    decode_order,
    frame,
)
from onready.engine.worker.speaking import WorkerSource

if TYPE_CHECKING:
    from onready.engine.secrets import SecretProviders

DESCRIPTOR: Final = 3
"""Where the driver puts the worker's end of the socket."""
_CHUNK: Final = 1 << 18


class WarmWorker:
    """Serves one driver over one socket."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._reader = FrameReader()
        self._catalogs: dict[str, WorkerCatalog] = {}
        self._secrets: dict[str, SecretProviders | None] = {"": None}

    def serve(self) -> None:
        """Do jobs until the driver closes the socket."""
        while data := self._channel.recv(_CHUNK):
            for order in self._reader.feed(data):
                message = decode_order(order)
                if isinstance(message, Hello):
                    sys.path[:] = message.path
                else:
                    done = copy_context().run(self._run, message)
                    _flush()
                    self._channel.sendall(frame(done))

    def close(self) -> None:
        """Give catalogs back."""
        for catalog in self._catalogs.values():
            catalog.close()
        for secrets in self._secrets.values():
            if secrets is not None:
                secrets.close()

    def _run(self, job: Job) -> Done:
        folder = Path(job.folder)
        source = WorkerSource(job.run, folder, self._tell)
        try:
            outcome = self._outcome(job, source, folder)
        except Exception as error:  # noqa: BLE001 - a store's fault is told, not died of
            outcome = Failed(failure_from(error, node=job.node, attempt=job.attempt))
        if not source.asked:
            return Done(outcome)
        if job.catalog:
            # All is in the catalog: nobody needs the folder any more.
            shutil.rmtree(folder, ignore_errors=True)
        return Done(outcome, folder=not job.catalog)

    def _outcome(self, job: Job, source: WorkerSource, folder: Path) -> Succeeded | Failed:
        inputs: Mapping[str, Stored] = job.inputs
        if job.catalog and any_needs_bringing(inputs):
            source.asked = True  # files among the inputs are in the folder
            inputs = self._catalog(job.catalog).bring(inputs, folder)
        call = Call(job.reference, job.codec)
        if job.secrets not in self._secrets:
            self._secrets[job.secrets] = providers(job.secrets)
        secrets = self._secrets[job.secrets]
        outcome = run_call(call, inputs, source, NodeKey.parse(job.node), job.attempt, secrets)
        if isinstance(outcome, Succeeded) and job.catalog and needs_settling(outcome.value):
            outcome = Succeeded(self._catalog(job.catalog).settle(outcome.value))
        return outcome

    def _catalog(self, address: str) -> WorkerCatalog:
        catalog = self._catalogs.get(address)
        if catalog is None:
            catalog = self._catalogs[address] = WorkerCatalog(address)
        return catalog

    def _tell(self, fraction: float | None, message: str) -> None:
        self._channel.sendall(frame(Progress(fraction, message)))


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        # The user may have closed or replaced them.
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _die_with_driver(driver: int) -> None:
    """Ask Linux for KILL when the driver dies: a worker deep in C code sees no closed socket."""
    if not sys.platform.startswith("linux"):  # pragma: no cover - tests run on Linux
        return
    import ctypes

    ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != driver:  # pragma: no cover - it died before we asked
        os._exit(0)


def main() -> None:
    """Serve the driver that started this process."""
    os.set_inheritable(DESCRIPTOR, False)
    channel = socket.socket(fileno=DESCRIPTOR)
    raise_on_term()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_driver(int(sys.argv[1]))
    for stream in (sys.stdout, sys.stderr):
        # So that what was printed is there after a crash, and in order.
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    worker = WarmWorker(channel)
    try:
        worker.serve()
        worker.close()
    except Terminated:  # pragma: no cover - it dies by the signal
        _flush()
        die_by_term()
    except (BrokenPipeError, ConnectionResetError):
        pass  # the driver is gone


if __name__ == "__main__":
    main()
