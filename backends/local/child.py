"""One child process: started and waited for in the loop, the leader of a session of its own.

Rule of this room: what the child is for, and what its end means, is not known here.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import anyio

from onready.backends.local import sessions
from onready.backends.local.pump import Pump, Stream
from onready.backends.local.spawning import spawn

Output = Callable[[bytes], None]

KILL_PATIENCE: Final = 4.0
"""Seconds after KILL until a process counts as unkillable."""
_GONE: Final = -1
"""In place of a pidfd: the host ignores SIGCHLD, and the child had ended before we looked."""
_TICK: Final = 0.005
_SLOWEST_TICK: Final = 0.1


@dataclass(frozen=True, slots=True)
class Launch:
    """What to start, and where.

    `outputs` are pairs of the child's descriptor and what takes its bytes. `passed` are pairs of a
    descriptor of ours and the child's number for it. `folder` is the working folder, ours where it
    is None. `program` is the file to run, looked up already, and `argv` what it is told.
    """

    program: str
    argv: Sequence[str]
    environment: Sequence[bytes]
    outputs: Sequence[tuple[int, Output]]
    folder: str | None = None
    passed: Sequence[tuple[int, int]] = ()


class Child:
    """A live child. Whoever started it calls `finish` in the end, whatever happens."""

    __slots__ = ("_pump", "_streams", "_writers", "descriptor", "pid")

    def __init__(self, launch: Launch, pump: Pump) -> None:
        """Start it. OSError and ValueError as `spawn` has them, with nothing left behind."""
        readers: list[int] = []
        writers: list[int] = []
        try:
            for _ in launch.outputs:
                reader, writer = os.pipe()
                readers.append(reader)
                writers.append(writer)
                # Only our end: a child that meets a full pipe has to wait.
                os.set_blocking(reader, False)
            targets = [(w, number) for w, (number, _) in zip(writers, launch.outputs, strict=True)]
            self.pid = spawn(
                launch.program,
                launch.argv,
                launch.environment,
                (*targets, *launch.passed),
                launch.folder,
            )
            self.descriptor = _pidfd(self.pid)
        except BaseException:
            for one in (*readers, *writers):
                os.close(one)
            raise
        self._pump = pump
        # We keep the writing ends: the end of the child is what we go by, and not the end of its
        # output, which a grandchild may hold open. And the pump is not woken by the end.
        self._writers = writers
        self._streams = [
            Stream(reader, output)
            for reader, (_, output) in zip(readers, launch.outputs, strict=True)
        ]
        for stream in self._streams:
            pump.add(stream)

    async def wait(self) -> None:
        """Wait until it has ended."""
        if self.descriptor != _GONE:
            await anyio.wait_readable(self.descriptor)

    def has_ended(self) -> bool:
        """Whether it has ended. Its number stays taken until `finish`."""
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        if self.descriptor == _GONE:
            return True
        try:
            return os.waitid(os.P_PIDFD, self.descriptor, flags) is not None
        except ChildProcessError:
            return True  # somebody else in this process has waited for it

    async def stop(self, grace: float) -> bool:
        """TERM to its group, KILL to its whole session `grace` seconds later.

        Returns when nothing of the session is left, or 4 seconds after KILL: False then. To be
        called in a shield; before `finish`.
        """
        sessions.signal_group(self.pid, signal.SIGTERM)
        pid = self.pid
        tick = _TICK
        with anyio.move_on_after(grace):
            await self.wait()
            while await self._pump.ask(lambda: sessions.members(pid)):
                await anyio.sleep(tick)
                tick = min(tick * 1.5, _SLOWEST_TICK)
            return True
        with anyio.move_on_after(KILL_PATIENCE):
            # KILL again each time: what it started meanwhile is of its session too.
            while (  # noqa: ASYNC110 - the end of a session is no event
                await self._pump.ask(lambda: sessions.kill(pid)) or not self.has_ended()
            ):
                await anyio.sleep(_TICK)
            return True
        return False

    async def quiet(self) -> None:
        """Wait until all that was written before now has been passed on."""
        if not self._is_quiet():
            await self._pump.ask(self._drain)

    def _drain(self) -> None:
        for stream in self._streams:
            stream.drain()

    def _is_quiet(self) -> bool:
        return all(stream.is_quiet() for stream in self._streams)

    async def finish(self) -> int | None:
        """The end of it: its exit code, or minus its signal; None where nobody can know.

        Whatever it left behind in its group is killed, its output is passed on, descriptors are
        given back, whether cancelled or not.
        """
        if self.descriptor != _GONE:
            # Before it is reaped, so that the number cannot belong to anybody else.
            sessions.signal_group(self.pid, signal.SIGKILL)
        if not self._is_quiet():
            with anyio.CancelScope(shield=True):  # what is in the pipes now, and no more
                await self.quiet()
        code = self._reap()
        for stream in self._streams:
            self._pump.remove(stream)
        for writer in self._writers:
            os.close(writer)
        if self.descriptor != _GONE:
            os.close(self.descriptor)
        return code

    def _reap(self) -> int | None:
        if self.descriptor == _GONE:
            return None
        try:
            info = os.waitid(os.P_PIDFD, self.descriptor, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return None
        if info is None:
            return None
        return info.si_status if info.si_code == os.CLD_EXITED else -info.si_status


def _pidfd(pid: int) -> int:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return _GONE
    except OSError:  # pragma: no cover - no descriptor is left: it cannot be looked after then
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise
