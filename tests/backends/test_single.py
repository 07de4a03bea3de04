"""`execute-single-node`: exit codes, the record as the commit, running it again, signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import anyio
import msgspec
import pytest

from onready.engine.names import NodeKey, dispatch_name
from onready.engine.spi import Call, Envelope, Failed, ResultRecord, Shell, Succeeded, result_name
from onready.engine.values.stored import Durable
from onready.engine.worker.record import decode_record
from onready.engine.worker.single import ENVELOPE_VARIABLE
from onready.storage.directory import DirectoryCatalog
from tests.backends import nodes

TIMEOUT = 30.0


class Node:
    """One envelope and its catalog."""

    def __init__(self, folder: Path, what: Callable[..., object], **inputs: Durable) -> None:
        self.folder = folder
        self.name = dispatch_name("run", NodeKey("n"), 1)
        self.envelope = Envelope(
            "run",
            "n",
            1,
            1,
            self.name,
            Call(f"{what.__module__}:{what.__qualname__}"),
            inputs,
            f"file:{folder / 'catalog'}",
        )

    def start(self, **changes: object) -> subprocess.Popen[bytes]:
        envelope = msgspec.structs.replace(self.envelope, **changes)
        return start([], msgspec.json.encode(envelope).decode())

    def run(self, **changes: object) -> tuple[int, str]:
        return ended(self.start(**changes))

    def record(self) -> ResultRecord:
        async def read() -> bytes:
            async with DirectoryCatalog(self.folder / "catalog") as catalog:
                return await catalog.read(result_name("run", self.name))

        return decode_record(anyio.run(read))


def start(arguments: list[str], text: str | None) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    environment.pop(ENVELOPE_VARIABLE, None)
    if text is not None:
        environment[ENVELOPE_VARIABLE] = text
    return subprocess.Popen(
        [sys.executable, "-m", "onready.engine.worker", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    with process:
        output, _ = process.communicate(timeout=TIMEOUT)
    return process.returncode, output.decode()


def test_success_is_committed_and_exits_with_0(tmp_path: Path) -> None:
    node = Node(tmp_path, nodes.double, x=21)
    assert node.run() == (0, "")
    record = node.record()
    assert record.outcome == Succeeded(42)
    assert (record.run, record.node, record.attempt, record.epoch) == ("run", "n", 1, 1)
    assert record.started <= record.ended


def test_failure_is_committed_and_exits_with_1(tmp_path: Path) -> None:
    node = Node(tmp_path, nodes.misfit)
    code, _ = node.run()
    outcome = node.record().outcome
    assert code == 1
    assert isinstance(outcome, Failed)
    assert outcome.failure.node == "n"


def test_what_has_a_record_does_not_run_again(tmp_path: Path) -> None:
    node = Node(tmp_path, nodes.pid)
    assert node.run()[0] == 0
    first = node.record()
    assert node.run()[0] == 0
    assert node.record() == first


def test_an_envelope_in_a_file(tmp_path: Path) -> None:
    node = Node(tmp_path, nodes.double, x=1)
    path = tmp_path / "envelope.json"
    path.write_bytes(msgspec.json.encode(node.envelope))
    assert ended(start([str(path)], None)) == (0, "")
    assert node.record().outcome == Succeeded(2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"version": 2}, "version 2"),
        ({"node": "a b"}, "not a node key"),
        ({"run": "../up"}, "not a run id"),
        ({"work": Shell(("true",))}, "Python functions"),
        ({"catalog": "nowhere:x"}, "no plug-in 'nowhere'"),
    ],
)
def test_a_bad_envelope_exits_with_64(
    tmp_path: Path, changes: dict[str, object], words: str
) -> None:
    code, output = Node(tmp_path, nodes.pid).run(**changes)
    assert code == 64
    assert words in output


@pytest.mark.parametrize(
    ("arguments", "text"), [([], None), ([], "{"), (["/no/such/file"], None), (["a", "b"], "{}")]
)
def test_no_envelope_exits_with_64(arguments: list[str], text: str | None) -> None:
    code, output = ended(start(arguments, text))
    assert code == 64
    assert output.startswith("onready: ")


def test_a_catalog_that_cannot_be_used_exits_with_75(tmp_path: Path) -> None:
    (tmp_path / "catalog").write_text("this is no folder")
    code, _ = Node(tmp_path, nodes.pid).run()
    assert code == 75


def test_its_own_time_limit_is_a_failure(tmp_path: Path) -> None:
    node = Node(tmp_path, nodes.wait_for, path=str(tmp_path / "never"))
    code, _ = node.run(timeout=0.2)
    outcome = node.record().outcome
    assert code == 1
    assert isinstance(outcome, Failed)
    assert outcome.failure.kind == "timeout"


def test_term_runs_the_clean_up_and_commits_nothing(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    node = Node(tmp_path, nodes.clean_up, ledger=str(ledger))
    process = node.start()
    end = time.monotonic() + TIMEOUT
    while not ledger.exists() and time.monotonic() < end:
        time.sleep(0.01)
    process.send_signal(signal.SIGTERM)
    code, _ = ended(process)
    assert code == -signal.SIGTERM
    assert ledger.read_text() == "cleaned"
    with pytest.raises(KeyError):
        node.record()


def test_progress_without_a_listener_is_a_line(tmp_path: Path) -> None:
    code, output = Node(tmp_path, nodes.context).run()
    assert code == 0
    assert output == "onready: progress 50% half\n"


def test_the_record_is_plain_json(tmp_path: Path) -> None:
    node = Node(tmp_path, nodes.double, x=1)
    node.run()
    files = [path for path in (tmp_path / "catalog").rglob("*.json") if node.name in path.name]
    assert json.loads(files[0].read_bytes())["outcome"] == {"type": "succeeded", "value": 2}
