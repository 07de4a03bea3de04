"""A Docker daemon that does wrong (F3, F6, F7, F8, F13): what a real one cannot be made to show.

The daemon is the fake one, which answers as a real one does but for the fault. Whatever it does,
the verdict is that of inspection, no container is started twice, and none is left.
"""

from __future__ import annotations

import hashlib
import math
import os
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import anyio
import pytest

from onready.backends.docker import life
from onready.backends.docker.body import identity
from onready.backends.docker.client import open_client
from onready.backends.docker.frames import LogFrames
from onready.engine.errors import BackendError, Failure
from onready.engine.options import Resources
from onready.engine.spi import Lost
from onready.engine.testing.fakes import RecordingReporter
from tests.backends.kit import failure
from tests.docker import daemons, raw
from tests.docker.fake.containers import Container
from tests.docker.fake.faults import (
    ALWAYS,
    Act,
    breaks,
    cut,
    edited,
    loses,
    says,
    silent,
    since,
    tells,
)
from tests.docker.fake.output import Message
from tests.faults.docker_fake import Room, make_room
from tests.faults.sizes import NIGHTLY, size

LACK = daemons.lack()
pytestmark = [
    pytest.mark.anyio,
    pytest.mark.timeout(600 if NIGHTLY else 120),
    pytest.mark.skipif(bool(LACK), reason=f"NO NAMESPACES FOR FAKE CONTAINERS: {LACK}"),
]
CHATTY = "echo one; echo two >&2; sleep 0.4; echo three; exit 3"


@pytest.fixture
def anyio_backend() -> str:
    """Asyncio alone: as aiodocker is."""
    return "asyncio"


async def verdict(room: Room, report: RecordingReporter | None = None) -> None:
    """A container that ends with 3 after three lines: exactly that is told of it."""
    report = report or RecordingReporter()
    found = failure(await room.run(room.script(CHATTY), report))
    assert (found.kind, found.exit_code) == ("exit", 3)
    assert report.output("stdout") == b"one\nthree\n"
    assert report.output("stderr") == b"two\n"
    assert len(report.handles) == 1


# --- refusals of a daemon that has a fault of its own (F3, F8) ------------------------------------

WORDS = "driver failed: input/output error"


@pytest.mark.parametrize(
    ("call", "times"), [("inspect", 3), ("logs", 3), ("wait", 3), ("remove", 1)]
)
async def test_a_500_for_a_while_changes_nothing(tmp_path: Path, call: str, times: int) -> None:
    async with make_room(tmp_path) as room:
        room.daemon.faults.add(call, says(500, WORDS), times=times)
        await verdict(room)
        await room.gone()
        assert room.daemon.faults.done == [call] * times


@pytest.mark.parametrize("call", ["create", "start"])
async def test_a_500_where_it_begins_is_the_daemons_fault(tmp_path: Path, call: str) -> None:
    async with make_room(tmp_path) as room:
        room.daemon.faults.add(call, says(500, WORDS))
        with pytest.raises(BackendError, match=WORDS) as raised:
            await room.run(room.script("true"))
        assert raised.value.retryable
        assert not room.daemon.starts


async def test_a_start_that_is_obeyed_and_refused_is_seen_to_its_end(tmp_path: Path) -> None:
    async with make_room(tmp_path) as room:
        room.daemon.faults.add("start", says(500, WORDS, does=True))
        await verdict(room)


async def test_a_container_that_cannot_be_removed_is_left_to_a_sweep(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with make_room(tmp_path) as room:
        room.daemon.faults.add("remove", says(500, WORDS), times=ALWAYS)
        await verdict(room)
        with anyio.fail_after(30):
            while not caplog.records:
                await anyio.sleep(0.02)
        (said,) = caplog.messages
        assert "could not be removed" in said
        assert WORDS in said
        room.daemon.faults.clear()
        assert await room.backend.sweep(lambda _: False) == 1


async def test_output_that_can_never_be_read_is_no_result(tmp_path: Path) -> None:
    async with make_room(tmp_path, patience=0.5) as room:
        room.daemon.faults.add("logs", says(500, WORDS), times=ALWAYS)
        found = await room.run(room.script("echo result"))
        assert isinstance(found, Lost)
        assert "its container has ended" in found.failure.message
        assert WORDS in found.failure.message


# --- answers that are lost (F3) -------------------------------------------------------------------


@pytest.mark.parametrize("call", ["create", "start", "inspect", "wait", "remove"])
async def test_an_answer_that_is_lost_changes_nothing(tmp_path: Path, call: str) -> None:
    async with make_room(tmp_path) as room:
        room.daemon.faults.add(call, loses())
        await verdict(room)
        await room.gone()
        assert room.daemon.faults.done == [call]


async def test_a_start_whose_answer_is_lost_is_no_second_start_after_its_end(
    tmp_path: Path,
) -> None:
    async with make_room(tmp_path) as room:
        room.daemon.faults.add("start", loses())
        room.daemon.faults.add("inspect", breaks(), times=4)  # it has ended before it is looked at
        assert await room.value(await room.run(room.script("echo quick"))) == "quick"
        assert room.daemon.calls["start"] == 1


@pytest.mark.parametrize(
    ("call", "begun"),
    [
        ("create", False),
        ("create", True),
        ("inspect", False),
        ("inspect", True),
        ("wait", False),
        ("logs", False),
        ("logs", True),
        ("remove", False),
    ],
)
async def test_a_call_that_is_not_heard_is_made_again(
    tmp_path: Path, call: str, begun: bool
) -> None:
    async with make_room(tmp_path) as room:
        room.daemon.faults.add(call, breaks(begun=begun), times=1 if call == "remove" else 2)
        await verdict(room)


async def test_a_start_that_is_not_heard_is_not_made_again(tmp_path: Path) -> None:
    async with make_room(tmp_path) as room:
        room.daemon.faults.add("start", breaks())
        with pytest.raises(BackendError, match="before it started the container") as raised:
            await room.run(room.script("true"))
        assert raised.value.retryable
        assert room.daemon.calls["start"] == 1
        assert not room.daemon.starts


async def test_one_that_another_driver_has_just_made_is_not_started_by_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_room(tmp_path) as room:
        # As with an answer that is lost, but for the label of who made it.
        monkeypatch.setattr(life, "_REST", 0.5)
        attempt = room.script("true")
        room.plant(attempt.name, {**identity(attempt), life.MAKER: "somebody else"})
        with pytest.raises(BackendError, match="before it started the container"):
            await room.run(attempt)
        assert not room.daemon.starts


# --- answers that never come (F8) -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "act"),
    [
        ("create", silent()),
        ("create", silent(does=True)),
        ("start", silent(does=True)),
        ("inspect", silent()),
        ("logs", silent()),
        ("remove", silent()),
        ("remove", silent(does=True)),
    ],
)
async def test_a_call_that_is_never_answered_is_cut_at_its_deadline(
    tmp_path: Path, call: str, act: Act
) -> None:
    async with make_room(
        tmp_path, deadline=1.5, start_deadline=3.0 if call in {"create", "start"} else 20.0
    ) as room:
        room.daemon.faults.add(call, act)
        await verdict(room)
        await room.gone()
        assert room.daemon.faults.done == [call]


async def test_a_wait_that_is_never_answered_is_not_relied_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with make_room(tmp_path) as room:
        monkeypatch.setattr(life, "_ROUND", 0.3)
        room.daemon.faults.add("wait", silent(begun=True), times=ALWAYS)
        await verdict(room)


async def test_output_that_stops_in_mid_stream_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(life, "_REST", 0.5)
    async with make_room(tmp_path, deadline=1.5) as room:
        # What follows it hears nothing to the end, and what reads the rest at first neither.
        room.daemon.faults.add("logs", silent(begun=True), times=2)
        await verdict(room)
        assert room.daemon.calls["logs"] == 3


async def test_a_daemon_that_answers_nothing_more_leaves_a_warning(tmp_path: Path) -> None:
    async with make_room(tmp_path, deadline=0.3, patience=0.5) as room:
        report = RecordingReporter()
        attempt = room.script("sleep 600")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(room.run, attempt, report)
            with anyio.fail_after(30):
                while not report.handles:
                    await anyio.sleep(0.02)
            for call in ("stop", "remove", "inspect", "wait", "logs"):
                room.daemon.faults.add(call, silent(), times=ALWAYS)
            tasks.cancel_scope.cancel()
        assert [code for code, _ in report.warnings] == ["CancelTimeout"]
        room.daemon.faults.clear()
        assert await room.backend.sweep(lambda _: False) == 1


# --- waits that lie, and inspections that say nothing (F7) ----------------------------------------


@pytest.mark.parametrize(
    "act",
    [
        tells(b""),
        tells(b'{"StatusC'),
        tells(b'{"Error":null,"StatusCode":0}\n'),
        tells(b"[]"),
        breaks(begun=True),
    ],
)
async def test_what_wait_says_is_not_believed(tmp_path: Path, act: Act) -> None:
    async with make_room(tmp_path) as room:
        room.daemon.faults.add("wait", act, times=ALWAYS)
        await verdict(room)
        assert room.daemon.calls["wait"] < 30, "the daemon is asked without a pause"


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"State": 7, "Config": 8}'])
async def test_an_inspection_that_says_nothing_is_made_again(tmp_path: Path, body: bytes) -> None:
    async with make_room(tmp_path) as room:
        room.daemon.faults.add("inspect", tells(body), times=2)
        await verdict(room)


# --- output over streams that break (F7) ----------------------------------------------------------


@pytest.mark.parametrize("polite", [False, True])
@pytest.mark.parametrize("at", [3, 20])
async def test_output_is_complete_where_its_stream_is_cut(
    tmp_path: Path, at: int, polite: bool
) -> None:
    async with make_room(tmp_path) as room:
        # Within a frame's head and within its text: and twice, so that what reads the rest is cut
        # too. Polite: as if this were all.
        room.daemon.faults.add("logs", cut(at, polite=polite), times=2)
        await verdict(room)


SECOND = 1_000_000_000
BEGIN = 1_790_000_000 * SECOND


def messages(chance: random.Random, count: int) -> list[Message]:
    """A log: many messages have one stamp, and the two streams' stamps rise apart."""
    clock = {1: BEGIN, 2: BEGIN}
    made: list[Message] = []
    for number in range(count):
        stream = chance.choice((1, 2))
        clock[stream] += chance.choice((0, 0, 0, 1, 900, 40_000_000, SECOND // 2))
        clock[stream] = max(clock[stream], max(clock.values()) - SECOND)
        text = b"%d of %d" % (number, stream) + chance.choice((b"\n", b"", b"\xff"))
        made.append(Message(stream, clock[stream], text))
    return made


def without_the_first(count: int) -> Act:
    """A daemon that has dropped the oldest of what is asked for."""

    def edit(found: Sequence[Message]) -> Sequence[Message]:
        return found[count:]

    return edited(edit)


async def read_through_faults(room: Room, name: str, seed: int) -> dict[str, str]:
    """The hash of each stream, read as the backend does, over connections that break."""
    chance = random.Random(seed)
    hashes = {"stdout": hashlib.sha256(), "stderr": hashlib.sha256()}
    frames = LogFrames(lambda stream, data: hashes[stream].update(data))
    faults = room.daemon.faults
    for _ in range(chance.randint(0, 4)):
        faults.add("logs", cut(chance.randint(1, 4000), polite=False))
    if chance.random() < 0.3:  # the option is not known, or taken for whole seconds
        faults.add("logs", since(chance.choice((0, BEGIN))))
    async with open_client(room.daemon.host, 5.0) as client:
        while not (await client.logs(name, frames, follow=chance.random() < 0.5)).whole:
            pass
    faults.clear()
    return {stream: found.hexdigest() for stream, found in hashes.items()}


async def test_streams_that_break_give_each_byte_once(tmp_path: Path) -> None:
    async with make_room(tmp_path) as room:
        made = room.plant("noisy", {})
        for seed in range(size(40, 500)):
            made.log.messages = messages(random.Random(seed), 80)
            parts = {"stdout": b"", "stderr": b""}
            for one in made.log.messages:
                parts["stdout" if one.stream == 1 else "stderr"] += one.data
            expected = {stream: hashlib.sha256(part).hexdigest() for stream, part in parts.items()}
            assert await read_through_faults(room, "noisy", seed) == expected, f"seed {seed}"
        del room.daemon.containers[made.id]


async def test_what_is_read_again_may_lack_what_was_seen(tmp_path: Path) -> None:
    async with make_room(tmp_path) as room:
        made = room.plant("noisy", {})
        # Ten messages a second: the stream breaks after thirty, and goes on two seconds earlier, yet
        # without the first five of those.
        made.log.messages = [
            Message(1, BEGIN + number * SECOND // 10, b"%d\n" % number) for number in range(60)
        ]
        got: list[bytes] = []
        frames = LogFrames(lambda _, data: got.append(data))
        length = sum(len(one.frame(stamped=True)) for one in made.log.messages[:30])
        room.daemon.faults.add("logs", cut(length))
        room.daemon.faults.add("logs", without_the_first(5))
        async with open_client(room.daemon.host, 5.0) as client:
            assert not (await client.logs("noisy", frames, follow=False)).whole
            assert b"".join(got) == b"".join(b"%d\n" % number for number in range(30))
            assert (await client.logs("noisy", frames, follow=False)).whole
        assert b"".join(got) == b"".join(b"%d\n" % number for number in range(60))
        del room.daemon.containers[made.id]


# --- removals, kills, memory (F6) -----------------------------------------------------------------


async def test_a_removal_that_is_on_its_way_is_as_good_as_done(tmp_path: Path) -> None:
    async with make_room(tmp_path) as room:
        words = "removal of container abc is already in progress"
        room.daemon.faults.add("remove", says(409, words, does=True))
        await verdict(room)
    assert room.daemon.calls["remove"] == 1, "it was asked for again"


@pytest.mark.parametrize(("broken", "kind"), [(False, "exit"), (True, "evicted")])
async def test_a_container_that_is_killed_has_its_cause(
    tmp_path: Path, broken: bool, kind: str
) -> None:
    async with make_room(tmp_path) as room:
        # 137 while its daemon was out of reach is as likely the machine's doing as the program's.
        report = RecordingReporter()
        if broken:
            room.daemon.faults.add("wait", breaks(), times=ALWAYS)
        found: list[object] = []

        async def run() -> None:
            found.append(await room.run(room.script("echo last; sleep 600"), report))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            with anyio.fail_after(30):
                while not report.output("stdout"):
                    await anyio.sleep(0.02)
            (one,) = room.daemon.containers.values()
            os.kill(one.pid, signal.SIGKILL)
        said = failure(found[0])  # type: ignore[arg-type] # the outcome that `run` kept
        assert (said.kind, said.exit_code, said.log) == (kind, 137, ("last",))


async def starve(room: Room) -> Failure:
    """What is told of a container that wants more memory than it may have."""
    attempt = room.script("echo last; x=$(yes | head -c 200000000)")
    found = failure(await room.run(replace(attempt, resources=Resources(memory="16Mi"))))
    assert (found.exit_code, found.log) == (137, ("last",))
    return found


@pytest.mark.parametrize("late", [0.0, 0.001, 0.5])
async def test_want_of_memory_has_its_cause_also_where_it_is_told_late(
    tmp_path: Path, late: float
) -> None:
    async with make_room(tmp_path) as room:
        room.daemon.tells_after = late
        found = await starve(room)
        assert found.kind == "oom"
        assert "limit 16Mi" in found.message
        assert room.daemon.calls["events"] == (late > 0)


@pytest.mark.parametrize("fault", [None, says(500, WORDS), breaks(), breaks(begun=True)])
async def test_want_of_memory_that_is_never_told_is_held_possible(
    tmp_path: Path, fault: Act | None
) -> None:
    async with make_room(tmp_path) as room:
        room.daemon.tells_after = math.inf
        if fault is not None:
            room.daemon.faults.add("events", fault)
        found = await starve(room)
        assert found.kind == "exit"
        assert "maybe at its limit of memory (16Mi)" in found.message
        assert room.daemon.calls["events"]  # aiohttp asks again where a connection breaks


# --- versions -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("api", "least"), [("1.41", "1.12"), ("1.44", "1.24"), ("1.52", "1.44")])
async def test_old_and_new_daemons(tmp_path: Path, api: str, least: str) -> None:
    async with make_room(tmp_path, api=api, least=least) as room:
        await verdict(room)
        text = "head -c 40000 /dev/zero | tr '\\0' x; echo; printf end"
        report = RecordingReporter()
        await room.run(room.script(text), report)
        # New ones keep the newline that old ones forget.
        assert report.output("stdout") == b"x" * 40_000 + b"\nend"
        answer = await anyio.to_thread.run_sync(raw.call, room.daemon.host, "GET", "/v1.30/info")
        assert (answer.status == 400) == (least == "1.44")


# --- signals (F13) --------------------------------------------------------------------------------

STUBBORN = """
from onready import graph, shell

@graph
def stubborn() -> str:
    script = "trap 'echo heard' TERM; echo begun; while :; do sleep 0.05; done"
    return shell(["sh", "-c", script], backend="docker", options={"image": "onready-test-shell:1"})
"""


@pytest.mark.parametrize("signals", [1, 2])
async def test_sigterm_ends_the_command_line_and_its_container(
    tmp_path: Path, signals: int
) -> None:
    # One signal: the container has its grace, and is killed. Two: it is not waited for.
    async with make_room(tmp_path) as room:
        (tmp_path / "stubborn.py").write_text(STUBBORN)
        settings = f'[backends.docker]\ntype = "docker"\nhost = "{room.daemon.host}"\n'
        (tmp_path / "onready.toml").write_text(settings)
        command = [sys.executable, "-m", "onready", "run", "stubborn.py:stubborn"]
        environment = os.environ | {"ONREADY_GRACE": "0.5" if signals == 1 else "60"}
        async with await anyio.open_process(
            command, cwd=tmp_path, env=environment, stderr=subprocess.STDOUT
        ) as child:
            with anyio.fail_after(60):
                (one,) = await _running(room)
                child.send_signal(signal.SIGTERM)
                if signals == 2:
                    while len(one.log.messages) < 2:  # it was told to stop, and has not
                        await anyio.sleep(0.02)
                    child.send_signal(signal.SIGTERM)
                assert child.stdout is not None
                said = b"".join([part async for part in child.stdout]).decode()
                await child.wait()
        assert child.returncode == 143, said
        assert "Traceback" not in said
        assert not await room.backend.sweep(lambda _: False), "the container was left"


async def _running(room: Room) -> list[Container]:
    """The containers, once one runs and has said so."""
    while True:
        found = [one for one in room.daemon.containers.values() if one.log.messages]
        if found:
            return found
        await anyio.sleep(0.02)
