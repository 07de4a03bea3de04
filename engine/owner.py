"""Who holds a lease: a process, told apart from every other one, and found to be dead.

The text begins with host and process id, for people. Behind them come a mark of the machine's
boot and of the namespace in which process ids are counted, the time at which the process started,
and a random part, since one process may hold several engines. A process is said to be dead only
where that is certain: on the same boot, in the same namespace, when no process has that id or a
younger one has it by now.

Rule of this room: reads /proc, nothing else. Without a /proc nobody is ever said to be dead.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import socket
from pathlib import Path

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_NAMESPACE = Path("/proc/self/ns/pid")


def new_owner() -> str:
    """The text for an engine of this process."""
    process = os.getpid()
    parts = (socket.gethostname(), str(process), _machine(), _started(process) or "")
    return ":".join((*parts, secrets.token_hex(4)))


def is_dead(owner: str) -> bool:
    """Whether the process behind an owner's text has certainly ended. Reads files."""
    try:
        _, process, machine, started, _ = owner.rsplit(":", 4)
        number = int(process)
    except ValueError:
        return False
    if not machine or not started or machine != _machine():
        return False
    return _started(number) != started


def _machine() -> str:
    try:
        text = _BOOT.read_text(encoding="ascii").strip() + str(_NAMESPACE.readlink())
    except OSError:
        return ""
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def _started(process: int) -> str | None:
    """When a process started, in the kernel's ticks; None where it is gone, or only a zombie."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return None
    # The name in parentheses may hold anything, parentheses and blanks too.
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in {"Z", "X"} else fields[19]
