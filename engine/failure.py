"""A `Failure` out of an exception: what the user needs of it and nothing else.

Rule of this room: works the same in the driver and in a worker; imports names, options, errors
and masks only, and never raises, whatever the user's exception class does.
"""

from __future__ import annotations

import linecache
import os
from collections.abc import Iterator, Sequence
from types import FrameType, TracebackType
from typing import Final, Literal

from onready.engine.errors import (
    Failure,
    FailureKind,
    Frame,
    GraphError,
    NoCodec,
    SecretError,
    ValueMismatch,
)
from onready.engine.masking import mask_failure, mask_text
from onready.engine.options import class_name

_OURS: Final = "onready"
_EXAMPLES: Final = ("onready.hello", "onready.engine.testing.")
"""The parts of the package that stand for a user: the built-in graph, and work for tests."""
_LIBRARY: Final = os.path.dirname(os.__file__) + os.sep  # noqa: PTH120 - a prefix of texts
_PACKAGES: Final = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")
_FRAMES: Final = 30
_MESSAGE_LIMIT: Final = 8 * 1024
_GROUP_SHOWN: Final = 5


def failure_from(
    error: BaseException,
    *,
    node: str = "",
    attempt: int = 0,
    kind: FailureKind | None = None,
    log: tuple[str, ...] = (),
) -> Failure:
    """The failure that `error`, raised on behalf of a node, stands for.

    `kind` is worked out from the exception where it is not given: `config` for what no retry
    cures (a function that cannot be imported, a value without codec, a missing secret), `oom`
    for MemoryError, `error` else. Frames are the user's own; a library's only where there are
    no others. Secrets that this process knows are masked.
    """
    cls = type(error)
    code = None
    if isinstance(error, SystemExit):
        code = error.code if isinstance(error.code, int) else 0 if error.code is None else 1
    failure = Failure(
        kind=kind if kind is not None else _kind(error),
        message=_shortened(mask_text(_message(error))),
        type=cls.__qualname__,
        node=node,
        attempt=attempt,
        frames=tuple(user_frames(error.__traceback__)),
        log=log,
        exit_code=code,
        bases=tuple(class_name(base) for base in cls.__mro__ if issubclass(base, BaseException)),
    )
    return mask_failure(failure)


def _kind(error: BaseException) -> FailureKind:
    if isinstance(error, GraphError | NoCodec | SecretError):
        return "config"
    if isinstance(error, MemoryError):
        return "oom"
    return "error"


def _message(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        said = "" if isinstance(error.code, int | None) else f", saying: {error.code}"
        shown = error.code if isinstance(error.code, int) else 1 if said else 0
        return f"the node called sys.exit({shown}){said}; raise an exception, or return"
    if isinstance(error, KeyboardInterrupt):
        return "the node was interrupted, or raised KeyboardInterrupt itself"
    text = _text(error)
    if isinstance(error, ValueMismatch) and error.path and error.path not in text:
        text = f"{error.path}: {text}"
    if isinstance(error, BaseExceptionGroup):
        leaves = list(_leaves(error))
        parts = [f"{type(leaf).__qualname__}: {_text(leaf)}" for leaf in leaves[:_GROUP_SHOWN]]
        rest = len(leaves) - len(parts)
        text = f"{text}: {'; '.join(parts)}" + (f"; and {rest} more" if rest else "")
    notes: Sequence[object] = getattr(error, "__notes__", ())
    return "\n".join((text, *(note for note in notes if isinstance(note, str))))


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:  # noqa: BLE001 - the user's __str__ may raise anything
        return f"(its text cannot be shown: {type(second).__name__})"


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterator[BaseException]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _shortened(text: str) -> str:
    if len(text) <= _MESSAGE_LIMIT:
        return text
    half = _MESSAGE_LIMIT // 2
    return f"{text[:half]} [... {len(text) - 2 * half} characters left out ...] {text[-half:]}"


def user_frames(trace: TracebackType | None) -> list[Frame]:
    """The frames of the user's code, outermost first; of libraries where there are none."""
    frames: list[Frame] = []
    libraries: list[Frame] = []
    while trace is not None:
        home = _home(trace.tb_frame)
        if home != "ours":
            (frames if home == "user" else libraries).append(_frame(trace))
        trace = trace.tb_next
    chosen = frames or libraries
    if len(chosen) > _FRAMES:
        third = _FRAMES // 3
        chosen = chosen[:third] + chosen[-2 * third :]
    return chosen


def _home(frame: FrameType) -> Literal["ours", "library", "user"]:
    # By the module's name: it holds through symlinks, zip files and frozen programs.
    module: object = frame.f_globals.get("__name__")
    if isinstance(module, str) and module.partition(".")[0] == _OURS:
        return "user" if module.startswith(_EXAMPLES) else "ours"
    file = frame.f_code.co_filename
    if file.startswith("<frozen ") or any(part in file for part in _PACKAGES):
        return "library"
    return "library" if file.startswith(_LIBRARY) else "user"


def _frame(trace: TracebackType) -> Frame:
    code = trace.tb_frame.f_code
    line = linecache.getline(code.co_filename, trace.tb_lineno, trace.tb_frame.f_globals)
    return Frame(code.co_filename, trace.tb_lineno, code.co_name, line.strip())
