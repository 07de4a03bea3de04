"""Run log in a folder of append-only files: `FilesRunLog`, and its plug-in class `FilesConfig`.

    <run>/000000000001-000001.log   a segment: what the first driver (epoch 1) wrote
    <run>/lease/000000000001        who may drive the run; the highest number counts
    <run>/summary                   the index's line, a help for listing

Rule of this room: a file that exists is appended to by its one writer, or replaced whole, or left
alone; `log.py` is the way in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onready.storage.files.log import FilesRunLog

if TYPE_CHECKING:
    from onready.storage.run_log_config import FilesConfig

__all__ = ["FilesConfig", "FilesRunLog"]


def __getattr__(name: str) -> object:
    # The plug-in class needs pydantic, which whoever uses the store directly need not load.
    if name == "FilesConfig":
        from onready.storage.run_log_config import FilesConfig

        return FilesConfig
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)
