"""The FastAPI example as a real server process, spoken to by a real HTTP client."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
PATIENCE = 40.0
TEXTS = ["to be or not to be", "that is the question"]


@contextmanager
def serve(folder: Path) -> Generator[httpx.Client]:
    """The app under uvicorn on a free port of the loopback interface."""
    command = [sys.executable, "-m", "uvicorn", "fastapi_app:app", "--app-dir", str(EXAMPLES)]
    with (folder / "server.log").open("w+", encoding="utf-8") as log:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", "0"],
            stderr=log,
            stdout=log,
            env=os.environ | {"APP_FOLDER": str(folder / "onready")},
        )
        try:
            with httpx.Client(base_url=address_in(folder / "server.log"), timeout=20) as client:
                yield client
        finally:
            server.terminate()
            assert server.wait(30) in {0, -15}, (folder / "server.log").read_text()


def address_in(log: Path) -> str:
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = re.search(r"running on (http://\S+)", log.read_text())
        if found:
            return found[1]
        time.sleep(0.05)
    pytest.fail(f"the server did not start:\n{log.read_text()}")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[httpx.Client]:
    with serve(tmp_path) as client:
        yield client


def start(client: httpx.Client, pause: float = 0.1) -> str:
    reply = client.post("/runs", json={"texts": TEXTS, "pause": pause})
    assert reply.status_code == 202, reply.text
    return str(reply.json()["id"])


def events(client: httpx.Client, run: str, after: int = 0) -> list[dict[str, object]]:
    """All events of a run: returns when the server ends the stream."""
    headers = {"Last-Event-ID": str(after)} if after else {}
    with client.stream("GET", f"/runs/{run}/events", headers=headers) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        blocks = "".join(stream.iter_text()).strip().split("\n\n")
    found: list[dict[str, object]] = []
    for block in filter(None, blocks):
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        data = json.loads(fields["data"])
        assert (int(fields["id"]), fields["event"]) == (data["seq"], data["type"])
        found.append(data)
    return found


def test_a_run_from_start_to_result(client: httpx.Client) -> None:
    run = start(client)
    seen = events(client, run)
    assert [event["seq"] for event in seen] == list(range(1, len(seen) + 1))
    assert (seen[0]["type"], seen[-1]["type"]) == ("run.started", "run.succeeded")
    ended = {event["node"] for event in seen if event["type"] == "node.succeeded"}
    assert {"count_words[0]", "count_words[1]", "add_up"} <= ended
    status = client.get(f"/runs/{run}").json()
    assert status["status"] == "succeeded"
    assert status["words"]["be"] == 2
    assert status["words"]["question"] == 1


def test_events_arrive_while_the_run_goes_on_and_go_on_after_a_break(client: httpx.Client) -> None:
    run = start(client, pause=30)
    with client.stream("GET", f"/runs/{run}/events") as stream:
        first = next(line for line in stream.iter_lines() if line.startswith("id: "))
    assert first == "id: 1"
    assert client.get(f"/runs/{run}").json()["status"] == "running"
    assert client.delete(f"/runs/{run}").json()["status"] == "cancelled"
    rest = events(client, run, after=1)
    assert rest[0]["seq"] == 2
    assert rest[-1]["type"] == "run.cancelled"


def test_runs_share_one_loop(client: httpx.Client) -> None:
    began = [start(client, pause=0.5) for _ in range(20)]
    results = [events(client, run)[-1]["type"] for run in began]
    assert results == ["run.succeeded"] * 20


def test_what_is_wrong_is_told(client: httpx.Client) -> None:
    assert client.get("/runs/nope").status_code == 404
    assert client.get("/runs/nope/events").status_code == 404
    assert client.delete("/runs/nope").status_code == 404
    assert client.post("/runs", json={"texts": "no list"}).status_code == 422
    run = start(client)
    headers = {"Last-Event-ID": "-1"}
    assert client.get(f"/runs/{run}/events", headers=headers).status_code == 422


def test_events_outlive_the_app(tmp_path: Path) -> None:
    with serve(tmp_path) as client:
        run = start(client)
        before = events(client, run)
    with serve(tmp_path) as client:
        assert events(client, run) == before
        assert events(client, run, after=3) == before[3:]
        assert client.get(f"/runs/{run}").json()["status"] == "succeeded"


def test_stopping_the_app_cancels_what_runs(tmp_path: Path) -> None:
    with serve(tmp_path) as client:
        run = start(client, pause=60)
    with serve(tmp_path) as client:
        assert events(client, run)[-1]["type"] == "run.cancelled"


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_commands_of_its_docstring_work(client: httpx.Client) -> None:
    source = (EXAMPLES / "fastapi_app.py").read_text(encoding="utf-8")
    lines = source.split('"""')[1].replace("\\\n", " ").splitlines()
    commands = [line.strip() for line in lines if line.strip().startswith("curl ")]
    assert len(commands) == 5
    run = ""
    for command in commands:
        here = command.replace("http://", "").replace("localhost:8000", str(client.base_url)[7:])
        arguments = shlex.split(here.replace("/ID", f"/{run}"), comments=True)
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=30, check=True)
        if not run:
            run = str(json.loads(done.stdout)["id"])
            events(client, run)
        assert run in done.stdout, (command, done.stdout)
