"""One attempt as a child process: started, waited for, stopped where it is cancelled.

Rule of this room: what the child is and what its end means is the caller's.
"""

from __future__ import annotations

import errno
import signal
from dataclasses import dataclass
from typing import Final

import anyio

from onready.backends.local.child import KILL_PATIENCE, Child, Launch
from onready.backends.local.host import CannotStart, Host
from onready.backends.results import TAIL
from onready.engine.crashpoints import crash_point
from onready.engine.errors import BackendError, Failure, FailureKind
from onready.engine.spi import Attempt, Failed, Lost, Reporter

_USERS_FAULT: Final = frozenset(
    {errno.E2BIG, errno.ENOEXEC, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR}
)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a child ended: its exit code, or minus the signal; None where nobody can know.

    `starved`: the kernel killed it for want of memory.
    """

    code: int | None
    starved: bool = False


def begin(launch: Launch, host: Host, report: Reporter) -> Child:
    """Start a child. CannotStart or BackendError where it does not start."""
    try:
        child = Child(launch, host.pump)
    except (OSError, ValueError) as error:
        host.forget_programs()
        raise start_error(launch, error) from error
    finally:
        host.started()
    crash_point("handle.before")
    report.started(f"pid {child.pid}")
    crash_point("handle.after")
    return child


async def run_child(launch: Launch, host: Host, report: Reporter, attempt: Attempt) -> Ending:
    """Start a child and wait for its end.

    Cancelled: TERM to its group, KILL to its session after the attempt's grace, and back within 5
    seconds more in any case. All its output has been passed on when this returns or raises.
    """
    await anyio.lowlevel.checkpoint_if_cancelled()
    await host.turn()
    child = begin(launch, host, report)
    code: int | None = None
    try:
        await child.wait()
    except BaseException:
        with anyio.CancelScope(shield=True):  # bounded by `stop`
            if not await child.stop(attempt.grace):
                warn_unkillable(child.pid, report)
        raise
    finally:
        code = await child.finish()
    starved = code == -signal.SIGKILL and await host.memory_ran_out()
    return Ending(code, starved)


def warn_unkillable(pid: int, report: Reporter) -> None:
    """Say that a process survived KILL: it waits for a device, most likely."""
    message = f"process {pid} is still there {KILL_PATIENCE:g} s after KILL: left alone"
    report.warning("CancelTimeout", message)


def start_error(launch: Launch, error: Exception) -> Exception:
    """What it means that `launch` failed with `error`: the user's fault or the machine's."""
    program = launch.argv[0]
    if isinstance(error, FileNotFoundError):
        if "/" in program:
            return CannotStart(f"{program!r} cannot be run: it, or its interpreter, is not there")
        return CannotStart(f"{launch.program} does not start: its interpreter is missing")
    if isinstance(error, PermissionError):
        return CannotStart(f"{program!r} may not be run: {error.strerror}")
    if isinstance(error, OSError) and error.errno in _USERS_FAULT:
        return CannotStart(f"{program!r} cannot be run: {error.strerror}")
    if isinstance(error, ValueError):
        return CannotStart(f"{program!r} cannot be run: {error}")
    return BackendError(f"starting {program!r} failed: {error}", retryable=True)


def bad_end(attempt: Attempt, what: str, ending: Ending, report: Reporter) -> Failed | Lost:
    """The outcome of an attempt whose process ended with a code other than 0, or by a signal."""
    code = ending.code
    kind: FailureKind = "exit"
    if code is None:
        kind, said, reason = "lost", "ended, and somebody else took its exit status", ""
    elif code >= 0:
        said, reason = f"exited with status {code}", f"exit status {code}"
    else:
        reason = signal_name(-code)
        said = f"was killed by {reason}"
        if ending.starved:
            kind, said = "oom", f"{said}: the machine ran out of memory"
        elif code == -signal.SIGKILL:
            said += ", by somebody or for want of memory"
    failure = Failure(
        kind,
        f"{what} {said}",
        node=str(attempt.key),
        attempt=attempt.number,
        reason=reason,
        log=report.tail(TAIL),
        # As a shell has it: 128 + the signal's number.
        exit_code=code if code is None or code >= 0 else 128 - code,
    )
    return Lost(failure) if code is None else Failed(failure)


def signal_name(number: int) -> str:
    """`SIGKILL` for 9."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
