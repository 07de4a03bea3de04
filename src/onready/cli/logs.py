"""`onready logs`: what nodes wrote to stdout and stderr.

Rule of this room: reads the log store and prints; bytes of one node alone go out untouched.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from onready.cli.common import FollowOption, FormatOption, RunArgument, Stores, open_for_reading
from onready.cli.console import Console
from onready.cli.events import POLL
from onready.cli.exits import Usage
from onready.cli.history import find_run
from onready.cli.rows import path_of
from onready.cli.words import some
from onready.engine.events import AttemptPlanned, NodeLog, NodeStarted
from onready.engine.names import NodeKey, dispatch_name
from onready.engine.settings import did_you_mean

if TYPE_CHECKING:
    from onready import Engine
    from onready.engine.logs import LogFrame

Wanted = Literal["both", "stdout", "stderr"]


@dataclass(slots=True)
class Reader:
    """One attempt's log, and how far it has been printed."""

    label: str
    attempt: int
    name: str
    frames: int = 0
    rest: dict[str, bytes] = field(default_factory=dict)


def logs(
    run: RunArgument,
    /,
    node: Annotated[
        str, Parameter(help="A node (train[1]), all items of a map (train), or a sub-graph.")
    ] = "",
    *,
    attempt: Annotated[int | None, Parameter(help="Only this attempt.")] = None,
    stream: Annotated[Wanted, Parameter(help="Which output.")] = "both",
    timestamps: Annotated[
        bool,
        Parameter(
            name=["--timestamps", "-t"],
            negative=(),
            show_default=False,
            help="The time before each line.",
        ),
    ] = False,
    follow: FollowOption = False,
    stores: Stores = Stores(),  # noqa: B008 - frozen
    format: FormatOption = "text",  # noqa: A002 - the flag's name
) -> int:
    """What the nodes of a run wrote, attempt by attempt."""
    printer = Printer(stream, timestamps=timestamps, as_json=format == "json")
    return asyncio.run(_logs(run, node, attempt, stores, printer, follow=follow))


async def _logs(
    text: str, node: str, attempt: int | None, stores: Stores, printer: Printer, *, follow: bool
) -> int:
    async with open_for_reading(stores) as engine:
        record = await find_run(engine, text)
        readers: dict[str, Reader] = {}
        while True:
            ended = (await engine.find(record.run)).status not in {"running", "interrupted"}
            await _discover(engine, record.run, node, attempt, readers)
            printer.prefixed = len(readers) > 1 or not node
            for reader in readers.values():
                printer.print(reader, engine.logs.read(record.run, reader.name))
            if ended or not follow:
                break
            await asyncio.sleep(POLL)
        for reader in readers.values():
            printer.finish(reader)
    if not printer.wrote:
        Console().say(f"nothing was written by {node or 'any node'} of {record.name}")
    return 0


async def _discover(
    engine: Engine, run: str, node: str, attempt: int | None, readers: dict[str, Reader]
) -> None:
    """Add the attempts of the wanted nodes that have begun. Usage where no node is meant."""
    seen: set[str] = set()
    matched = False
    async for event in engine.history(run):
        key = getattr(event, "node", None)
        if key is None:
            continue
        text = str(key)
        if node and not means(node, key, text):
            seen.add("/".join(path_of(key)))
            continue
        matched = True
        if not isinstance(event, NodeStarted | AttemptPlanned | NodeLog):
            continue
        if attempt is not None and event.attempt != attempt:
            continue
        name = dispatch_name(run, key, event.attempt)
        if name not in readers:
            readers[name] = Reader(text, event.attempt, name)
    if node and not matched:
        known = sorted(seen)
        message = f"onready logs: no node {node!r} has run{did_you_mean(node, known)}"
        message += f"\n  nodes: {some(known)}"
        raise Usage(message)


def means(wanted: str, key: NodeKey, text: str) -> bool:
    """Whether `wanted` means this node: its key, its map or sub-graph, or its name in all items."""
    if text == wanted or "/".join(path_of(key)) == wanted:
        return True
    return text.startswith(wanted) and text[len(wanted)] in "/[?"


class Printer:
    """Writes frames to stdout: one node's as they are, several nodes' with names before lines."""

    def __init__(self, stream: Wanted, *, timestamps: bool, as_json: bool) -> None:
        self._stream = stream
        self._timestamps = timestamps
        self._json = as_json
        self.prefixed = False
        self.wrote = False

    def print(self, reader: Reader, frames: Iterable[LogFrame]) -> None:
        """What came since the last time."""
        for frame in islice(frames, reader.frames, None):
            reader.frames += 1
            if self._stream in {"both", frame.stream} or frame.stream == "note":
                self.wrote = True
                self._frame(reader, frame)
        sys.stdout.flush()

    def _frame(self, reader: Reader, frame: LogFrame) -> None:
        if not (self._json or self._timestamps or self.prefixed):
            sys.stdout.flush()
            sys.stdout.buffer.write(frame.data)
            return
        data = reader.rest.pop(frame.stream, b"") + frame.data
        *lines, rest = data.split(b"\n")
        for line in lines:
            self._line(reader, frame.stream, frame.at, line)
        if rest:
            reader.rest[frame.stream] = rest

    def finish(self, reader: Reader) -> None:
        """The last line of each stream, where no line break ended it."""
        for stream, data in reader.rest.items():
            self._line(reader, stream, time.time(), data)
        reader.rest = {}

    def _line(self, reader: Reader, stream: str, at: float, data: bytes) -> None:
        text = data.decode("utf-8", "replace")
        if self._json:
            fields = {"node": reader.label, "attempt": reader.attempt, "stream": stream}
            sys.stdout.write(json.dumps(fields | {"at": at, "text": text}) + "\n")
            return
        label = f"{reader.label}#{reader.attempt}" if reader.attempt > 1 else reader.label
        words = [f"{label} |"] if self.prefixed else []
        if self._timestamps:
            stamp = time.strftime("%H:%M:%S", time.localtime(at)) + f".{int(at % 1 * 1000):03d}"
            words.insert(0, stamp)
        sys.stdout.write(" ".join([*words, text]) + "\n")
