"""Single attempts on a real engine: how they end, what they leave, what is told of it."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import cast

import anyio
import pytest

from onready.backends.docker.backend import DockerBackend, DockerConfig
from onready.backends.docker.body import identity
from onready.engine.errors import BackendError, Failure
from onready.engine.options import Resources
from onready.engine.secrets import SecretProviders
from onready.engine.spi import Attempt, Failed, Lost, Outcome, Shell
from onready.engine.testing.fakes import RecordingReporter
from tests.backends.kit import RUN, Bench, directory, failure
from tests.docker import engines
from tests.docker.engines import SHELL

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(120)]


class Room(Bench):
    """A bench with an open backend, and the `docker` command beside it."""

    backend: DockerBackend
    host: str

    async def run(self, attempt: Attempt) -> Outcome:
        return await self.backend.execute(attempt, RecordingReporter())

    def script(self, text: str, *outputs: str, **inputs: object) -> Attempt:
        shell = Shell(("sh", "-c", text), inputs=tuple(inputs), outputs=outputs, image=SHELL)
        return self.attempt(shell, inputs)  # type: ignore[arg-type] # scalars are stored as they are

    async def docker(self, *arguments: str) -> str:
        return await anyio.to_thread.run_sync(engines.docker, self.host, *arguments)

    async def left(self) -> list[str]:
        """The containers of ours that are there."""
        found = await self.docker("ps", "-aq", "--filter", f"label=onready.run={RUN}")
        return found.split()


@pytest.fixture
async def room(engine: str, tmp_path: Path) -> AsyncGenerator[Room]:
    async with make_room(engine, tmp_path) as made:
        yield made
    assert not await made.left()


@asynccontextmanager
async def make_room(engine: str, folder: Path, **settings: object) -> AsyncGenerator[Room]:
    async with directory(folder) as catalog:
        config = DockerConfig.model_validate({"host": engine, "image": SHELL, **settings})
        async with config.open() as backend:
            made = Room(catalog, folder)
            made.backend, made.host = backend, engine
            yield made


# --- ends -----------------------------------------------------------------------------------------


async def test_a_program_gives_its_output_and_its_files(room: Room) -> None:
    outcome = await room.run(room.script('echo "$ONREADY_INPUT_X"; echo no >&2', x="a b"))
    assert await room.value(outcome) == "a b"
    attempt = room.script("id -u > who; mkdir d; echo 7 > d/n; pwd > where", "who", "d/n", "where")
    value = cast("dict[str, object]", await room.value(await room.run(attempt)))
    texts = {name: Path(str(file)).read_text().strip() for name, file in _paths(value).items()}
    assert texts == {
        "who": str(os.getuid()),
        "d/n": "7",
        "where": str(attempt.folder / "work"),
    }
    assert not attempt.folder.exists()


def _paths(value: dict[str, object]) -> dict[str, Path]:
    return {name: cast("Path", getattr(file, "path", file)) for name, file in value.items()}


KINDS = [
    ("exit 7", "exit", 7, "exited with status 7"),
    ("kill -9 $$", "exit", 137, "was killed by signal 9"),
    ("kill -11 $$; sleep 1", "exit", 139, "was killed by signal 11"),
]


@pytest.mark.parametrize(("text", "kind", "code", "said"), KINDS)
async def test_an_end_has_its_kind(room: Room, text: str, kind: str, code: int, said: str) -> None:
    found = failure(await room.run(room.script(f"echo last words; {text}")))
    assert (found.kind, found.exit_code) == (kind, code)
    assert said in found.message
    assert found.log == ("last words",)


GREEDY = "x=$(yes | head -c 200000000)"
SMALL = Resources(memory="16Mi", cpu=0.5)


async def test_want_of_memory_has_its_kind(room: Room) -> None:
    # It lives on for a while: Docker may miss a want of memory that is a container's end.
    script = f"sh -c '{GREEDY}'; sleep 2; exit 137"
    found = failure(await room.run(replace(room.script(script), resources=SMALL)))
    assert (found.kind, found.exit_code) == ("oom", 137)
    assert "limit 16Mi" in found.message


async def test_want_of_memory_that_is_an_end_names_the_limit(room: Room) -> None:
    found = failure(await room.run(replace(room.script(GREEDY), resources=SMALL)))
    assert found.kind in {"oom", "exit"}  # see above
    assert found.exit_code == 137
    assert "16Mi" in found.message


@pytest.mark.parametrize("init", [True, False])
async def test_a_program_that_is_not_there_is_the_definitions_fault(room: Room, init: bool) -> None:
    attempt = replace(
        room.attempt(Shell(("no-such-program",), image=SHELL)), options={"init": init}
    )
    found = failure(await room.run(attempt))
    assert (found.kind, found.exit_code) == ("config", 127)
    assert "no-such-program" in found.message


async def test_an_image_that_is_not_there(room: Room) -> None:
    attempt = room.attempt(Shell(("true",), image="nowhere.invalid/none:1"))
    found = failure(await room.run(attempt))
    assert found.kind == "image"
    assert "cannot be pulled" in found.message
    attempt = replace(attempt, name=attempt.name + "b", options={"pull": "never"})
    found = failure(await room.run(attempt))
    assert found.kind == "image"
    assert "No such image" in found.message
    assert "'never'" in found.message


async def test_what_the_daemon_refuses_is_said_in_its_words(room: Room) -> None:
    attempt = replace(room.script("true"), options={"mounts": ["/no/such/folder:/x"]})
    found = failure(await room.run(attempt))
    assert found.kind == "config"
    assert "bind source path does not exist" in found.message


async def test_outputs_that_are_missing_or_lead_out_are_refused(room: Room) -> None:
    found = failure(await room.run(room.script("true", "out")))
    assert (found.kind, "left no 'out'" in found.message) == ("error", True)
    found = failure(await room.run(room.script("ln -s /etc/passwd out; cat /dev/null", "out")))
    assert "leads out" in found.message or "left no" in found.message


async def test_options_reach_the_container(engine: str, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "x").write_text("mounted")
    options: dict[str, object] = {
        "environment": {"COLOUR": "blue"},
        "mounts": [f"{tmp_path}/data:/data:ro"],
        "workdir": "/data",
        "user": "1234:1235",
        "network": "none",
        "shm_size": "1Mi",
        "ulimits": {"nofile": "99:100"},
        "labels": {"team": "red"},
    }
    text = (
        "echo $COLOUR; cat x; pwd; id -u; id -g; ulimit -n; cat /sys/class/net/*/address; "
        "while read -r a b c d; do [ $b = /dev/shm ] && echo $d; done < /proc/mounts; true"
    )
    async with make_room(engine, tmp_path) as room:
        attempt = replace(room.script(text), options=options)
        value = str(await room.value(await room.run(attempt))).splitlines()
    *seen, interface, shared = value
    assert seen == ["blue", "mounted/data", "1234", "1235", "99"]
    assert interface == "00:00:00:00:00:00"  # the loopback alone
    assert "size=1024k" in shared


async def test_secrets_are_files_and_not_in_what_the_daemon_tells(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = "canary-5f1d7c"
    monkeypatch.setenv("MY_TOKEN", canary)
    gate = tmp_path / "gate"
    text = f"while [ ! -e {gate} ]; do sleep 0.05; done; cat $TOKEN_FILE | wc -c"
    attempt = replace(
        room.script(text),
        options={"secrets": {"TOKEN": "MY_TOKEN"}, "mounts": [f"{tmp_path}:{tmp_path}"]},
        secrets=SecretProviders(),
    )
    outcomes: list[Outcome] = []

    async def run() -> None:
        outcomes.append(await room.run(attempt))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await begun(room, attempt)
        told = await room.docker("inspect", attempt.name)
        assert canary not in told
        gate.touch()
    assert str(await room.value(outcomes[0])).strip() == str(len(canary))
    missing = replace(attempt, name=attempt.name + "b", options={"secrets": {"TOKEN": "NONE"}})
    found = failure(await room.run(missing))
    assert "no provider has the secret 'NONE'" in found.message


# --- stopping, adopting, clashing ------------------------------------------------------------------


async def begun(room: Room, attempt: Attempt) -> None:
    """Wait until its container runs."""
    with anyio.fail_after(60):
        while attempt.name not in await room.docker("ps", "--format", "{{.Names}}"):
            await anyio.sleep(0.05)


async def test_cancelling_stops_with_grace_then_kills_then_removes(
    room: Room, tmp_path: Path
) -> None:
    polite = room.script("sleep 600")
    marks = tmp_path / "marks"
    text = f"trap 'echo term >> {marks}' TERM; while true; do sleep 0.1; done"
    rude = replace(room.script(text), options={"mounts": [f"{tmp_path}:{tmp_path}"]})
    for attempt in (polite, rude):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(room.run, attempt)
            await begun(room, attempt)
            await anyio.sleep(0.3)
            tasks.cancel_scope.cancel()
        assert not await room.left()
    assert marks.read_text().startswith("term")


async def _touch_soon(gate: Path) -> None:
    await anyio.sleep(0.5)
    gate.touch()


async def test_one_that_was_left_running_is_adopted_and_one_that_ended_is_harvested(
    room: Room, engine: str, tmp_path: Path
) -> None:
    ledger, gate = tmp_path / "ledger", tmp_path / "gate"
    text = (
        f"echo begun >> {ledger}; while [ ! -e {gate} ]; do sleep 0.05; done; "
        "echo out; echo 42 > answer"
    )
    for ends_first in (False, True):
        gate.unlink(missing_ok=True)
        ledger.unlink(missing_ok=True)
        attempt = replace(
            room.script(text, "answer"), options={"mounts": [f"{tmp_path}:{tmp_path}"]}
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(room.run, attempt)
            with anyio.fail_after(60):
                while not ledger.exists():
                    await anyio.sleep(0.05)
            attempt.fenced = True  # the driver goes, the container stays
            tasks.cancel_scope.cancel()
        assert len(await room.left()) == 1
        attempt.fenced = False
        if ends_first:
            gate.touch()
            with anyio.fail_after(60):
                while attempt.name in await room.docker("ps", "--format", "{{.Names}}"):
                    await anyio.sleep(0.05)
        report = RecordingReporter()
        outcome: Outcome | None = None
        config = DockerConfig(host=engine, image=SHELL)
        async with config.open() as other, anyio.create_task_group() as tasks:
            tasks.start_soon(_touch_soon, gate)
            outcome = await other.recover(attempt, report)
        value = cast("dict[str, object]", await room.value(outcome))
        assert {name: path.read_text() for name, path in _paths(value).items()} == {
            "answer": "42\n"
        }
        assert report.output("stdout") == b"out\n"
        assert ledger.read_text() == "begun\n"
        # What was recorded is believed, though its container is gone.
        again = await room.backend.recover(attempt, RecordingReporter())
        assert again == outcome


async def test_a_name_that_is_taken_by_something_else_is_a_loud_clash(room: Room) -> None:
    attempt = room.script("true")
    other = {**identity(attempt), "onready.node": "another[1]"}
    labels = [word for name, text in other.items() for word in ("--label", f"{name}={text}")]
    for extra in ([], labels):
        made = await room.docker("create", "--name", attempt.name, *extra, SHELL, "true")
        with pytest.raises(BackendError, match="is not this attempt's") as raised:
            await room.run(attempt)
        assert not raised.value.retryable
        # It is not ours to remove.
        assert made.startswith(await room.docker("ps", "-aq", "--filter", f"name={attempt.name}"))
        await room.docker("rm", "-f", made)


async def test_one_that_was_removed_meanwhile_is_lost(room: Room) -> None:
    attempt = room.script("sleep 600")
    outcomes: list[Outcome] = []

    async def run() -> None:
        outcomes.append(await room.run(attempt))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await begun(room, attempt)
        await room.docker("rm", "-f", attempt.name)
    found = outcomes[0]
    if isinstance(found, Failed):  # it was seen dead before it was gone
        assert found.failure.exit_code == 137
    else:
        assert isinstance(found, Lost)
        assert "removed by somebody else" in found.failure.message


async def test_a_sweep_takes_what_nobody_wants_and_nothing_else(room: Room) -> None:
    attempt = room.script("true")
    made = {**identity(attempt), "onready.epoch": "1"}
    labels = [word for name, text in made.items() for word in ("--label", f"{name}={text}")]
    await room.docker("create", "--name", "stale", *labels, SHELL, "true")
    await room.docker("run", "-d", "--name", "running", *labels, SHELL, "sleep", "600")
    await room.docker("create", "--name", "decoy", "--label", "onready.run=test2", SHELL, "true")
    await room.docker("create", "--name", "decoy2", SHELL, "true")
    try:
        assert await room.backend.sweep(lambda labels: labels.run == RUN) == 0
        assert await room.backend.sweep(lambda labels: labels.run != RUN) == 2
        names = (await room.docker("ps", "-a", "--format", "{{.Names}}")).split()
        assert {"decoy", "decoy2"} <= set(names)
        assert not {"stale", "running"} & set(names)
    finally:
        await room.docker("rm", "-f", "decoy", "decoy2")


# --- output ---------------------------------------------------------------------------------------


async def test_a_long_line_and_much_output_are_complete(room: Room) -> None:
    # Longer than Docker's own pieces of a line, and more than is kept in memory.
    text = "head -c 300000 /dev/zero | tr '\\0' 'x'; echo; yes | head -n 200000; printf end"
    report = RecordingReporter()
    attempt = room.script(text)
    outcome = await room.backend.execute(attempt, report)
    expected = b"x" * 300_000 + b"\n" + b"y\n" * 200_000 + b"end"
    assert report.output("stdout") == expected
    assert await room.value(outcome) == expected.decode()


async def test_a_failure_is_an_outcome_that_is_recorded(room: Room) -> None:
    attempt = room.script("exit 3")
    first = await room.run(attempt)
    assert isinstance(first, Failed)
    again = await room.backend.recover(attempt, RecordingReporter())
    assert isinstance(again, Failed)
    assert _plain(again.failure) == _plain(first.failure)


def _plain(found: Failure) -> object:
    return json.loads(json.dumps([found.kind, found.message, found.exit_code, found.node]))
