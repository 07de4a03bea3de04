"""Events to test with: one of every kind, and short ways to make the common ones.

Rule of this room: plain values, the same at every call.
"""

from __future__ import annotations

import itertools

from onready.engine.errors import Failure, Frame
from onready.engine.events import (
    AnyEvent,
    ArtifactStored,
    AttemptPlanned,
    BackendWarning,
    NodeCached,
    NodeCancelled,
    NodeEmitted,
    NodeFailed,
    NodeLog,
    NodeLost,
    NodeProgress,
    NodeRetrying,
    NodeSkipped,
    NodeStarted,
    NodeSucceeded,
    RunCancelled,
    RunCancelling,
    RunFailed,
    RunResumed,
    RunStarted,
    RunSucceeded,
    ScopeClosed,
    ScopeOpened,
)
from onready.engine.names import NodeKey
from onready.engine.values.stored import Compound, Encoded, Stored

DIGEST = "5e" * 32
KEY = NodeKey.parse("train/fold[3]/gate?high/fit")

FAILURE = Failure(
    "error",
    "singular matrix for alpha=0.5",
    "ValueError",
    node="train[1]",
    attempt=2,
    frames=(Frame("pipeline.py", 13, "train", "raise ValueError(...)"),),
    reason="exit status 1",
    log=("first line", "l\u00e9tzte \U0001f600"),
    exit_code=1,
    bases=("builtins.ValueError", "builtins.Exception"),
)


def values() -> dict[str, Stored]:
    """Stored values of every form."""
    json = Encoded("json", b'{"a":[1,2.5,null,"\xc3\xa9"]}', None, 25)
    return {
        "none": None,
        "yes": True,
        "int": -(2**63),
        "large": 2**64 - 1,
        "float": 0.1,
        "whole": 2.0,
        "text": "l\u00e9tzte \U0001f600\0\n",
        "json": json,
        "loose": Encoded("json", b'{ "a" : 1.0 }', None, 13),
        "broken": Encoded("json", b"\xff{", None, 2),
        "bytes": Encoded("bytes", bytes(range(256)), None, 256),
        "blob": Encoded("numpy", None, DIGEST, 70_000, "float64"),
        "list": Compound("list", (1, None, json)),
        "parts": Compound("parts", (json, Encoded("bytes", b"\0", None, 1))),
        "dict": Compound("dict", (Compound("tuple", ()), "b"), ("x", "y/z")),
    }


def started(name: str = "brisk-heron-41", *, graph: str = "graph", at: float = 1.5) -> RunStarted:
    """The first event of a run."""
    return RunStarted(1, at, graph, name, "ab" * 32, {"x": 1}, target="file.py:g")


def succeeded(seq: int, at: float = 9.0) -> RunSucceeded:
    """A good end."""
    return RunSucceeded(seq, at)


def failed(seq: int, at: float = 9.0) -> RunFailed:
    """A bad end."""
    return RunFailed(seq, at, (KEY,))


def steps(first: int, last: int, name: str = "step") -> list[AnyEvent]:
    """Events of nodes, with numbers from `first` to `last`."""
    return [
        NodeSucceeded(seq, seq / 4, NodeKey(name, None, seq), 1, seq)
        if seq % 2
        else NodeStarted(seq, seq / 4, NodeKey(name, None, seq), 1)
        for seq in range(first, last + 1)
    ]


def every_event() -> list[AnyEvent]:
    """One event of every kind, and one per stored value, numbered from 1."""
    seq = itertools.count(1)
    at = 1_700_000_000.25
    first = RunStarted(next(seq), at, "g", "n", DIGEST, values(), "continue", "file.py:g", 3)
    kinds: list[AnyEvent] = [
        RunResumed(next(seq), at, 4),
        RunCancelling(next(seq), at, "user", 10.0),
        RunSucceeded(next(seq), at, 5),
        RunFailed(next(seq), at, (KEY, NodeKey("b")), "timeout"),
        RunCancelled(next(seq), at, "user"),
        ScopeOpened(next(seq), at, KEY, 3, None),
        ScopeOpened(next(seq), at, KEY, None, "high"),
        ScopeClosed(next(seq), at, KEY, "skipped"),
        AttemptPlanned(next(seq), at, KEY, 1, "process", "onready-abc"),
        NodeStarted(next(seq), at, KEY, 1, "pid 7"),
        NodeRetrying(next(seq), at, KEY, 1, 0.5, FAILURE),
        NodeFailed(next(seq), at, KEY, 2, FAILURE),
        NodeLost(next(seq), at, KEY, 2, Failure("lost", "gone")),
        NodeCancelled(next(seq), at, KEY, 1, "user"),
        NodeSkipped(next(seq), at, KEY, 0, "needs train[1]"),
        NodeCached(next(seq), at, KEY, 1, "r0", 5),
        NodeProgress(next(seq), at, KEY, 1, 0.25, "epoch 3"),
        NodeProgress(next(seq), at, KEY, 1, None),
        NodeEmitted(next(seq), at, KEY, 1, "model", 1.0),
        NodeLog(next(seq), at, KEY, 1, "stderr", 99),
        BackendWarning(next(seq), at, KEY, 1, "slow", "the registry is slow"),
        ArtifactStored(next(seq), at, KEY, 1, "model.bin", DIGEST, 70_000),
    ]
    ended: list[AnyEvent] = [
        NodeSucceeded(next(seq), at, NodeKey(name), 1, value) for name, value in values().items()
    ]
    return [first, *kinds, *ended]
