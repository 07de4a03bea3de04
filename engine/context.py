"""What a node may know of itself while it runs: `Provided(NodeContext)` and `current()`.

Rule of this room: works the same in the driver and in a worker; imports names and the SPI only.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from contextvars import ContextVar
from pathlib import Path
from typing import Literal, Protocol

from onready.engine.folders import make_private
from onready.engine.names import NodeKey
from onready.engine.spi import Reporter


class NodeContext:
    """The attempt that is running: its run, its address, and ways to speak while it works.

    `run` is the run's id, `key` the node's key, `attempt` counts from 1.
    """

    __slots__ = ("_folder", "_report", "attempt", "key", "run", "used")

    def __init__(
        self, run: str, key: NodeKey, attempt: int, folder: Path, report: Reporter
    ) -> None:
        self.run = run
        self.key = key
        self.attempt = attempt
        self._folder = folder
        self._report = report
        self.used = False
        """Whether anything may be in the folder: for whoever removes it."""

    @property
    def node(self) -> str:
        """The node's key as it is printed: `train/fold[3]/fit`."""
        return str(self.key)

    @property
    def folder(self) -> Path:
        """A private scratch folder (mode 0700), made when first asked for, removed afterwards."""
        self.used = True
        return make_private(self._folder)

    @property
    def incoming(self) -> Path:
        """Where files among the inputs are put; for whoever loads them."""
        self.used = True
        return self._folder

    def progress(self, fraction: float | None = None, message: str = "") -> None:
        """Say how far the work is: `fraction` from 0 to 1, or None where it is unknown."""
        if fraction is not None and not 0.0 <= fraction <= 1.0:
            text = f"progress is a fraction from 0 to 1, not {fraction!r}"
            raise ValueError(text)
        self._report.progress(fraction, message)

    def log(self, stream: Literal["stdout", "stderr"], data: bytes) -> None:
        """Add to the attempt's output."""
        self._report.log(stream, data)


class ContextSource(Protocol):
    """Whoever runs attempts: makes the context of one when it is asked for."""

    @property
    def run(self) -> str: ...

    def node_context(self, key: NodeKey, attempt: int) -> NodeContext: ...


# A tuple and no NodeContext: most nodes never look, and the dispatch path sets this every time.
_current: ContextVar[tuple[ContextSource, NodeKey, int] | None] = ContextVar(
    "onready_node", default=None
)

bind = _current.set
"""Make (source, key, attempt) the current attempt: for the dispatcher and the worker alone."""


def current() -> NodeContext | None:
    """The node attempt on whose behalf this code runs, or None outside of one."""
    bound = _current.get()
    if bound is None:
        return None
    source, key, attempt = bound
    return source.node_context(key, attempt)


def add_node_context(
    _logger: object, _method: str, event_dict: MutableMapping[str, object]
) -> MutableMapping[str, object]:
    """A structlog processor: adds `run`, `node` and `attempt` to what a node logs."""
    bound = _current.get()
    if bound is not None:
        source, key, attempt = bound
        event_dict.setdefault("run", source.run)
        event_dict.setdefault("node", str(key))
        event_dict.setdefault("attempt", attempt)
    return event_dict
