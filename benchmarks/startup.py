"""What starting costs: `import onready`, and the first run of the hello graph.

Rule of this room: fresh processes with byte-code, their processor time as the system counts it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Final

import msgspec

from benchmarks.measure import Sample, median

MOST_IMPORT: Final = 0.250
"""Seconds of processor time."""


class Startup(msgspec.Struct, frozen=True):
    """Medians, in seconds. `hello` is None where the command line is not installed."""

    bare: Sample
    imported: Sample
    hello: Sample | None

    def verdicts(self) -> list[tuple[str, float, float, str]]:
        """(what, measured, most or 0, unit)."""
        found = [("import onready, CPU", 1000 * self.imported.cpu, 1000 * MOST_IMPORT, "ms")]
        found.append(("python alone, CPU", 1000 * self.bare.cpu, 0.0, "ms"))
        if self.hello is not None:
            found.append(("onready run hello, wall", self.hello.wall, 0.0, "s"))
        return found


def measure_startup(times: int) -> Startup:
    """Each `times` times, after once that does not count."""
    bare: list[Sample] = []
    imported: list[Sample] = []
    hello: list[Sample] = []
    with tempfile.TemporaryDirectory(prefix="onready-bench-") as folder:
        for at in range(times + 1):
            samples = (
                spawn([sys.executable, "-c", "pass"], folder),
                spawn([sys.executable, "-c", "import onready"], folder),
                spawn([sys.executable, "-m", "onready", "run", "hello"], folder),
            )
            if at:
                for found, sample in zip((bare, imported, hello), samples, strict=True):
                    if sample is not None:
                        found.append(sample)
    return Startup(_median(bare), _median(imported), _median(hello) if hello else None)


def spawn(argv: Sequence[str], folder: str) -> Sample | None:
    """Run a program to its end in `folder`; None where it fails."""
    began = time.perf_counter()
    process = subprocess.Popen(
        argv, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - began
    return None if process.returncode else Sample(usage.ru_utime + usage.ru_stime, wall)


def _median(samples: Sequence[Sample]) -> Sample:
    return Sample(
        median([sample.cpu for sample in samples]), median([sample.wall for sample in samples])
    )
