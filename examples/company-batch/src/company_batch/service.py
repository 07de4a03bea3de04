"""A small batch service over HTTP that really runs programs. For tests; it stands for the real one.

`python -m company_batch.service [--port N] [--slots N] [--flaky]` prints its address and serves
until TERM. The token is COMPANY_BATCH_TOKEN. Each job runs in a folder and a session of its own;
what is left of its process group is killed when it ends. `--flaky`: of the requests, some get a
503 before anything was done, and some after it was; none more than twice in a row, so that whoever
tries again gets there.
"""

from __future__ import annotations

import argparse
import hmac
import itertools
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType
from typing import Any
from urllib.parse import parse_qs, urlsplit

# Faults of a flaky service: it refuses, or does it and says that it has not.
_UNDONE = 3
_DONE = 5


class BatchJob:
    """One job: its program, its folder, and what became of it."""

    def __init__(self, spec: Mapping[str, Any], folder: Path, slots: threading.Semaphore) -> None:
        self.id = secrets.token_hex(8)
        self.name = str(spec["name"])
        self.labels = dict(spec.get("labels", {}))
        self.phase = "queued"
        self.exit_code: int | None = None
        self.reason = ""
        self._argv = [str(argument) for argument in spec["argv"]]
        self._folder = folder / self.id
        self._folder.mkdir(mode=0o700)
        for name, text in dict(spec.get("files", {})).items():
            (self._folder / Path(name).name).write_text(text, encoding="utf-8")
        self._slots = slots
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def state(self) -> dict[str, object]:
        """What `poll` asks for."""
        return {"phase": self.phase, "exit_code": self.exit_code, "reason": self.reason}

    def summary(self) -> dict[str, object]:
        """What a listing shows."""
        return {"id": self.id, "name": self.name, "labels": self.labels}

    def output(self, stream: str) -> bytes:
        """All that the job wrote to a stream."""
        path = self._folder / f".{stream}"
        return path.read_bytes() if path.exists() else b""

    def cancel(self, grace: float) -> None:
        """TERM, `grace` seconds, KILL."""
        with self._lock:
            self.reason = self.reason or "cancelled"
            self._signal(signal.SIGTERM)
        timer = threading.Timer(grace, self.kill)
        timer.daemon = True
        timer.start()

    def kill(self) -> None:
        """KILL to the whole group."""
        with self._lock:
            self._signal(signal.SIGKILL)

    def remove(self) -> None:
        """Delete the job's files once it has ended."""
        self._thread.join(10)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            os.killpg(self._process.pid, number)

    def _run(self) -> None:
        with self._slots, self._open("stdout") as out, self._open("stderr") as err:
            with self._lock:
                if self.reason:  # Cancelled while it was queued.
                    self.phase = "failed"
                    return
                try:
                    self._process = subprocess.Popen(
                        self._argv,
                        cwd=self._folder,
                        stdin=subprocess.DEVNULL,
                        stdout=out,
                        stderr=err,
                        start_new_session=True,
                    )
                except OSError as error:
                    self.reason, self.phase = str(error), "failed"
                    return
                self.phase = "running"
            self._end(self._process)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        # Look without reaping: the group's number stays ours while what is left of it is killed.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        with self._lock:
            os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
            self.exit_code = code if code >= 0 else 128 - code
            self.phase = "failed" if self.exit_code else "succeeded"

    def _open(self, stream: str) -> Any:
        return (self._folder / f".{stream}").open("wb")


class Service(ThreadingHTTPServer):
    """All jobs, by id, and the rule that a name is there once."""

    daemon_threads = True

    def __init__(self, port: int, slots: int, token: str, *, flaky: bool = False) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.token = token
        self.jobs: dict[str, BatchJob] = {}
        self.lock = threading.Lock()
        self.flaky = flaky
        self._requests = itertools.count(1)
        self._refused: dict[str, int] = {}
        self._slots = threading.Semaphore(slots)
        self._folder = Path(tempfile.mkdtemp(prefix="company-batch-"))

    def fault_of(self, request: str) -> int:
        """What goes wrong with this request, if anything."""
        fault = next(self._requests) % 7 if self.flaky else 0
        refused = self._refused.pop(request, 0)
        if fault not in {_UNDONE, _DONE} or refused == 2:
            return 0
        self._refused[request] = refused + 1
        return fault

    def submit(self, spec: Mapping[str, Any]) -> tuple[int, BatchJob]:
        """201 and a new job, or 409 and the job that has the name."""
        with self.lock:
            for job in self.jobs.values():
                if job.name == spec["name"]:
                    return 409, job
            job = BatchJob(spec, self._folder, self._slots)
            self.jobs[job.id] = job
            return 201, job

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hung up is no news; anything else is."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)

    def close(self) -> None:
        """Kill what runs and delete all files."""
        for job in list(self.jobs.values()):
            job.cancel(0.0)
            job.kill()
            job.remove()
        shutil.rmtree(self._folder, ignore_errors=True)
        self.server_close()


class Handler(BaseHTTPRequestHandler):
    """The API."""

    protocol_version = "HTTP/1.1"
    server: Service  # pyright: ignore[reportIncompatibleVariableOverride] # only ever ours

    def do_GET(self) -> None:
        """`/jobs`, `/jobs?name=`, `/jobs/ID/stdout`, `/jobs/ID/stderr`."""
        self._serve({})

    def do_POST(self) -> None:
        """`/jobs`, and `/jobs/states`, `/jobs/cancel`, `/jobs/remove` with ids."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self._serve(json.loads(body or b"{}"))

    def _serve(self, content: Mapping[str, Any]) -> None:
        wanted = f"Bearer {self.server.token}"
        number = self.server.fault_of(f"{self.command} {self.path} {content}")
        if not hmac.compare_digest(self.headers.get("Authorization", ""), wanted):
            self._reply(401, b"wrong token")
        elif number == _UNDONE:
            self._reply(503, b"busy; nothing was done")
        else:
            status, body = self._answer(content)
            done = number == _DONE
            self._reply(503 if done else status, b"busy; it was done" if done else body)

    def _answer(self, content: Mapping[str, Any]) -> tuple[int, bytes]:
        address = urlsplit(self.path)
        jobs = self.server.jobs
        match (self.command, *address.path.strip("/").split("/")):
            case ("POST", "jobs"):
                status, job = self.server.submit(content)
                return status, _json(job.summary())
            case ("POST", "jobs", "states"):
                known = [jobs[name] for name in content["ids"] if name in jobs]
                return 200, _json({job.id: job.state() for job in known})
            case ("POST", "jobs", "cancel"):
                for name in content["ids"]:
                    if name in jobs:
                        jobs[name].cancel(float(content["grace"]))
                return 200, b"{}"
            case ("POST", "jobs", "remove"):
                for name in content["ids"]:
                    if name in jobs:
                        jobs.pop(name).remove()
                return 200, b"{}"
            case ("GET", "jobs"):
                name = parse_qs(address.query).get("name", [None])[0]
                found = [job for job in list(jobs.values()) if name in {None, job.name}]
                return 200, _json([job.summary() for job in found])
            case ("GET", "jobs", job_id, "stdout" | "stderr" as stream) if job_id in jobs:
                return 200, jobs[job_id].output(stream)
            case _:
                return 404, b"no such thing"

    def _reply(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base's name
        """Say nothing of each request."""


def _json(value: object) -> bytes:
    return json.dumps(value).encode()


def main() -> None:
    """Serve until TERM."""
    options = argparse.ArgumentParser(description="A small batch service, for tests.")
    options.add_argument("--port", type=int, default=0, help="0: any that is free")
    options.add_argument("--slots", type=int, default=4, help="jobs that run at once")
    options.add_argument("--flaky", action="store_true", help="answer 503 now and then")
    given = options.parse_args()
    token = os.environ.get("COMPANY_BATCH_TOKEN", "")
    if not token:
        sys.exit("set COMPANY_BATCH_TOKEN to the token that clients must show")
    service = Service(given.port, given.slots, token, flaky=given.flaky)

    def stop(_number: int, _frame: FrameType | None) -> None:
        threading.Thread(target=service.shutdown, daemon=True).start()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    print(f"http://127.0.0.1:{service.server_port}", flush=True)
    try:
        service.serve_forever(poll_interval=0.05)
    finally:
        service.close()


if __name__ == "__main__":
    main()
