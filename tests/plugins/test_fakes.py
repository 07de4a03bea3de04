"""The testing kit's fakes: the manual clock and the scripted backend."""

from __future__ import annotations

import os
from pathlib import Path

import anyio
import pytest
from anyio.lowlevel import checkpoint

from onready.engine.errors import BackendError
from onready.engine.names import NodeKey, dispatch_name
from onready.engine.options import Resources
from onready.engine.spi import Attempt, Backend, Call, Failed, Lost, Outcome, Succeeded
from onready.engine.testing import (
    FakeBackend,
    FakePlatform,
    ManualClock,
    RecordingReporter,
    Script,
)
from onready.engine.testing.work import main, written
from onready.storage.memory import MemoryCatalog


def attempt(node: str = "node", number: int = 1) -> Attempt:
    key = NodeKey.parse(node)
    return Attempt(
        run="r",
        key=key,
        number=number,
        epoch=1,
        name=dispatch_name("r", key, number),
        backend="fake",
        work=Call("m:f"),
        inputs={},
        resources=Resources(),
        catalog=MemoryCatalog(),
        folder=Path("unused"),
    )


async def play(backend: FakeBackend, one: Attempt) -> Outcome:
    return await backend.execute(one, RecordingReporter())


# --- the clock ----------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_sleepers_wake_in_order_when_their_time_has_come() -> None:
    clock = ManualClock(100.0)
    woken: list[str] = []

    async def sleep(name: str, seconds: float) -> None:
        await clock.sleep(seconds)
        woken.append(name)

    async with anyio.create_task_group() as tasks:
        for name, seconds in (("late", 3.0), ("early", 1.0), ("now", 0.0)):
            tasks.start_soon(sleep, name, seconds)
        while clock.sleepers < 2 or not woken:
            await checkpoint()
        assert woken == ["now"]
        clock.advance(0.9)
        await checkpoint()
        assert woken == ["now"]
        assert clock.advance_to_next() == pytest.approx(0.1)
        while len(woken) < 2:
            await checkpoint()
        clock.advance(50)
    assert woken == ["now", "early", "late"]
    assert clock.now() == pytest.approx(151.0)
    assert clock.advance_to_next() == 0.0


@pytest.mark.anyio
async def test_a_cancelled_sleeper_is_forgotten() -> None:
    clock = ManualClock()
    with anyio.move_on_after(0.01):
        await clock.sleep(5)
    assert clock.sleepers == 0
    with pytest.raises(ValueError, match="does not go back"):
        clock.advance(-1)


# --- the backend --------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_a_script_for_each_attempt_of_a_node() -> None:
    backend = FakeBackend(
        {
            "node": [Script("fail", kind="oom", message="full"), Script("lose"), Script(value=3)],
            "noisy": Script(output=(("stdout", b"a"), ("stderr", b"b"), ("stdout", b"c"))),
        }
    )
    assert isinstance(backend, Backend)
    failed, lost, good, more = [await play(backend, attempt(number=n)) for n in (1, 2, 3, 4)]
    assert isinstance(failed, Failed)
    assert (failed.failure.kind, failed.failure.node) == ("oom", "node")
    assert isinstance(lost, Lost)
    assert good == more == Succeeded(3)
    reporter = RecordingReporter()
    assert await backend.execute(attempt("noisy"), reporter) == Succeeded(None)
    assert (reporter.output("stdout"), reporter.output("stderr")) == (b"ac", b"b")
    assert reporter.tail(1) == ("abc",)
    assert reporter.handles == [attempt("noisy").name]
    reporter.warning("odd", "something")
    reporter.progress(0.5, "half")
    assert (reporter.warnings, reporter.progresses) == ([("odd", "something")], [(0.5, "half")])


@pytest.mark.anyio
async def test_delays_are_on_the_clock_and_a_second_execute_joins() -> None:
    backend = FakeBackend(lambda one: Script(value=one.number, after=60.0))
    found: list[Outcome] = []

    async def run() -> None:
        found.append(await play(backend, attempt()))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        tasks.start_soon(run)
        while backend.clock.sleepers < 2:
            await checkpoint()
        assert not found
        backend.clock.advance(60)
    assert found == [Succeeded(1), Succeeded(1)]
    assert backend.platform.starts == {attempt().name: 1}
    assert await play(backend, attempt()) == Succeeded(1)
    assert backend.platform.most_live == 1


@pytest.mark.anyio
async def test_a_hanging_attempt_ends_by_cancellation() -> None:
    backend = FakeBackend({"node": Script("hang")})
    with anyio.move_on_after(0.01) as scope:
        await play(backend, attempt())
    assert scope.cancelled_caught
    assert backend.platform.cancelled == [attempt().name]
    assert not backend.platform.live


@pytest.mark.anyio
async def test_done_but_reported_as_failed() -> None:
    fault = BackendError("the answer was lost", retryable=True)
    backend = FakeBackend(
        {"undone": Script(fault=fault), "done": Script(value=8, fault=fault, done=True)}
    )
    for node in ("undone", "done"):
        with pytest.raises(BackendError, match="the answer was lost"):
            await play(backend, attempt(node))
    assert backend.platform.starts == {attempt("done").name: 1}
    assert await backend.recover(attempt("undone"), RecordingReporter()) is None
    assert await backend.recover(attempt("done"), RecordingReporter()) == Succeeded(8)


@pytest.mark.anyio
async def test_a_second_driver_recovers_and_sweeps() -> None:
    platform = FakePlatform()
    first = FakeBackend(lambda _: Script(value=1, after=9.0), platform=platform)
    second = FakeBackend(lambda _: Script(value=1), platform=platform)
    async with anyio.create_task_group() as tasks:
        for node in ("a", "b"):
            tasks.start_soon(play, first, attempt(node))
        while first.clock.sleepers < 2:
            await checkpoint()
        assert await second.recover(attempt("a"), RecordingReporter()) == Succeeded(1)
        assert await second.sweep(lambda labels: labels.node != "b") == 1
        assert set(platform.live) == set()
        assert platform.cancelled == [attempt("b").name]
        tasks.cancel_scope.cancel()


def test_work_as_a_program(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["echo", "a", "b c"]) == 0
    assert main(["note", str(tmp_path / "ledger"), str(tmp_path)]) == 0
    assert main(["leave", "7"]) == 7
    assert main(["dance"]) == 2
    out, err = capfd.readouterr()
    assert out == f"a\0b c{os.getpid()}"
    assert err == "no such work: 'dance'\n"
    assert (tmp_path / "ledger").read_text() == f"{os.getpid()}\n"


def test_writing_work_as_a_program(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    assert main(["write", "40"]) == 0
    found = capfdbinary.readouterr()
    assert (found.out, found.err) == (written("stdout", 40), written("stderr", 40))
