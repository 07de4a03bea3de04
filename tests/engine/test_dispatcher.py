"""Inside one run: others have the loop meanwhile, slow subscribers, threads, odd values."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from onready import Engine, File, NodeContext, Provided, Retry, StoreError, each, graph, shell, task
from onready.engine.errors import InternalError
from onready.engine.events import (
    AnyEvent,
    NodeCancelled,
    NodeStarted,
    NodeSucceeded,
    RunSucceeded,
    ScopeOpened,
)
from onready.engine.run import Run
from onready.storage.memory import MemoryCatalog
from tests.engine import work

pytestmark = pytest.mark.anyio


async def reached(count: int = 1) -> None:
    with anyio.fail_after(20):
        while work.calls.count("begun") < count:
            await anyio.sleep(0.001)


def events_of(run: Run[object], after: int = 0) -> AsyncGenerator[AnyEvent, None]:
    events = run.events(after)
    assert isinstance(events, AsyncGenerator)
    return events


# --- the loop is shared ---------------------------------------------------------------------------


async def test_many_trivial_nodes_do_not_starve_another_task(
    memory: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A slice that has always ended: a turn of the loop for every few nodes, counted in nodes.
    monkeypatch.setattr("onready.engine.dispatcher.inline.SLICE", 0.0005)
    ran = 0
    most = 0
    since = 0

    @task
    async def trivial(x: int) -> int:
        nonlocal ran, since, most
        ran += 1
        since += 1
        most = max(most, since)
        return x

    @graph
    def wide(xs: list[int]) -> list[int]:
        return trivial.map(each(xs))

    turns = 0
    run = await memory.start(wide.bind(list(range(20_000))))
    while not run.done:
        since = 0
        turns += 1
        await anyio.lowlevel.checkpoint()
    assert ran == 20_000
    assert turns > 20
    # Never a large share of the nodes between two turns of another task.
    assert most < 5_000


async def test_opening_a_wide_map_takes_several_turns(memory: Engine) -> None:
    @graph
    def wide(xs: list[int]) -> list[int]:
        return work.add_one.map(each(xs))

    run = await memory.start(wide.bind(list(range(3_000))))
    opened = [e.count async for e in run.events() if isinstance(e, ScopeOpened)]
    assert opened == [3_000]
    assert (await run.wait()).value == list(range(1, 3_001))


# --- subscribers ----------------------------------------------------------------------------------


async def test_a_subscriber_that_falls_behind_reads_the_store(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The tail in memory holds ten events here: whoever is slower reads the run log.
    monkeypatch.setattr("onready.engine.dispatcher.journal.TAIL", 10)
    run = await engine.start(work.mapped.bind(list(range(200))))
    seen: list[int] = []
    async with aclosing(events_of(run)) as events:
        async for event in events:
            seen.append(event.seq)
            if len(seen) in {2, 50}:
                await run.wait()
    assert seen == list(range(1, len(seen) + 1))
    assert len(seen) > 400
    late = [event.seq async for event in run.events(after=len(seen) - 3)]
    assert late == seen[-3:]


async def test_subscribers_have_positions_of_their_own(engine: Engine) -> None:
    run = await engine.start(work.nested.bind([1, 2, 3]))
    seen: dict[int, list[AnyEvent]] = {}

    async def follow(after: int, patience: int) -> None:
        seen[after] = []
        async for event in run.events(after):
            seen[after].append(event)
            for _ in range(patience):
                await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as group:
        for after, patience in ((0, 0), (1, 20), (2, 5), (3, 0)):
            group.start_soon(follow, after, patience)
    for after, events in seen.items():
        assert [e.seq for e in events] == list(range(after + 1, after + len(events) + 1))
        assert isinstance(events[-1], RunSucceeded)


async def test_a_subscriber_that_leaves_is_no_burden(memory: Engine) -> None:
    run = await memory.start(work.nap.bind(0.05))
    async with aclosing(events_of(run)) as events:
        async for _ in events:
            break
    assert (await run.wait()).status == "succeeded"
    assert [e.seq async for e in run.events(10**9)] == []


# --- in the loop ----------------------------------------------------------------------------------


async def test_a_node_that_swallows_every_cancellation_is_left_to_itself(
    memory: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onready.engine.dispatcher.core.GIVE_UP", 0.02)
    release = anyio.Event()

    @task
    async def deaf() -> int:
        work.calls.append("begun")
        while not release.is_set():
            try:
                with anyio.CancelScope(shield=True):
                    await release.wait()
            except anyio.get_cancelled_exc_class():
                work.calls.append("swallowed")
        return 7

    for bound in (deaf.bind(), deaf.with_options(timeout=60).bind()):
        release = anyio.Event()
        run = await memory.start(bound)
        await reached()
        async with anyio.create_task_group() as group:
            group.start_soon(run.cancel, "enough", 0.01)
            with anyio.fail_after(10):
                while True:
                    events = [e async for e in memory.history(run.id)]
                    if any(isinstance(e, NodeCancelled) for e in events):
                        break
                    await anyio.sleep(0.005)
            release.set()
        assert (await run.wait()).status == "cancelled"
        reasons = [e.reason async for e in run.events() if isinstance(e, NodeCancelled)]
        assert len(reasons) == 1
        work.calls.clear()


@pytest.mark.parametrize("backend", ["inline", "thread"])
async def test_careful_nodes_do_what_plain_ones_do(memory: Engine, backend: str) -> None:
    @task
    async def both(x: int, context: NodeContext = Provided(NodeContext)) -> list[object]:
        return [context.node, x]

    @task
    async def exits() -> None:
        raise SystemExit(4)

    @task
    def plain(x: int) -> int:
        return x + 1

    bound = both.with_options(timeout=30.0).bind(3)
    assert await memory.run(bound, backend=backend) == ["both", 3]
    assert await memory.run(plain.with_options(timeout=30.0).bind(3)) == 4
    run = await memory.start(exits.with_options(timeout=30.0).bind(), backend=backend)
    assert (await run.wait()).failures[0].exit_code == 4


async def test_context_variables_of_careful_nodes_do_not_leak(memory: Engine) -> None:
    from contextvars import ContextVar

    secret: ContextVar[str] = ContextVar("secret", default="clean")

    @task
    async def look_and_set(x: int, context: NodeContext = Provided(NodeContext)) -> str:
        seen = secret.get()
        secret.set(f"dirty {x}")
        return seen

    @graph
    def many() -> list[str]:
        return look_and_set.map(each([1, 2, 3]))

    assert await memory.run(many.bind()) == ["clean"] * 3


async def test_a_retry_that_could_not_end_in_time_is_not_made(memory: Engine) -> None:
    bound = work.flaky.with_options(retry=Retry(5, backoff=60.0), node_timeout=5.0).bind(99)
    outcome = await (await memory.start(bound)).wait()
    assert outcome.failures[0].attempt == 1
    assert work.calls == ["tried"]


async def test_a_cancelled_run_does_not_wait_for_its_retries(memory: Engine) -> None:
    bound = work.flaky.with_options(retry=Retry(5, backoff=60.0)).bind(99)
    run = await memory.start(bound)
    with anyio.fail_after(10):
        while not work.calls:
            await anyio.sleep(0.001)
        await run.cancel("enough")
    assert (await run.wait()).status == "cancelled"


# --- threads --------------------------------------------------------------------------------------


@task
def held(x: int) -> int:
    work.calls.append("begun")
    gate.wait(30)
    return x


gate = threading.Event()


@pytest.fixture(autouse=True)
def closed_gate() -> Iterator[None]:
    gate.clear()
    yield
    gate.set()


async def test_a_thread_that_outlives_its_run_tells_nobody() -> None:
    async with Engine.memory(grace=0.01) as engine:
        run = await engine.start(held.bind(1))
        await reached()
        await run.cancel("enough")
        reasons = [e.reason async for e in run.events() if isinstance(e, NodeCancelled)]
        assert reasons == ["enough; its thread could not be stopped"]
        before = [event async for event in run.events()]
        gate.set()
        # The pool goes on serving, and what the old call came to is dropped.
        assert await engine.run(work.double.bind(2)) == 4
        assert [event async for event in run.events()] == before


async def test_a_call_that_takes_its_time_is_seen_to_have_begun(memory: Engine) -> None:
    run = await memory.start(held.bind(1))
    with anyio.fail_after(20):
        async with aclosing(events_of(run)) as events:
            async for event in events:
                if isinstance(event, NodeStarted):
                    break
    gate.set()
    assert await run.result() == 1
    assert len([e async for e in run.events() if isinstance(e, NodeStarted)]) == 1


async def test_a_thread_that_ends_after_its_time_is_not_heard(memory: Engine) -> None:
    run = await memory.start(held.with_options(timeout=0.05).bind(1))
    outcome = await run.wait()
    assert [failure.kind for failure in outcome.failures] == ["timeout"]
    gate.set()
    assert await memory.run(work.double.bind(2)) == 4
    assert not [e async for e in run.events() if isinstance(e, NodeSucceeded)]


async def test_a_thread_that_ends_within_its_time(memory: Engine) -> None:
    run = await memory.start(held.with_options(timeout=30.0).bind(1))
    await reached()
    # Long enough for its start to be seen, which is when its time begins to count.
    await anyio.sleep(0.05)
    gate.set()
    assert await run.result() == 1


async def test_arguments_that_do_not_fit_fail_the_node(memory: Engine) -> None:
    @task
    async def lies():  # type: ignore[no-untyped-def] # noqa: ANN202 - un-annotated on purpose
        return json.loads('{"not": "a number"}')

    @graph
    def wrong() -> list[int]:
        value = lies()
        return [work.double(value), work.add_one(value)]

    run = await memory.start(wrong.bind(), on_error="continue")
    outcome = await run.wait()
    assert {failure.node for failure in outcome.failures} == {"double", "add_one"}


async def test_large_values_that_threads_read_and_make(engine: Engine) -> None:
    @task
    def make(size: int) -> bytes:
        return b"x" * size

    @task
    def measure(data: bytes, lots: list[bytes]) -> int:
        return len(data) + sum(map(len, lots))

    @graph
    def large() -> int:
        data = make(100_000)
        return measure(data, make.map(each([70_000, 10])))

    assert await engine.run(large.bind()) == 170_010


async def test_a_large_result_that_cannot_be_stored_fails_its_node(tmp_path: Path) -> None:
    class Full(MemoryCatalog):
        async def put(self, content: bytes | Path) -> str:
            message = "the disk is full"
            raise StoreError(message)

        async def get(self, digest: str) -> bytes:
            message = "it is gone"
            raise StoreError(message)

    @task
    def make(size: int) -> bytes:
        return b"x" * size

    @task
    async def make_here(size: int) -> bytes:
        return b"x" * size

    async with Engine.memory(catalog=Full()) as engine:
        for bound in (make.bind(100_000), make_here.bind(100_000)):
            outcome = await (await engine.start(bound)).wait()
            assert outcome.status == "failed"
            assert "disk is full" in outcome.failures[0].message


class Slow(MemoryCatalog):
    """Gives what is in it once it is told to; or nothing, where it is `broken`."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = anyio.Event()
        self.answer = anyio.Event()
        self.broken = False

    async def get(self, digest: str) -> bytes:
        self.asked.set()
        await self.answer.wait()
        if self.broken:
            message = "it is gone"
            raise StoreError(message)
        return await super().get(digest)


@task
async def large(size: int) -> bytes:
    return b"x" * size


@task
def measure_in_thread(data: bytes) -> int:
    work.calls.append("measured")
    return len(data)


@graph
def fetches() -> int:
    return measure_in_thread(large(100_000))


@pytest.mark.parametrize("broken", [False, True])
async def test_a_call_whose_arguments_are_on_their_way(broken: bool) -> None:
    catalog = Slow()
    catalog.broken = broken
    catalog.answer.set()
    async with Engine.memory(catalog=catalog) as engine:
        outcome = await (await engine.start(fetches.bind())).wait()
        if broken:
            assert "it is gone" in outcome.failures[0].message
        else:
            assert outcome.value == 100_000


@pytest.mark.parametrize("broken", [False, True])
@pytest.mark.parametrize("grace", [0.01, 30.0])
async def test_a_call_that_was_cancelled_before_it_began_does_not_begin(
    broken: bool, grace: float
) -> None:
    catalog = Slow()
    catalog.broken = broken
    async with Engine.memory(catalog=catalog) as engine:
        run = await engine.start(fetches.bind())
        await catalog.asked.wait()
        async with anyio.create_task_group() as group:
            group.start_soon(run.cancel, "enough", grace)
            await anyio.wait_all_tasks_blocked()
            if grace < 1:
                await run.wait()
            catalog.answer.set()
        outcome = await run.wait()
        assert outcome.status in ({"cancelled", "failed"} if broken else {"cancelled"})
    assert work.calls == []


# --- maps and values ------------------------------------------------------------------------------


@pytest.mark.parametrize("value", ["text", 7, None, {"k": 1}])
async def test_a_map_over_what_is_no_list_fails_that_node(engine: Engine, value: object) -> None:
    @task
    async def make() -> object:
        return value

    @graph
    def wrong() -> list[int]:
        return work.add_one.map(each(make()))  # type: ignore[arg-type] # the point of the test

    outcome = await (await engine.start(wrong.bind())).wait()
    assert outcome.status == "failed"
    assert [failure.node for failure in outcome.failures] == ["add_one"]
    assert "needs a list" in outcome.failures[0].message
    assert type(value).__name__ in outcome.failures[0].message


async def test_a_map_over_what_cannot_be_read_fails_that_node(memory: Engine) -> None:
    @task
    async def make() -> dict[str, list[int]]:
        return {"k": [1]}

    @graph
    def wrong() -> list[int]:
        return work.add_one.map(each(make()["missing"]))

    outcome = await (await memory.start(wrong.bind())).wait()
    assert [failure.node for failure in outcome.failures] == ["add_one"]
    assert "missing" in outcome.failures[0].message


async def test_a_map_over_live_objects_and_many_items(memory: Engine) -> None:
    class Handle:
        pass

    @task
    async def make(count: int):  # type: ignore[no-untyped-def] # noqa: ANN202 - un-annotated on purpose
        return [Handle() for _ in range(count)]

    @task
    async def numbers(count: int) -> set[int]:
        return set(range(count))

    @task
    async def kind(handle: object) -> str:
        return type(handle).__name__

    @graph
    def over(count: int) -> list[str]:
        return kind.map(each(make(count)))

    @graph
    def unordered(count: int) -> list[int]:
        return work.add_one.map(each(numbers(count)))

    assert await memory.run(over.bind(3)) == ["Handle"] * 3
    assert sorted(await memory.run(unordered.bind(1_200))) == list(range(1, 1_201))


async def test_parts_of_values_in_every_place(engine: Engine) -> None:
    @task
    async def table() -> dict[str, list[int]]:
        return {"a": [1, 2, 3], "b": [4]}

    @task
    async def pair() -> tuple[int, str]:
        return 5, "five"

    @graph
    def inner(xs: list[int], flag: int) -> dict[str, object]:
        return {"first": xs[0], "flag": flag}

    @graph
    def outer(config: dict[str, int]) -> list[object]:
        whole = table()
        number, word = pair()
        built = inner(whole["a"], config["k"])
        return [
            work.add_one.map(each(whole["b"])),
            work.total([whole["a"][-1], number]),
            built["first"],
            built["flag"],
            (word, whole["a"]),
            {"deep": {"b": whole["b"]}},
        ]

    assert await engine.run(outer.bind({"k": 9})) == [
        [5],
        8,
        1,
        9,
        ("five", [1, 2, 3]),
        {"deep": {"b": [4]}},
    ]


@task
async def gathers(things: dict[str, object], both: tuple[int, object]) -> list[object]:
    return [things, list(both)]


@task
async def numbers_of(count: int) -> list[int]:
    return list(range(count))


@graph
def gathered() -> list[object]:
    xs = numbers_of(3)
    return gathers({"a": xs, "b": [xs[1], {"c": xs[2]}]}, (xs[0], xs))


@pytest.mark.parametrize("backend", [None, "thread", "process"])
async def test_gathered_parts_reach_every_backend(engine: Engine, backend: str | None) -> None:
    made = await engine.run(gathered.bind(), backend=backend)
    assert made == [{"a": [0, 1, 2], "b": [1, {"c": 2}]}, [0, [0, 1, 2]]]


async def test_files_in_the_graph_go_to_programs(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "in.txt"
    await anyio.Path(path).write_text("hello")

    @graph
    def loud() -> list[str]:
        shout = ["sh", "-c", 'tr a-z A-Z < "$ONREADY_INPUT_FILE"']
        file = File(path)
        return [shell(shout, inputs={"file": file}), shell(shout, inputs={"file": file})]

    assert await engine.run(loud.bind()) == ["HELLO", "HELLO"]


async def test_a_task_without_its_function_is_our_own_fault() -> None:
    from onready.engine.dispatcher.tasks import LiveTask
    from onready.engine.plan.model import TaskRuntime, TaskSpec
    from onready.engine.spi import Call

    spec = TaskSpec(name="a", work=Call("m:f"), backend="inline")
    with pytest.raises(InternalError, match="not linked"):
        LiveTask(0, spec, TaskRuntime(None)).call()
