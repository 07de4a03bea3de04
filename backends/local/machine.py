"""What the local backends ask of the machine: how many processors are ours.

Rule of this room: facts about the machine, nothing about attempts.
"""

from __future__ import annotations

import os
from pathlib import Path


def cpu_count() -> int:
    """Processors that this process may use: its affinity where the system knows one."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1  # pragma: no cover - other systems than Linux


def make_private(folder: Path) -> None:
    """Make a folder with mode 0700, and so each parent that is missing."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        # By hand: the mode of `mkdir(parents=True)` holds for the last one alone.
        make_private(folder.parent)
        folder.mkdir(mode=0o700, exist_ok=True)


def oom_kills() -> int:
    """How many processes this machine's kernel has killed for want of memory; 0 where unknown."""
    try:
        text = Path("/proc/vmstat").read_text(encoding="ascii")
    except OSError:  # pragma: no cover - /proc is there on Linux, unless it is hidden
        return 0
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill "))
