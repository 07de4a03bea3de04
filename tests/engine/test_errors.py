"""What errors and events say of themselves."""

from __future__ import annotations

import msgspec
import pytest

from onready.engine.errors import (
    BackendError,
    EnvironmentFault,
    Failure,
    GraphError,
    NodeFailed,
    OnreadyError,
    RunCancelled,
    RunFailed,
    StaleEpoch,
    StoreError,
    ValueMismatch,
)
from onready.engine.events import NodeSucceeded, decode_hook, encode_hook
from onready.engine.names import Location, NodeKey
from onready.engine.values.stored import Live

BAD = Failure("error", "no 1", "ValueError", node="a")
LATE = Failure("timeout", "no end within 1 s", node="b/c")


def test_a_graph_error_says_where_what_and_what_to_do() -> None:
    error = GraphError("G001", "two of one name", Location("f.py", 3), "rename one")
    assert str(error) == "f.py:3: G001: two of one name\n  rename one"
    assert str(GraphError("G001", "bad")) == "G001: bad"


def test_a_failed_node_says_its_node_and_its_cause() -> None:
    assert str(NodeFailed(BAD)) == "a: ValueError: no 1"
    assert str(NodeFailed(Failure("lost", "gone"))) == "gone"


def test_a_cancelled_run_says_why() -> None:
    assert str(RunCancelled("r1", "enough")) == "run r1 was cancelled: enough"
    assert str(RunCancelled("r1")) == "run r1 was cancelled"


def test_a_mismatch_has_a_path() -> None:
    assert ValueMismatch("not an int", "[1].x").path == "[1].x"


def test_except_star_takes_a_failed_run_apart() -> None:
    seen: list[tuple[str, str]] = []

    def only(kind: str) -> RunFailed:
        group = RunFailed.of("r1", [BAD, LATE]).subgroup(
            lambda error: isinstance(error, NodeFailed) and error.failure.kind == kind
        )
        assert isinstance(group, RunFailed)
        return group

    for kind in ("timeout", "error"):
        part = only(kind)
        assert (part.run, part.message) == ("r1", "run r1 failed")
        assert [failure.kind for failure in part.failures] == [kind]
    try:
        raise RunFailed.of("r1", [BAD, LATE])
    except* NodeFailed as group:
        seen = [
            (error.failure.node, str(error))
            for error in group.exceptions
            if isinstance(error, NodeFailed)
        ]
    assert seen == [("a", "a: ValueError: no 1"), ("b/c", "b/c: no end within 1 s")]


def test_faults_of_the_environment_say_whether_again_may_help() -> None:
    assert not StoreError("disk full").retryable
    assert BackendError("busy", retryable=True).retryable
    for kind in (BackendError, StoreError, StaleEpoch):
        assert issubclass(kind, EnvironmentFault)
        assert issubclass(kind, OnreadyError)


def test_events_hold_keys_and_stored_values_only() -> None:
    event = NodeSucceeded(1, 2.0, NodeKey.parse("a[3]/b"), 1, 7)
    data = msgspec.msgpack.encode(event, enc_hook=encode_hook)
    again = msgspec.msgpack.decode(data, type=NodeSucceeded, dec_hook=decode_hook)
    assert again == event
    assert str(again.node) == "a[3]/b"
    event.value = Live(object())
    with pytest.raises(TypeError, match="live object"):
        msgspec.msgpack.encode(event, enc_hook=encode_hook)
    with pytest.raises(TypeError, match="no complex"):
        encode_hook(1j)
    with pytest.raises(TypeError, match="no complex"):
        decode_hook(complex, "1j")
    with pytest.raises(TypeError, match="no NodeKey"):
        decode_hook(NodeKey, 3)
