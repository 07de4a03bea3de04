"""What the local backends ask of the machine: how many processors are ours.

Rule of this room: facts about the machine, nothing about attempts.
"""

from __future__ import annotations

import os


def cpu_count() -> int:
    """Processors that this process may use: its affinity where the system knows one."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0)) or 1
    return os.cpu_count() or 1
