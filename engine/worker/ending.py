"""TERM as an exception, so that `finally` and `with` of the user's code run before the end.

Rule of this room: the main thread of a worker process only; the driver never installs this.
"""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import NoReturn


class Terminated(BaseException):
    """TERM arrived: somebody stops this attempt."""


class TimeUp(BaseException):
    """The attempt's own time limit is over."""


def raise_on_term() -> None:
    """From now on TERM raises Terminated in the main thread; a second TERM kills at once."""
    signal.signal(signal.SIGTERM, _terminated)


def _terminated(_number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    raise Terminated


def raise_after(seconds: float) -> None:
    """Raise TimeUp in the main thread after `seconds`; 0 takes it back."""
    signal.signal(signal.SIGALRM, _time_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _time_up(_number: int, _frame: FrameType | None) -> NoReturn:
    raise TimeUp


def die_by_term() -> NoReturn:  # pragma: no cover - nothing is written after the signal
    """End as TERM ends a program, so that whoever waits sees the signal."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)
    os._exit(128 + signal.SIGTERM)
