"""What starting costs: `import onready`, one node in a process of its own, the hello graph.

Rule of this room: fresh processes with byte-code, their processor time as the system counts it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.measure import Sample, median
from onready.engine.spi import Call, Envelope
from onready.engine.worker.record import encode_envelope

MOST_IMPORT: Final = 8.0
MOST_NODE: Final = 20.0
"""Times the processor time of a Python that does nothing."""
_RUN: Final = "01J0000000000000000000000A"


class Startup(msgspec.Struct, frozen=True):
    """Medians, in seconds."""

    bare: Sample
    imported: Sample
    node: Sample
    hello: Sample

    def verdicts(self) -> list[tuple[str, float, float, str]]:
        """(what, measured, most or 0, unit)."""
        bare, imported, node = (one.cpu for one in (self.bare, self.imported, self.node))
        return [
            ("python alone, CPU", 1000 * bare, 0.0, "ms"),
            ("import onready, CPU", 1000 * imported, 0.0, "ms"),
            ("import onready, of python alone", imported / bare, MOST_IMPORT, "x"),
            ("one node in a process, CPU", 1000 * node, 0.0, "ms"),
            ("one node in a process, of python alone", node / bare, MOST_NODE, "x"),
            ("onready run hello, wall", self.hello.wall, 0.0, "s"),
        ]


def measure_startup(times: int) -> Startup:
    """Each `times` times, in turns, after once that does not count."""
    with tempfile.TemporaryDirectory(prefix="onready-bench-") as folder:
        commands: Mapping[str, Callable[[int], Sequence[str]]] = {
            "bare": lambda _: ["-c", "pass"],
            "imported": lambda _: ["-c", "import onready"],
            "node": lambda at: ["-P", "-m", "onready.engine.worker", _envelope(folder, at)],
            "hello": lambda _: ["-m", "onready", "run", "hello"],
        }
        samples: dict[str, list[Sample]] = {name: [] for name in commands}
        for at in range(times + 1):
            for name, command in commands.items():
                sample = spawn([sys.executable, *command(at)], folder)
                if at:
                    samples[name].append(sample)
    return Startup(**{name: _median(found) for name, found in samples.items()})


def _envelope(folder: str, attempt: int) -> str:
    """A file that says what to do, as backends write it: a call, and a folder as catalog."""
    work = Call("onready.engine.testing.work:echo")
    catalog = f"file:{folder}/catalog"
    name = f"onready-{attempt}"
    made = Envelope(_RUN, "echo", attempt + 1, 1, name, work, {"value": 1}, catalog)
    path = Path(folder, f"{attempt}.json")
    path.write_bytes(encode_envelope(made))
    return str(path)


def spawn(argv: Sequence[str], folder: str) -> Sample:
    """Run a program to its end in `folder`; RuntimeError where it fails."""
    began = time.perf_counter()
    process = subprocess.Popen(
        argv, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.perf_counter() - began
    if process.returncode:
        message = f"{' '.join(argv)} ended with {process.returncode}"
        raise RuntimeError(message)
    return Sample(usage.ru_utime + usage.ru_stime, wall)


def _median(samples: Sequence[Sample]) -> Sample:
    return Sample(
        median([sample.cpu for sample in samples]), median([sample.wall for sample in samples])
    )
