"""A real Docker engine for tests: the one that answers, or one that is started for the session.

Rule of this room: finding, starting and asking engines; what they are used for is the tests'.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("engine.sh")
SHELL = "onready-test-shell:1"
PYTHON = "onready-test-python:1"
REQUIRED = "docker" in os.environ.get("ONREADY_REQUIRE", "").split(",")


class Daemon:
    """One dockerd of our own, in a folder: killed, stopped, started again as a test likes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = f"unix://{folder}/docker.sock"

    def run(self, verb: str, *arguments: str) -> str:
        done = subprocess.run(
            [str(SCRIPT), verb, str(self.folder), *arguments],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    @property
    def pid(self) -> int:
        return int((self.folder / "docker.pid").read_text())

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone; its containers may go on."""
        pid = self.pid
        os.kill(pid, signal.SIGKILL)
        end = time.monotonic() + 30
        while Path(f"/proc/{pid}").exists() and not _is_zombie(pid):
            assert time.monotonic() < end, "dockerd survives SIGKILL"
            time.sleep(0.01)
        (self.folder / "docker.pid").unlink(missing_ok=True)

    def serve(self, *arguments: str) -> None:
        """Start it again."""
        self.run("serve", *arguments)

    def docker(self, *arguments: str) -> str:
        """What the `docker` command says."""
        return docker(self.host, *arguments)


def _is_zombie(pid: int) -> bool:
    with suppress(OSError):
        return b") Z" in Path(f"/proc/{pid}/stat").read_bytes()
    return True


def docker(host: str, *arguments: str) -> str:
    """What the `docker` command says of this engine."""
    done = subprocess.run(
        ["docker", "-H", host, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def lack() -> str:
    """Why no engine can be started here; "" if one can."""
    missing = [
        name
        for name in ("dockerd", "containerd", "docker", "busybox")
        if shutil.which(name) is None
    ]
    if missing:
        return f"{', '.join(missing)} not installed"
    if os.geteuid() != 0 or not _may_mount():
        return "a Docker engine of our own needs root, and the right to mount"
    return ""


def _may_mount() -> bool:
    """Whether this process has CAP_SYS_ADMIN: root in a container often has not."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> 21 & 1)
    return False


_shared: list[Daemon] = []
"""The session's engine, while somebody uses it."""


@contextmanager
def shared() -> Generator[str]:
    """The address of the one engine of the session; skips, in one loud line, where there is none.

    Whoever uses it leaves no container behind, and does not kill it.
    """
    given = os.environ.get("ONREADY_DOCKER")
    if given or _shared:
        yield given or _shared[0].host
        return
    missing = lack()
    if missing:
        message = f"NO DOCKER ENGINE, its tests do not run: {missing}"
        if REQUIRED:
            pytest.fail(message)
        pytest.skip(message)
    with daemon() as made:
        _shared.append(made)
        try:
            yield made.host
        finally:
            _shared.clear()


@contextmanager
def daemon(*arguments: str) -> Generator[Daemon]:
    """An engine of one's own; gone afterwards, with all it holds."""
    folder = Path(tempfile.mkdtemp(prefix="onready-docker-"))
    made = Daemon(folder)
    try:
        made.run("start", *arguments)
        yield made
    finally:
        made.run("stop")


def podman_lack() -> str:
    """Why no Podman can be started here; "" if one can."""
    missing = [name for name in ("podman", "conmon", "docker") if shutil.which(name) is None]
    return f"{', '.join(missing)} not installed" if missing else lack()


@contextmanager
def podman(folder: Path, images_from: str) -> Generator[str]:
    """The address of a Podman service with its storage in `folder`, and the test images."""
    (folder / "containers.conf").write_text(
        '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=4096:4096"]\n'
        '[engine]\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
    )
    host = f"unix://{folder}/podman.sock"
    places = ["--root", f"{folder}/root", "--runroot", f"{folder}/run", "--tmpdir", f"{folder}/t"]
    settings = {"PATH": os.environ["PATH"], "HOME": str(folder)}
    settings["CONTAINERS_CONF"] = f"{folder}/containers.conf"
    with (folder / "log").open("wb") as log:
        service = subprocess.Popen(
            ["podman", *places, "system", "service", "--time", "0", host],
            env=settings,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + 60
        while not (folder / "podman.sock").exists():
            assert service.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < end, "podman does not begin"
            time.sleep(0.05)
        for image in (SHELL, PYTHON):
            _copy_image(images_from, host, image)
        yield host
    finally:
        service.terminate()
        service.wait(30)
        # It mounts this folder on itself, sometimes twice.
        umount = ["umount", "-l", f"{folder}/root/overlay"]
        while subprocess.run(umount, check=False, capture_output=True).returncode == 0:
            pass


def _copy_image(source: str, target: str, image: str) -> None:
    made = docker(source, "create", image, "true")
    try:
        with subprocess.Popen(
            ["docker", "-H", source, "export", made], stdout=subprocess.PIPE
        ) as export:
            subprocess.run(
                ["docker", "-H", target, "import", "-", image],
                check=True,
                stdin=export.stdout,
                capture_output=True,
                timeout=60,
            )
    finally:
        docker(source, "rm", made)
