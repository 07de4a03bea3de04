"""Fakes of what a backend meets: a scriptable backend, and a reporter that remembers.

Rule of this room: no real time, no real process; product code never imports this package.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import anyio

from onready.engine.errors import BackendError, Failure, FailureKind
from onready.engine.spi import (
    Attempt,
    Capabilities,
    Failed,
    Labels,
    Lost,
    Outcome,
    Reporter,
    Succeeded,
)
from onready.engine.testing.clock import ManualClock
from onready.engine.values.stored import Stored


class RecordingReporter:
    """A `Reporter` that keeps what it is told; its methods may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._output: list[tuple[Literal["stdout", "stderr"], bytes]] = []
        self.handles: list[str] = []
        self.progresses: list[tuple[float | None, str]] = []
        self.warnings: list[tuple[str, str]] = []

    def started(self, handle: str) -> None:
        """Keep the handle."""
        with self._lock:
            self.handles.append(handle)

    def log(self, stream: Literal["stdout", "stderr"], data: bytes) -> None:
        """Keep the output."""
        with self._lock:
            self._output.append((stream, bytes(data)))

    def progress(self, fraction: float | None, message: str) -> None:
        """Keep the progress."""
        with self._lock:
            self.progresses.append((fraction, message))

    def warning(self, code: str, message: str) -> None:
        """Keep the warning."""
        with self._lock:
            self.warnings.append((code, message))

    def tail(self, lines: int) -> tuple[str, ...]:
        """The last lines of both streams together."""
        with self._lock:
            text = b"".join(data for _, data in self._output).decode(errors="replace")
        return tuple(text.splitlines()[-lines:])

    def output(self, stream: Literal["stdout", "stderr"]) -> bytes:
        """All that was written to `stream`."""
        with self._lock:
            return b"".join(data for name, data in self._output if name == stream)


@dataclass(frozen=True, slots=True)
class Script:
    """How one attempt goes on a `FakeBackend`.

    `after` are seconds of the backend's clock before it ends. Then: `fault` is raised, else
    `end` is the outcome: `succeed` with `value`, `fail` or `lose` with `kind` and `message`, or
    `hang` until it is cancelled. `fault` with `done` raises although the work was done: the
    platform did it and said that it failed. `output` goes to the reporter's log first.
    """

    end: Literal["succeed", "fail", "lose", "hang"] = "succeed"
    value: Stored = None
    after: float = 0.0
    kind: FailureKind = "error"
    message: str = "scripted failure"
    fault: BackendError | None = None
    done: bool = False
    output: tuple[tuple[Literal["stdout", "stderr"], bytes], ...] = ()


Chooser = Callable[[Attempt], Script]
"""Chooses the script of an attempt."""


@dataclass(slots=True)
class FakePlatform:
    """What outlives a fake backend: the truth about each attempt, by dispatch name.

    `starts` counts how often the work of a name really began: more than 1 is a double run.
    `ended` has the outcome of what has ended; `live` the labels of what has begun and not ended.
    """

    starts: Counter[str] = field(default_factory=Counter)
    ended: dict[str, Outcome] = field(default_factory=dict)
    live: dict[str, Labels] = field(default_factory=dict)
    cancelled: list[str] = field(default_factory=list)
    most_live: int = 0
    """The largest number of attempts that were alive at once."""


class FakeBackend:
    """A backend that does no work: each attempt goes as its script says.

    `scripts` gives the scripts: a mapping from printed node keys, where a list of scripts serves
    the attempts of that node one after the other (the last one serves the rest), or a function of
    the attempt. An attempt without one succeeds with None. Its `platform` holds the truth and may
    be shared with a second backend: that is how a driver's crash is played.
    """

    def __init__(
        self,
        scripts: Mapping[str, Script | list[Script]] | Chooser | None = None,
        *,
        clock: ManualClock | None = None,
        platform: FakePlatform | None = None,
        capabilities: Capabilities | None = None,
    ) -> None:
        self._scripts = scripts if scripts is not None else {}
        self.clock = clock if clock is not None else ManualClock()
        self.platform = platform if platform is not None else FakePlatform()
        self.capabilities: Capabilities = (
            capabilities if capabilities is not None else Capabilities(adopt=True, logs=True)
        )

    def script_of(self, attempt: Attempt) -> Script:
        """How this attempt goes."""
        if callable(self._scripts):
            return self._scripts(attempt)
        found = self._scripts.get(str(attempt.key), Script())
        if isinstance(found, Script):
            return found
        return found[min(attempt.number, len(found)) - 1]

    async def execute(self, attempt: Attempt, report: Reporter) -> Outcome:
        """Play the attempt's script; a name that has begun before is joined, not begun again."""
        script = self.script_of(attempt)
        if script.fault is not None and not script.done:
            await self.clock.sleep(script.after)
            raise script.fault
        known = self.platform.ended.get(attempt.name)
        if known is not None:
            return known
        if attempt.name not in self.platform.live:
            self._begin(attempt)
        return await self._play(attempt, script, report)

    async def recover(self, attempt: Attempt, report: Reporter) -> Outcome | None:
        """The outcome of what has ended, the rest of what is alive, None for the unknown."""
        known = self.platform.ended.get(attempt.name)
        if known is not None or attempt.name not in self.platform.live:
            return known
        return await self._play(attempt, self.script_of(attempt), report)

    async def sweep(self, keep: Callable[[Labels], bool]) -> int:
        """End what is alive and not wanted."""
        unwanted = [name for name, labels in self.platform.live.items() if not keep(labels)]
        for name in unwanted:
            del self.platform.live[name]
            self.platform.cancelled.append(name)
        return len(unwanted)

    def _begin(self, attempt: Attempt) -> None:
        platform = self.platform
        platform.starts[attempt.name] += 1
        platform.live[attempt.name] = Labels(
            attempt.run, str(attempt.key), attempt.number, attempt.epoch
        )
        platform.most_live = max(platform.most_live, len(platform.live))

    async def _play(self, attempt: Attempt, script: Script, report: Reporter) -> Outcome:
        report.started(attempt.name)
        for stream, data in script.output:
            report.log(stream, data)
        try:
            await self.clock.sleep(script.after)
            if script.end == "hang":
                await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            if not attempt.fenced:
                self.platform.live.pop(attempt.name, None)
                self.platform.cancelled.append(attempt.name)
            raise
        outcome = self._ending(attempt, script)
        self.platform.live.pop(attempt.name, None)
        self.platform.ended[attempt.name] = outcome
        if script.fault is not None:
            raise script.fault
        return outcome

    @staticmethod
    def _ending(attempt: Attempt, script: Script) -> Outcome:
        if script.end == "succeed":
            return Succeeded(script.value)
        failure = Failure(
            script.kind if script.end == "fail" else "lost",
            script.message,
            node=str(attempt.key),
            attempt=attempt.number,
        )
        return Failed(failure) if script.end == "fail" else Lost(failure)
