"""Histories written as lines, for the tests of the checker.

A line is a verb, mostly a node key, and arguments: `begin train[0] 1`, `open gate high`,
`close gate succeeded`, `retry 2 redo=a,b`. Numbers are given in the order of the lines.

Rule of this room: notation only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from onready.engine.errors import Failure
from onready.engine.events import (
    AnyEvent,
    AttemptPlanned,
    NodeCached,
    NodeCancelled,
    NodeFailed,
    NodeLog,
    NodeLost,
    NodeRetrying,
    NodeSkipped,
    NodeStarted,
    NodeSucceeded,
    RunCancelled,
    RunFailed,
    RunResumed,
    RunStarted,
    RunSucceeded,
    ScopeClosed,
    ScopeOpened,
    ScopeStatus,
)
from onready.engine.names import NodeKey

FAILURE = Failure("error", "scripted")

NODES: dict[str, Callable[[int, NodeKey, int], AnyEvent]] = {
    "plan": lambda seq, key, number: AttemptPlanned(
        seq, 0.0, key, number, "away", f"{key}.{number}"
    ),
    "begin": lambda seq, key, number: NodeStarted(seq, 0.0, key, number),
    "again": lambda seq, key, number: NodeRetrying(seq, 0.0, key, number, 1.0, FAILURE),
    "ok": lambda seq, key, number: NodeSucceeded(seq, 0.0, key, number, 1),
    "failed": lambda seq, key, number: NodeFailed(seq, 0.0, key, number, FAILURE),
    "lost": lambda seq, key, number: NodeLost(seq, 0.0, key, number, FAILURE),
    "cancelled": lambda seq, key, number: NodeCancelled(seq, 0.0, key, number),
    "skipped": lambda seq, key, number: NodeSkipped(seq, 0.0, key, number),
    "cached": lambda seq, key, number: NodeCached(seq, 0.0, key, number, "r0"),
    "log": lambda seq, key, number: NodeLog(seq, 0.0, key, number, "stdout", 1),
}


def history(*lines: str, fingerprint: str = "0") -> list[AnyEvent]:
    """The events that these lines stand for; each may hold several, between semicolons."""
    texts = [text.strip() for line in lines for text in line.split(";") if text.strip()]
    return [_event(seq, text.split(), fingerprint) for seq, text in enumerate(texts, 1)]


def _event(seq: int, words: Sequence[str], fingerprint: str) -> AnyEvent:
    verb, rest = words[0], words[1:]
    if verb in NODES:
        return NODES[verb](seq, NodeKey.parse(rest[0]), int(rest[1]) if rest[1:] else 0)
    if verb == "open":
        key, what = NodeKey.parse(rest[0]), rest[1] if rest[1:] else ""
        count = int(what) if what.isdigit() else None
        return ScopeOpened(seq, 0.0, key, count, what if what and count is None else None)
    if verb == "close":
        return ScopeClosed(seq, 0.0, NodeKey.parse(rest[0]), cast("ScopeStatus", rest[1]))
    return _run_event(seq, verb, rest, fingerprint)


def _run_event(seq: int, verb: str, rest: Sequence[str], fingerprint: str) -> AnyEvent:
    if verb == "start":
        return RunStarted(seq, 0.0, "g", "name", fingerprint, {})
    if verb in {"resume", "retry"}:
        redo = [text.removeprefix("redo=") for text in rest[1:]]
        keys = tuple(NodeKey.parse(key) for text in redo for key in text.split(","))
        return RunResumed(seq, 0.0, int(rest[0]), retry=verb == "retry", redo=keys)
    assert verb == "end"
    keys = tuple(NodeKey.parse(key) for key in rest[1:])
    ends: dict[str, AnyEvent] = {
        "succeeded": RunSucceeded(seq, 0.0),
        "failed": RunFailed(seq, 0.0, keys),
        "cancelled": RunCancelled(seq, 0.0),
    }
    return ends[rest[0]]


RAN = "begin {0} {1}; ok {0} {1}"


def ran(*keys: str, attempt: int = 1) -> str:
    return "; ".join(RAN.format(key, attempt) for key in keys)


def iteration(at: int) -> str:
    inside = ran(f"poll[{at}]/next", f"poll[{at}]/enough")
    return f"open poll[{at}]; {inside}; close poll[{at}] succeeded"
