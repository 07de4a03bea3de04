"""Workers where something around the call goes wrong: the catalog, the driver, the clock."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path

import anyio
import msgspec
import pytest

from onready.engine.context import NodeContext
from onready.engine.errors import GraphError
from onready.engine.graph import Provided
from onready.engine.loading import load_file
from onready.engine.logs import LogStore
from onready.engine.names import NodeKey
from onready.engine.spi import Call, Envelope, Failed, ResultRecord, Succeeded, result_name
from onready.engine.values import File
from onready.engine.values.stored import Compound, Encoded
from onready.engine.worker import main
from onready.engine.worker.calling import Callee
from onready.engine.worker.ending import Terminated, raise_on_term
from onready.engine.worker.frames import Done, FrameReader, Job, decode_answer, frame
from onready.engine.worker.record import decode_record, encode_envelope, encode_record
from onready.engine.worker.speaking import WorkerReporter
from onready.engine.worker.warm import DESCRIPTOR, WarmWorker
from onready.storage.directory import DirectoryCatalog
from tests.backends import nodes
from tests.backends.test_single import Node

LARGE = 1 << 20
"""Bytes of a value that cannot be inline."""

# --- nodes ---


def lose_catalog(catalog: str, size: int) -> bytes:
    shutil.rmtree(catalog)
    return b"x" * size


def commit_before_me(catalog: str, run: str, name: str) -> None:
    record = ResultRecord(run, "n", 1, 1, Succeeded("first"), 1.0, 2.0)

    async def put() -> None:
        async with DirectoryCatalog(catalog) as store:
            assert await store.put_if_absent(result_name(run, name), encode_record(record))

    anyio.run(put)
    message = "second, and failed"
    raise ValueError(message)


class Late(Exception):
    """Its text is being made when the time limit comes."""

    def __str__(self) -> str:
        signal.raise_signal(signal.SIGALRM)
        return ""


def raise_late() -> None:
    raise Late


def promise_file(path: str) -> File:
    return File(path)


def meet(here: str, gate: str) -> None:
    Path(here).touch()
    nodes.wait_for(gate)


# --- the one-node command ---


@pytest.mark.parametrize("size", [1, LARGE])
def test_a_catalog_lost_while_the_node_runs_exits_with_75(tmp_path: Path, size: int) -> None:
    node = Node(tmp_path, lose_catalog, catalog=str(tmp_path / "catalog"), size=size)
    code, output = node.run()
    assert code == 75
    assert output.startswith("onready: StoreError: ")


def test_who_commits_second_leaves_the_first_record_and_exits_with_0(tmp_path: Path) -> None:
    node = Node(tmp_path, commit_before_me, catalog=str(tmp_path / "catalog"), run="run")
    node.envelope.inputs["name"] = node.name
    assert node.run() == (0, "")
    assert node.record().outcome == Succeeded("first")


def test_a_file_that_was_never_made_is_the_nodes_failure(tmp_path: Path) -> None:
    node = Node(tmp_path, promise_file, path=str(tmp_path / "never made"))
    assert node.run()[0] == 1
    outcome = node.record().outcome
    assert isinstance(outcome, Failed)
    assert "never made" in outcome.failure.message


def test_a_missing_blob_exits_with_75(tmp_path: Path) -> None:
    node = Node(tmp_path, nodes.length, data=Encoded("bytes", None, "0" * 64, LARGE))
    assert node.run()[0] == 75


def test_the_time_limit_holds_while_the_error_is_shown(tmp_path: Path) -> None:
    node = Node(tmp_path, raise_late)
    assert node.run(timeout=600.0)[0] == 1
    outcome = node.record().outcome
    assert isinstance(outcome, Failed)
    assert outcome.failure.type == "TimeUp"


def test_the_command_refuses_what_is_no_envelope(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 64
    assert "give one path of an envelope" in capsys.readouterr().err


def test_infinite_floats_pass_through_json_and_newer_records_are_refused() -> None:
    inf, whole = float("inf"), 2.0
    record = ResultRecord("run", "n", 1, 1, Succeeded(Compound("list", (inf, whole))), 0.0, 1.0)
    data = encode_record(record)
    outcome = decode_record(data).outcome
    assert isinstance(outcome, Succeeded)
    assert isinstance(outcome.value, Compound)
    assert isinstance(outcome.value.items[0], Encoded)
    assert outcome.value.items[1] == whole
    envelope = Envelope("run", "n", 1, 1, "name", Call("a:b"), {"x": inf}, "file:x")
    again = msgspec.json.decode(encode_envelope(envelope), type=Envelope)
    assert again.inputs == {"x": outcome.value.items[0]}
    with pytest.raises(ValueError, match="of version 99"):
        decode_record(msgspec.json.encode(msgspec.structs.replace(record, version=99)))


# --- calls ---


def test_an_input_without_annotation_takes_any_value() -> None:
    def plain(x, y: int):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202 - as users write
        return [x, y]

    assert Callee(plain).arguments({"x": "text", "y": 2}) == {"x": "text", "y": 2}  # pyright: ignore[reportUnknownArgumentType] # as above


def test_a_given_context_is_not_replaced() -> None:
    def asks(ctx: NodeContext = Provided(NodeContext)) -> None: ...

    assert Callee(asks).arguments({"ctx": 5}) == {"ctx": 5}


def test_term_is_an_exception_once() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        raise_on_term()
        with pytest.raises(Terminated):
            signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)


def test_warnings_and_output_go_to_the_workers_streams(capfd: pytest.CaptureFixture[str]) -> None:
    reporter = WorkerReporter(lambda _fraction, _message: None)
    reporter.started("pid 1")
    print("held back", end="; ")
    reporter.log("stdout", b"past it\n")
    reporter.warning("W001", "take care")
    assert capfd.readouterr() == ("held back; past it\n", "onready: W001: take care\n")
    assert reporter.tail(3) == ()


# --- warm workers ---


def job(reference: str, inputs: Mapping[str, str | Encoded], folder: Path, catalog: str) -> Job:
    return Job(reference, "", "run", str(NodeKey("n")), 1, str(folder), catalog, dict(inputs))


def test_a_store_that_cannot_be_used_fails_the_job_alone(tmp_path: Path) -> None:
    blob = Encoded("bytes", None, "0" * 64, LARGE)
    driver, channel = socket.socketpair()
    with driver, channel:
        driver.sendall(frame(job("json:dumps", {"obj": blob}, tmp_path / "a", "nowhere:x")))
        driver.sendall(frame(job("json:dumps", {"obj": "x"}, tmp_path / "b", "")))
        driver.shutdown(socket.SHUT_WR)
        worker = WarmWorker(channel)
        worker.serve()
        worker.close()
        channel.close()
        data = b"".join(iter(lambda: driver.recv(LARGE), b""))
    first, second = map(decode_answer, FrameReader().feed(data))
    assert isinstance(first, Done)
    assert isinstance(first.outcome, Failed)
    assert "nowhere" in first.outcome.failure.message
    assert second == Done(Succeeded('"x"'))


def test_a_worker_whose_driver_left_during_a_job_ends_in_peace(tmp_path: Path) -> None:
    here, gate = tmp_path / "here", tmp_path / "gate"
    driver, channel = socket.socketpair()
    with driver, channel:
        pid = os.posix_spawn(
            sys.executable,
            [sys.executable, "-m", "onready.engine.worker.warm", str(os.getpid())],
            {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            file_actions=[(os.POSIX_SPAWN_DUP2, channel.fileno(), DESCRIPTOR)],
        )
        channel.close()
        reference = f"{meet.__module__}:{meet.__qualname__}"
        driver.sendall(frame(job(reference, {"here": str(here), "gate": str(gate)}, tmp_path, "")))
        nodes.wait_for(str(here))
    gate.touch()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


# --- files and logs ---


def test_a_file_that_is_no_python_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a program")
    with pytest.raises(GraphError, match="no Python file"):
        load_file(path)


def test_a_file_may_take_its_folder_off_the_path_itself(tmp_path: Path) -> None:
    path = tmp_path / "tidy.py"
    path.write_text("import sys\nsys.path.remove(__file__.rpartition('/')[0])\n")
    before = list(sys.path)
    load_file(path)
    assert sys.path == before


def test_a_log_without_output_and_one_that_is_no_log(tmp_path: Path) -> None:
    store = LogStore(tmp_path)
    store.writer("run", "a").close()
    assert not store.path("run", "a").exists()
    path = store.path("run", "b")
    path.parent.mkdir()
    path.write_bytes(b"some other file, longer than a header")
    assert list(store.read("run", "b")) == []


def test_a_write_that_the_system_cuts_short_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(descriptor: int, parts: tuple[bytes, memoryview]) -> int:
        return os.write(descriptor, b"".join(parts)[:20])

    monkeypatch.setattr(os, "writev", short)
    store = LogStore(tmp_path)
    writer = store.writer("run", "a")
    writer.write("stdout", b"all of it")
    writer.close()
    assert [log.data for log in store.read("run", "a")] == [b"all of it"]
