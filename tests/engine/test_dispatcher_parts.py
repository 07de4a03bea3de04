"""Values, the journal, reporters and the loop, each in its rarer moments."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from onready import Engine, File, StoreError, each, graph, task
from onready.engine.dispatcher.journal import Journal
from onready.engine.dispatcher.loop import Waker, open_loop
from onready.engine.dispatcher.report import Reporters
from onready.engine.events import (
    RunStarted,
)
from onready.engine.logs import LogStore
from onready.engine.names import NodeKey
from onready.engine.plan.model import PlanNode
from onready.engine.scheduler.commands import Fact
from onready.engine.scheduler.state import Row, Scope
from onready.storage.memory import MemoryRunLog
from tests.engine import work

pytestmark = pytest.mark.anyio


# --- values ---------------------------------------------------------------------------------------


@task
async def table() -> dict[str, list[int]]:
    return {"a": [1, 2, 3]}


@graph
def passes_on() -> dict[str, list[int]]:
    return table()


@graph
def lists() -> list[int]:
    return [work.add_one(1), work.add_one(2)]


async def test_parts_of_what_sub_graphs_give(engine: Engine) -> None:
    @graph
    def outer() -> list[int]:
        return [work.total(passes_on()["a"]), work.add_one(lists()[1]), work.add_one(lists()[-2])]

    assert await engine.run(outer.bind()) == [6, 4, 3]


async def test_a_part_that_a_sub_graph_does_not_give(memory: Engine) -> None:
    @graph
    def outer() -> int:
        return work.add_one(lists()[5])

    outcome = await (await memory.start(outer.bind())).wait()
    assert [(f.node, f.type) for f in outcome.failures] == [("add_one", "ValueMismatch")]


async def test_a_part_of_an_input_without_a_type(memory: Engine) -> None:
    @graph
    def outer(config):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202 - the point of the test
        return work.add_one(config["k"])

    assert await memory.run(outer.bind({"k": 1})) == 2


@task
async def read(x: int, file: File) -> str:
    return f"{x} {await anyio.Path(file.path).read_text()}"


async def test_a_file_in_the_graph_is_stored_once(memory: Engine, tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    await anyio.Path(path).write_text("hello")

    @graph
    def both() -> list[str]:
        return read.map(each([1, 2]), File(path))

    assert await memory.run(both.bind(), max_parallel=1) == ["1 hello", "2 hello"]


# --- the journal, reporters and the loop alone ----------------------------------------------------


def first() -> RunStarted:
    return RunStarted(0, 1.0, "g", "name", "f" * 64, {})


async def test_what_is_durable_already_is_not_waited_for() -> None:
    journal = Journal(MemoryRunLog(), "r", 1)
    done: list[str] = []
    journal.when_durable(lambda: done.append("at once"))
    journal.extend([first()])
    journal.when_durable(lambda: done.append("later"))
    assert done == ["at once"]


@pytest.mark.parametrize("error", [None, ZeroDivisionError("ours")])
async def test_a_journal_that_is_left_tells_who_waits(error: Exception | None) -> None:
    journal = Journal(MemoryRunLog(), "r", 1)
    faults: list[BaseException] = []
    async with open_loop(faults.append) as loop:
        loop.spawn(lambda: journal.write(loop))
        await anyio.wait_all_tasks_blocked()
        journal.extend([first()])
        journal.close(error)
        with pytest.raises(StoreError if error is None else ZeroDivisionError):
            await journal.flushed()
    assert faults == []


class Desk:
    """Keeps what reporters post."""

    run = "r"

    def __init__(self) -> None:
        self.now = time.time
        self.facts: list[Fact] = []

    def post(self, fact: Fact) -> None:
        self.facts.append(fact)

    def on_loop(self, action: Callable[[], None]) -> None:
        action()

    def find(self, key: NodeKey) -> Row | None:
        return None

    def start_task(self, body: object) -> None:
        raise NotImplementedError


def test_one_reporter_per_attempt_and_none_after_its_end(tmp_path: Path) -> None:
    desk = Desk()
    key = NodeKey.parse("a")
    scope = Scope(key=None, owner=None, fragment=None, total=1, left=1)
    row = Row(node=PlanNode(position=0, name="a", kind="task"), scope=scope, key=key, kind="task")
    reporters = Reporters(desk, LogStore(tmp_path / "logs"), tmp_path / "work")
    reporter = reporters.of(row, 1)
    assert reporters.of(row, 1) is reporter
    assert reporters.of(row, 2) is not reporter
    reporters.close(row, 1)
    reporter.started("too late")
    assert desk.facts == []


async def test_a_wake_before_the_park_is_kept() -> None:
    faults: list[BaseException] = []
    async with open_loop(faults.append) as loop:
        waker = loop.waker()
        waker.wake()
        with anyio.fail_after(20):
            await waker.park()
    assert faults == []


async def test_two_wakes_for_one_park() -> None:
    ended = anyio.Event()

    async def sleeper(waker: Waker) -> None:
        await waker.park()
        ended.set()

    faults: list[BaseException] = []
    async with open_loop(faults.append) as loop:
        waker = loop.waker()
        loop.spawn(lambda: sleeper(waker))
        await anyio.wait_all_tasks_blocked()
        waker.wake()
        waker.wake()
        with anyio.fail_after(20):
            await ended.wait()
    assert faults == []
