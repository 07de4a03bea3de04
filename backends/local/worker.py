"""One warm worker process, as its driver sees it: a socket, a pidfd, the output of its attempt.

Rule of this room: one job at a time; which worker does which job is decided in `process.py`.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Sequence
from functools import partial
from typing import Final, Literal

import anyio

from onready.backends.local.channel import Channel
from onready.backends.local.child import Child, Launch
from onready.backends.local.host import Host
from onready.engine.crashpoints import crash_point
from onready.engine.spi import Reporter
from onready.engine.worker.frames import (
    Done,
    FrameReader,
    Hello,
    Progress,
    decode_answer,
    frame,
)

_DESCRIPTOR: Final = 3
_LEAVE: Final = 3.0
"""Seconds that an idle worker has to end by itself once its socket is closed."""
_FALL: Final = 0.5
"""Seconds within which a worker that closed its socket must be seen to end."""


class Died(Exception):
    """The worker process ended before it answered."""


class Worker:
    """A worker process. `report` takes what it writes while it has a job."""

    def __init__(self, host: Host, environment: Sequence[bytes]) -> None:
        """Start it. OSError where that fails."""
        ours, theirs = socket.socketpair()
        self._report: Reporter | None = None
        self._reader = FrameReader()
        try:
            launch = Launch(
                sys.executable,
                (sys.executable, "-P", "-m", "onready.engine.worker.warm", str(os.getpid())),
                environment,
                ((1, partial(self._output, "stdout")), (2, partial(self._output, "stderr"))),
                passed=((theirs.fileno(), _DESCRIPTOR),),
            )
            self.child = Child(launch, host.pump)
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._channel = Channel(ours)
        self._greeting = frame(Hello(host.module_path()))

    def _output(self, stream: Literal["stdout", "stderr"], data: bytes) -> None:
        report = self._report
        if report is not None:  # else it comes from what an earlier attempt left running
            report.log(stream, data)

    async def do(self, job: bytearray, report: Reporter) -> Done:
        """Have a job done. Died where the process ends first; no second job then."""
        self._report = report
        if self._greeting:
            job = self._greeting + job
            self._greeting.clear()
        try:
            crash_point("job.before")
            await self._channel.send(job)
            crash_point("job.after")
            done = await self._answer(report)
        except OSError as error:  # the other end is closed
            raise Died from error
        await self.child.quiet()
        self._report = None
        return done

    async def _answer(self, report: Reporter) -> Done:
        while True:
            data = await self._channel.receive()
            if not data:
                raise Died
            for one in self._reader.feed(data):
                answer = decode_answer(one)
                if isinstance(answer, Progress):
                    report.progress(answer.fraction, answer.message)
                else:
                    return answer

    async def leave(self) -> None:
        """Let an idle worker end by itself; stop it where it does not."""
        await self._end(_LEAVE)

    async def bury(self) -> int | None:
        """After Died: the exit code, as of `Child.finish`. Its output is complete then."""
        return await self._end(_FALL)

    async def _end(self, patience: float) -> int | None:
        self._channel.close()
        try:
            with anyio.CancelScope(shield=True):  # bounded
                with anyio.move_on_after(patience):
                    await self.child.wait()
                if not self.child.has_ended():
                    await self.child.stop(0.5)
        finally:
            code = await self.child.finish()
        return code

    async def stop(self, grace: float) -> bool:
        """Stop it in the middle of its job, in a shield; False where it cannot be stopped."""
        self._channel.close()
        try:
            return await self.child.stop(grace)
        finally:
            await self.child.finish()
