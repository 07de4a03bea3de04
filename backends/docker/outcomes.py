"""What the end of a container, or a refusal of the daemon, means for its attempt.

Rule of this room: words and codes; each failure keeps Docker's own.
"""

from __future__ import annotations

import re
from signal import SIGKILL
from typing import Final

from onready.backends.docker.client import Refused
from onready.backends.docker.states import Ending
from onready.backends.results import TAIL
from onready.engine.errors import BackendError, Failure, FailureKind
from onready.engine.spi import Attempt, Failed, Lost, Reporter

_NO_PROGRAM: Final = re.compile(r"\[FATAL tini \(\d+\)\] exec (?P<what>.*) failed: (?P<why>.*)")
_NOT_RUN: Final = re.compile(
    r"exec (?P<what>\S+): (?P<why>no such file or directory|permission denied|exec format error)\Z"
)
"""What the runtime itself says where no first process is there to say it."""
_ABSENT: Final = re.compile(r"not found|no such file or directory")
_SIGNAL: Final = 128
_UNKNOWN: Final = 255
"""The code that the daemon gives where the container's own is lost."""


def failure(
    attempt: Attempt,
    kind: FailureKind,
    message: str,
    report: Reporter,
    *,
    reason: str = "",
    code: int | None = None,
) -> Failure:
    """A failure of this attempt, with the last lines of its output."""
    return Failure(
        kind,
        message,
        node=str(attempt.key),
        attempt=attempt.number,
        reason=reason,
        log=report.tail(TAIL),
        exit_code=code,
    )


def refused(attempt: Attempt, error: Refused, report: Reporter, hint: str = "") -> Failed:
    """The daemon would not create or start the container, and says why.

    `hint` is what to do where the program is not in the image. BackendError, to be tried again,
    where the fault is the daemon's and not the request's.
    """
    message = error.message.strip()
    if error.status == 404 and "image" in message.lower():
        return Failed(failure(attempt, "image", message, report, reason=message))
    if "could not select device driver" in message:
        text = f"the daemon has no such device: {message}"
        return Failed(failure(attempt, "unschedulable", text, report, reason=message))
    if "container-init binary not found" in message:
        text = f"the engine has no small first process (say init=False): {message}"
        return Failed(failure(attempt, "config", text, report, reason=message))
    if error.status >= 500 and "OCI runtime" not in message:
        text = f"Docker could not do it: {message}"
        raise BackendError(text, retryable=True)
    code = 127 if error.status == 400 and _ABSENT.search(message) else None
    if code is not None and hint:
        return Failed(failure(attempt, "config", hint, report, reason=message, code=code))
    return Failed(failure(attempt, "config", message, report, reason=message, code=code))


def lost(attempt: Attempt, message: str, report: Reporter) -> Lost:
    """Nobody can know what became of it."""
    return Lost(failure(attempt, "lost", message, report))


def bad_end(
    attempt: Attempt, what: str, ending: Ending, report: Reporter, hint: str = ""
) -> Failed:
    """The outcome of a container that ended with a code other than 0; `hint` as in `refused`."""
    code = ending.code
    reason = ending.error or f"exit code {code}"
    kind: FailureKind = "exit"
    if ending.starved:
        kind = "oom"
        limit = attempt.resources.memory
        said = f"ran out of memory (limit {limit})" if limit else "ran out of memory"
        reason = f"OOMKilled, exit code {code}"
    elif ending.unwatched:
        kind = "evicted"
        said = f"was stopped from outside while Docker was away (exit code {code})"
        if code == _UNKNOWN:
            said = f"ended while Docker was away, and it does not know how (exit code {code})"
    elif (missing := _missing_program(code, report)) is not None:
        if hint:
            return Failed(failure(attempt, "config", hint, report, reason=missing, code=code))
        kind, said, reason = "config", f"cannot be run: {missing}", missing
    elif code > _SIGNAL:
        said = f"was killed by signal {code - _SIGNAL} (exit code {code})"
        if code - _SIGNAL == SIGKILL and attempt.resources.memory:
            said += f", maybe at its limit of memory ({attempt.resources.memory})"
    else:
        said = f"exited with status {code}"
    if ending.error:
        said += f": {ending.error}"
    return Failed(failure(attempt, kind, f"{what} {said}", report, reason=reason, code=code))


def _missing_program(code: int, report: Reporter) -> str | None:
    """What the first process said where it could not start the program."""
    said = report.tail(TAIL)
    match = None
    if code in {126, 127}:
        match = next(filter(None, map(_NO_PROGRAM.search, said)), None)
    elif len(said) == 1:  # the program itself has said nothing
        match = _NOT_RUN.match(said[0])
    return f"{match['what']}: {match['why']}" if match is not None else None
