"""Private folders: mode 0700 for each that we make, nothing changed about those that exist."""

from __future__ import annotations

import contextlib
from pathlib import Path


def make_private(folder: Path) -> Path:
    """Make `folder` and its missing parents, each with mode 0700 whatever the umask; itself."""
    missing: list[Path] = []
    here = folder
    while not here.exists():
        missing.append(here)
        here = here.parent
    for path in reversed(missing):
        # Another process may make it in between: then it is theirs, and left as it is.
        with contextlib.suppress(FileExistsError):
            path.mkdir(mode=0o700)
            path.chmod(0o700)
    return folder
