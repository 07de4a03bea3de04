"""Starting a program: the C library's posix_spawn, with a working folder for the child.

Python's own `os.posix_spawn` cannot set a working folder and keeps the interpreter locked until
the child has executed its program, a millisecond during which no event loop moves. Called through
ctypes it does neither.

Rule of this room: Linux with glibc 2.29 or musl 1.1.24 and newer; nothing else is called by ctypes
in the backends. Descriptors are passed on by number; all others of Python's are closed on exec.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence
from functools import cache
from typing import Final

from onready.engine.crashpoints import crash_point

_SETSIGDEF: Final = 0x04
_SETSIGMASK: Final = 0x08
_SETSID: Final = 0x80
_ROOM: Final = 1024
"""Bytes for any of the opaque structures; the largest has 336."""
_RESTORED: Final = (signal.SIGPIPE, signal.SIGXFSZ)
"""Signals that Python ignores and that programs expect to work."""
_NULL: Final = os.devnull.encode()


class _Library:
    """The C library's functions, and the attributes that all children share."""

    def __init__(self) -> None:
        libc = ctypes.CDLL(None)
        self.spawn = libc.posix_spawn
        self.actions_init = libc.posix_spawn_file_actions_init
        self.actions_destroy = libc.posix_spawn_file_actions_destroy
        self.add_open = libc.posix_spawn_file_actions_addopen
        self.add_dup2 = libc.posix_spawn_file_actions_adddup2
        self.add_chdir = libc.posix_spawn_file_actions_addchdir_np
        self.attributes = ctypes.create_string_buffer(_ROOM)
        empty = ctypes.create_string_buffer(_ROOM)
        restored = ctypes.create_string_buffer(_ROOM)
        libc.sigemptyset(empty)
        libc.sigemptyset(restored)
        for number in _RESTORED:
            libc.sigaddset(restored, int(number))
        libc.posix_spawnattr_init(self.attributes)
        libc.posix_spawnattr_setsigmask(self.attributes, empty)
        libc.posix_spawnattr_setsigdefault(self.attributes, restored)
        flags = ctypes.c_short(_SETSIGDEF | _SETSIGMASK | _SETSID)
        libc.posix_spawnattr_setflags(self.attributes, flags)


@cache
def _library() -> _Library:
    return _Library()


def is_supported() -> bool:
    """Whether this system can do it; loads the library."""
    try:
        _library()
    except (OSError, AttributeError):  # pragma: no cover - other systems
        return False
    return sys.platform.startswith("linux")


def spawn(
    program: str,
    argv: Sequence[str],
    environment: Sequence[bytes],
    descriptors: Sequence[tuple[int, int]],
    folder: str | None = None,
) -> int:
    """Start a program in a session of its own; its process id.

    `environment` holds `NAME=value`. `descriptors` are pairs of a number here and the child's
    number for it; its 0 is /dev/null. `folder` is its working folder, ours where it is None.
    OSError as the system has it; ValueError for a NUL character in a text.
    """
    library = _library()
    words = [os.fsencode(word) for word in argv]
    file = os.fsencode(program)
    place = os.fsencode(folder) if folder is not None else b""
    if any(b"\0" in text for text in (*words, file, place)):
        message = "embedded null byte"
        raise ValueError(message)
    actions = ctypes.create_string_buffer(_ROOM)
    crash_point("spawn.before")
    library.actions_init(actions)
    try:
        library.add_open(actions, 0, _NULL, os.O_RDONLY, 0)
        for ours, theirs in descriptors:
            library.add_dup2(actions, ours, theirs)
        if place:
            library.add_chdir(actions, place)
        pid = ctypes.c_int()
        error = library.spawn(
            ctypes.byref(pid),
            file,
            actions,
            library.attributes,
            (ctypes.c_char_p * (len(words) + 1))(*words),
            (ctypes.c_char_p * (len(environment) + 1))(*environment),
        )
    finally:
        library.actions_destroy(actions)
    if error:
        raise OSError(error, os.strerror(error), program)
    crash_point("spawn.after")
    return pid.value
