"""Functions that the tests of this folder run elsewhere, by reference."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from onready.engine.context import NodeContext, current
from onready.engine.graph import Provided
from onready.engine.values import File


def double(x: int) -> int:
    return 2 * x


async def double_later(x: int) -> int:
    await asyncio.sleep(0)
    return 2 * x


def pid() -> int:
    return os.getpid()


def misfit() -> list[int]:
    return [1, "two"]  # type: ignore[list-item] # that is what is tested


def not_a_number() -> float:
    return float("nan")


def shown(x: float) -> str:
    return repr(x)


def leave_by_sys_exit() -> None:
    sys.exit(4)


def interrupt() -> None:
    raise KeyboardInterrupt


def segfault() -> None:
    import ctypes

    ctypes.string_at(0)


def print_and_die() -> None:
    print("last words")
    sys.stderr.write("in red\n")
    os._exit(9)


def speak(lines: int) -> None:
    for number in range(lines):
        print("out", number)
    subprocess.run([sys.executable, "-c", "print('grandchild')"], check=True)


def context(ctx: NodeContext = Provided(NodeContext)) -> list[object]:
    ctx.progress(0.5, "half")
    (ctx.folder / "scratch.txt").write_text("x")
    mode = ctx.folder.stat().st_mode & 0o777
    found = current()
    same = found is not None and found.node == ctx.node
    return [ctx.run, ctx.node, ctx.attempt, mode, str(ctx.folder), same]


def make_file(ctx: NodeContext = Provided(NodeContext)) -> File:
    path = ctx.folder / "made.txt"
    path.write_text("content")
    return File(path)


def read_file(file: File) -> str:
    return file.path.read_text()


def large(size: int) -> bytes:
    return b"x" * size


def length(data: bytes) -> int:
    return len(data)


def variables(names: list[str]) -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in names}


def clean_up(ledger: str) -> None:
    try:
        Path(ledger).write_text("begun")
        time.sleep(600)
    finally:
        Path(ledger).write_text("cleaned")


def ignore_term(ledger: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    Path(ledger).write_text(str(os.getpid()))
    time.sleep(600)


def wait_for(path: str) -> int:
    while not Path(path).exists():
        time.sleep(0.005)
    return os.getpid()


def path_and_folder() -> tuple[list[str], str]:
    return sys.path, str(Path.cwd())


def out_of_memory() -> None:
    raise MemoryError
