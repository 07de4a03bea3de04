"""Fake containers: real child processes, in namespaces of their own.

What they lack: an image's files (they see this machine's programs), limits of processors (taken, and
not held), networks, volumes, devices. A limit of memory is held by looking, every few milliseconds.

Rule of this room: containers and their processes; no HTTP.
"""

from __future__ import annotations

import asyncio
import json
import math
import os
import pwd
import re
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import cast

import anyio
import psutil

from tests.docker.fake.output import Log, pieces, readable, stamp

Json = Mapping[str, object]
INSIDE = Path(__file__).with_name("inside.py")
NEVER = "0001-01-01T00:00:00Z"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_OCI = (
    "failed to create shim task: OCI runtime create failed: runc create failed: "
    "unable to start container process: "
)
_LOOK = 0.005


class Refusal(Exception):
    """The daemon's no: a status and its words."""

    def __init__(self, status: int, message: str = "") -> None:
        self.status = status
        super().__init__(message)


def _ids(user: str) -> tuple[int, int]:
    """A user and a group by number or name."""
    name, _, group = user.partition(":")
    if not name:
        return 0, 0
    if name.isdigit():
        return int(name), int(group or 0)
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise Refusal(400, f"unable to find user {name}: no matching entries") from None
    return found.pw_uid, int(group) if group.isdigit() else found.pw_gid


class Container:
    """One container: `body` is what it was created with."""

    def __init__(self, name: str, body: Json, folder: Path, *, forgetful: bool) -> None:
        self.id = secrets.token_hex(32)
        self.name = name or f"fake_{self.id[:8]}"
        self.body = body
        self.host = cast("Json", body.get("HostConfig") or {})
        self.labels = cast("Mapping[str, str]", body.get("Labels") or {})
        self.created = stamp(time.time_ns())
        self.status = "created"
        self.code = 0
        self.error = ""
        self.starved = False
        self.tells_after = 0.0
        """Seconds after which its want of memory is told in an event; if any, its state lacks it."""
        self.told_starved = asyncio.Event()
        self.pid = 0
        self.started = self.finished = NEVER
        self.starts = 0
        """How many times a process of it was started."""
        self.log = Log(forgetful=forgetful)
        self.ended = asyncio.Event()
        self.ended.set()
        self.removing = False
        self.removed = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self._root = folder / self.id[:12]

    @property
    def runs(self) -> bool:
        return self.status == "running"

    # --- its beginning ------------------------------------------------------------------------

    async def start(self) -> None:
        """Start it; Refusal with the daemon's words, or 304 where it runs."""
        if self.runs:
            raise Refusal(304)
        order = self._order()
        self._root.mkdir(exist_ok=True)
        given_read, given = os.pipe()
        told, told_write = os.pipe()
        out, out_write = os.pipe()
        err, err_write = os.pipe()
        child = subprocess.Popen(
            [sys.executable, "-I", "-S", str(INSIDE), str(given_read), str(told_write)],
            stdin=subprocess.DEVNULL,
            stdout=out_write,
            stderr=err_write,
            pass_fds=(given_read, told_write),
        )
        for descriptor in (given_read, told_write, out_write, err_write):
            os.close(descriptor)
        with os.fdopen(given, "w") as file:
            json.dump(order, file)
        said = b"".join([data async for data in pieces(told)])
        facts: dict[str, object] = {}
        for line in said.splitlines():
            facts |= json.loads(line)
        if "error" in facts or "pid" not in facts:
            await self._stillborn(child, out, err, facts)
        self.pid = cast("int", facts["pid"])
        self.starts += 1
        self.status, self.error, self.code, self.starved = "running", "", 0, False
        self.started, self.finished = stamp(time.time_ns()), NEVER
        self.ended.clear()
        self.task = asyncio.create_task(self._see(child, out, err))

    async def _stillborn(
        self, child: subprocess.Popen[bytes], out: int, err: int, facts: Mapping[str, object]
    ) -> None:
        os.close(out)
        words = b"".join([data async for data in pieces(err)]).decode()
        child.wait()
        self._root.rmdir()
        self.code = cast("int", facts.get("code", 128))
        self.error = f"{_OCI}{facts.get('error', words)}: unknown"
        raise Refusal(400 if self.code in {126, 127} else 500, self.error)

    def _order(self) -> dict[str, object]:
        uid, gid = _ids(str(self.body.get("User") or ""))
        given = cast("list[str]", self.body.get("Env") or [])
        environment = {"PATH": PATH, "HOSTNAME": self.id[:12], "HOME": "/"}
        environment |= dict(entry.split("=", 1) for entry in given)
        mounts = cast("list[Mapping[str, object]]", self.host.get("Mounts") or [])
        placed = [(str(one["Source"]), str(one["Target"]), bool(one["ReadOnly"])) for one in mounts]
        return {
            "root": str(self._root),
            "argv": self.argv,
            "environment": environment,
            "mounts": sorted(placed, key=lambda one: one[1].count("/")),
            "workdir": str(self.body.get("WorkingDir") or "/"),
            "hostname": self.id[:12],
            "init": bool(self.host.get("Init")),
            "uid": uid,
            "gid": gid,
        }

    @property
    def argv(self) -> list[str]:
        entry = cast("list[str]", self.body.get("Entrypoint") or [])
        return [*entry, *cast("list[str]", self.body.get("Cmd") or [])]

    # --- while it runs, and its end -----------------------------------------------------------

    async def _see(self, child: subprocess.Popen[bytes], out: int, err: int) -> None:
        handle = os.pidfd_open(child.pid)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.log.copy, out, 1)
                tasks.start_soon(self.log.copy, err, 2)
                if limit := cast("int", self.host.get("Memory") or 0):
                    tasks.start_soon(self._hold_memory, limit)
                await readable(handle)
                self.code, self.pid = child.wait(), 0
        finally:
            os.close(handle)
            child.kill()
            child.wait()
        self._root.rmdir()
        self.status, self.finished = "exited", stamp(time.time_ns())
        self.ended.set()

    async def _hold_memory(self, limit: int) -> None:
        while self.pid:
            used = 0
            with suppress(psutil.Error):
                first = psutil.Process(self.pid)
                inside = first.children(recursive=True)
                if not self.host.get("Init"):  # ours is a Python, and nobody's memory
                    inside.append(first)
                for process in inside:
                    with suppress(psutil.Error):
                        used += process.memory_info().rss
            if used > limit:
                self.starved = not self.tells_after
                if self.tells_after != math.inf:
                    loop = asyncio.get_running_loop()
                    loop.call_later(self.tells_after, self.told_starved.set)
                self.signal(signal.SIGKILL)
                return
            await asyncio.sleep(_LOOK)

    def signal(self, number: int) -> None:
        """To its first process; all go with that one."""
        if self.pid:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self, given: str, name: str) -> None:
        """A signal by name or number; Refusal where it does not run."""
        if not self.runs:
            words = f"Cannot kill container: {name}: Container {self.id} is not running"
            raise Refusal(409, words)
        text = given.upper().removeprefix("SIG")
        self.signal(int(text) if text.isdigit() else signal.Signals[f"SIG{text}"])

    async def stop(self, grace: float) -> None:
        """TERM, `grace` seconds, KILL; Refusal with 304 where it does not run."""
        if not self.runs:
            raise Refusal(304)
        self.signal(signal.SIGTERM)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.ended.wait(), grace)
        await self.destroy()

    async def destroy(self) -> None:
        """KILL, and wait until nothing of it is left."""
        self.signal(signal.SIGKILL)
        await self.ended.wait()

    async def remove(self, *, force: bool) -> None:
        """Make it ready to be forgotten; Refusal where it runs, or goes already."""
        if self.removing:
            raise Refusal(409, f"removal of container {self.id} is already in progress")
        if self.runs and not force:
            raise Refusal(
                409,
                f"You cannot remove a running container {self.id}. "
                "Stop the container before attempting removal or force remove",
            )
        self.removing = True
        await self.destroy()

    # --- what is told of it -------------------------------------------------------------------

    def state(self) -> dict[str, object]:
        """The part of inspection that matters."""
        return {
            "Status": "removing" if self.removing else self.status,
            "Running": self.runs,
            "Paused": False,
            "Restarting": False,
            "OOMKilled": self.starved,
            "Dead": False,
            "Pid": self.pid,
            "ExitCode": self.code,
            "Error": self.error,
            "StartedAt": self.started,
            "FinishedAt": self.finished,
        }

    def matches(self, filters: Mapping[str, Sequence[str]]) -> bool:
        """Whether it passes a list's filters: labels, names, ids."""
        for label in filters.get("label", ()):
            name, given, text = label.partition("=")
            if name not in self.labels or (given and self.labels[name] != text):
                return False
        names, ids = filters.get("name", ()), filters.get("id", ())
        if names and not any(re.search(name, f"/{self.name}") for name in names):
            return False
        return not ids or any(self.id.startswith(start) for start in ids)
