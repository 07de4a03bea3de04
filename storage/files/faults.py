"""The system's errors as ours, and the warning about a record that was broken off.

Rule of this room: words only.
"""

from __future__ import annotations

import errno
import logging
from pathlib import Path
from typing import Final

from onready.engine.errors import StoreError
from onready.storage.files.format import Place

_log: Final = logging.getLogger(__name__)
_AGAIN: Final = frozenset({errno.EAGAIN, errno.EINTR, errno.ENFILE, errno.EMFILE, errno.ESTALE})
_WORDS: Final = {
    errno.ENOSPC: "no space is left",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "the file may not become larger",
    errno.EIO: "the disk reports an error",
    errno.EROFS: "the file system is read-only",
    errno.EACCES: "access is denied",
    errno.EPERM: "access is denied",
}


def translate(error: OSError, path: Path) -> StoreError:
    """What `error` means, in our words; `retryable` where trying again soon may help."""
    number = error.errno or 0
    place = f" ({error.filename})" if isinstance(error.filename, str) else ""
    words = _WORDS.get(number)
    detail = f"{words} ({error.strerror})" if words else str(error.strerror or error)
    fault = StoreError(f"run log {path}: {detail}{place}", retryable=number in _AGAIN)
    fault.__cause__ = error
    return fault


def warn_torn(path: Path, place: Place, offset: int) -> None:
    """Say that the last record of a run is dropped."""
    _log.warning(
        "run log %s: the last record, at byte %d, was broken off by a crash and is dropped; it "
        "had not been reported to anyone",
        path / place.name,
        offset,
    )
