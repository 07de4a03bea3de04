"""Graphs run: values, maps, sub-graphs, projections, on both loops and both run logs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import anyio
import pytest

from onready import Engine, File, GraphBuilder, NoCodec, Provided, each, graph, run_sync, task
from onready.engine.events import (
    NodeLog,
    NodeProgress,
    NodeStarted,
    NodeSucceeded,
    RunStarted,
    RunSucceeded,
)
from tests.engine import work

pytestmark = pytest.mark.anyio


async def test_a_diamond(engine: Engine) -> None:
    assert await engine.run(work.diamond.bind(3)) == 10


async def test_nested_graphs_in_a_map(engine: Engine) -> None:
    assert await engine.run(work.nested.bind([1, 2, 3])) == 18


async def test_maps_nest(engine: Engine) -> None:
    assert await engine.run(work.grid.bind([[1, 2], [], [3]])) == [[2, 3], [], [4]]


@pytest.mark.parametrize("items", [[], ["a/b", "a/b", ""], [0.1, None, True, -1], [{"k": [1]}, []]])
async def test_map_items_are_any_json_values(engine: Engine, items: list[object]) -> None:
    @task
    async def same(x: object) -> object:
        return x

    @graph
    def through(xs: list[object]) -> list[object]:
        return same.map(each(xs))

    assert await engine.run(through.bind(items)) == items


async def test_zipped_map_with_a_shared_argument(engine: Engine) -> None:
    @task
    async def join(a: str, b: int, c: str) -> str:
        return f"{a}{b}{c}"

    @graph
    def zipped() -> list[str]:
        return join.map(each(["x", "y"]), each([1, 2]), "!")

    assert await engine.run(zipped.bind()) == ["x1!", "y2!"]


async def test_unequal_lengths_say_both(engine: Engine) -> None:
    @task
    async def pair(a: int, b: int) -> int:
        return a + b

    @graph
    def uneven(xs: list[int], ys: list[int]) -> list[int]:
        return pair.map(each(xs), each(ys))

    outcome = await (await engine.start(uneven.bind([1, 2], [3]))).wait()
    assert outcome.status == "failed"
    assert "a has 2" in outcome.failures[0].message
    assert "b has 1" in outcome.failures[0].message


@dataclasses.dataclass
class Point:
    x: int
    tags: list[str]


async def test_projections(engine: Engine) -> None:
    @task
    async def make() -> Point:
        return Point(3, ["a", "b"])

    @task
    async def pair() -> tuple[int, dict[str, int]]:
        return 1, {"k": 41}

    @graph
    def parts() -> dict[str, object]:
        point = make()
        one, table = pair()
        return {
            "x": work.add_one(point.x),
            "tag": point.tags[1],
            "sum": work.total([one, table["k"]]),
        }

    assert await engine.run(parts.bind()) == {"x": 4, "tag": "b", "sum": 42}


async def test_a_projection_that_is_not_there_fails_the_node(engine: Engine) -> None:
    @task
    async def table() -> dict[str, int]:
        return {"k": 1}

    @graph
    def wrong() -> int:
        return work.add_one(table()["missing"])

    outcome = await (await engine.start(wrong.bind())).wait()
    assert [failure.node for failure in outcome.failures] == ["add_one"]
    assert "missing" in outcome.failures[0].message


async def test_each_consumer_gets_its_own_value(engine: Engine) -> None:
    @task
    async def make() -> list[int]:
        return [1]

    @task
    async def spoil(xs: list[int]) -> int:
        xs.append(99)
        return len(xs)

    @graph
    def shared() -> list[int]:
        xs = make()
        a = spoil(xs)
        b = spoil.with_options(after=[a])(xs)
        return [a, b]

    assert await engine.run(shared.bind()) == [2, 2]


async def test_a_result_that_does_not_fit_its_annotation(engine: Engine) -> None:
    @task
    async def lie() -> list[int]:
        return [1, "two"]  # type: ignore[list-item] # the point of the test

    outcome = await (await engine.start(lie.bind())).wait()
    assert outcome.status == "failed"
    assert "[1]" in outcome.failures[0].message


async def test_live_objects_pass_in_memory_only(memory: Engine, tmp_path: Path) -> None:
    class Handle:
        pass

    @task
    async def make():  # type: ignore[no-untyped-def] # noqa: ANN202 - un-annotated on purpose
        return Handle()

    @task
    async def use(handle) -> str:  # type: ignore[no-untyped-def] # noqa: ANN001 - as above
        return type(handle).__name__

    @graph
    def live() -> str:
        return use(make())

    assert await memory.run(live.bind()) == "Handle"
    async with Engine(folder=tmp_path / "state") as durable:
        outcome = await (await durable.start(live.bind())).wait()
        assert outcome.failures[0].node == "make"
        assert "pickle" in outcome.failures[0].message
        with pytest.raises(NoCodec, match="pickle"):
            await durable.run(use.bind(Handle()))


async def test_large_values_go_through_the_catalog(engine: Engine) -> None:
    @task
    async def make(size: int) -> bytes:
        return b"x" * size

    @task
    async def measure(data: bytes) -> int:
        return len(data)

    @graph
    def large(size: int) -> int:
        return measure(make(size))

    assert await engine.run(large.bind(1 << 20)) == 1 << 20
    assert await engine.run(make.bind(1 << 17)) == b"x" * (1 << 17)


async def test_provided_objects(engine: Engine) -> None:
    @task
    async def ask(x: int, pool: list[int] = Provided("pool")) -> int:
        pool.append(x)
        return len(pool)

    @task
    def ask_in_thread(x: int, pool: list[int] = Provided("pool")) -> int:
        pool.append(x)
        return len(pool)

    pool: list[int] = []
    assert await engine.run(ask.bind(1), provided={"pool": pool}) == 1
    assert await engine.run(ask_in_thread.bind(2), provided={"pool": pool}) == 2
    assert pool == [1, 2]


async def test_the_node_context(engine: Engine) -> None:
    run = await engine.start(work.context_of.bind(1))
    node, attempt, existed, folder = await run.result()
    assert (node, attempt, existed) == ("context_of", 1, True)
    events = [event async for event in run.events()]
    assert [e.message for e in events if isinstance(e, NodeProgress)] == ["half"]
    assert any(isinstance(e, NodeLog) and e.size == 6 for e in events)
    assert not Path(str(folder)).exists()


async def test_events_are_ordered_gapless_and_replayable(engine: Engine) -> None:
    run = await engine.start(work.nested.bind([1, 2, 3]))
    live = [event async for event in run.events()]
    assert [event.seq for event in live] == list(range(1, len(live) + 1))
    assert isinstance(live[0], RunStarted)
    assert isinstance(live[-1], RunSucceeded)
    again = [event async for event in run.events(after=5)]
    assert again == live[5:]
    stored = [event async for event in engine.history(run.id)]
    assert [type(event) for event in stored] == [type(event) for event in live]
    started = {str(e.node) for e in live if isinstance(e, NodeStarted)}
    ended = {str(e.node) for e in live if isinstance(e, NodeSucceeded)}
    assert started == ended
    assert "twice[1]/double" in started


async def test_context_variables_do_not_leak_between_nodes(engine: Engine) -> None:
    from contextvars import ContextVar

    secret: ContextVar[str] = ContextVar("secret", default="clean")

    @task
    async def look_and_set(x: int) -> str:
        seen = secret.get()
        secret.set(f"dirty {x}")
        return seen

    @graph
    def many() -> list[str]:
        return look_and_set.map(each([1, 2, 3, 4]))

    assert await engine.run(many.bind()) == ["clean"] * 4


async def test_the_same_id_attaches(engine: Engine) -> None:
    first = await engine.start(work.twice.bind(1), id="one")
    again = await engine.start(work.twice.bind(1), id="one")
    assert again.id == first.id
    assert await again.result() == 4
    assert await first.result() == 4
    later = await engine.start(work.twice.bind(1), id="one")
    assert await later.result() == 4
    assert [e.seq async for e in later.events()] == [e.seq async for e in first.events()]


async def test_a_big_builder_graph_runs(engine: Engine) -> None:
    g = GraphBuilder("chain")
    ref = g.add(work.add_one, 0)
    for _ in range(2999):
        ref = g.add(work.add_one, ref)
    assert await engine.run(g.build(result=ref)) == 3000


async def test_many_runs_at_once(engine: Engine) -> None:
    runs = [await engine.start(work.nested.bind([n, n + 1])) for n in range(40)]
    assert [await run.result() for run in runs] == [2 * (2 * n + 3) for n in range(40)]


async def test_sync_nodes_run_in_threads(memory: Engine) -> None:
    assert "MainThread" not in await memory.run(work.thread_name.bind(1))


@pytest.mark.may_block("run_sync blocks the loop it is called in: that is its purpose")
async def test_run_sync_works_inside_a_running_loop() -> None:
    assert run_sync(work.diamond.bind(3), memory=True) == 10


async def test_constants_of_any_kind(memory: Engine, tmp_path: Path) -> None:
    class Handle:
        pass

    handle, path = Handle(), tmp_path / "in.txt"
    path.write_text("hello")

    @task
    async def kind(x: object) -> str:
        return type(x).__name__

    @task
    async def size(file: File) -> int:
        return len(await anyio.Path(file).read_bytes())

    @graph
    def constants() -> list[object]:
        return [kind(handle), size(File(path)), kind("x" * 100_000)]

    assert await memory.run(constants.bind()) == ["Handle", 5, "str"]
    async with Engine(folder=tmp_path / "state") as durable:
        assert await durable.run(size.bind(File(path))) == 5
        with pytest.raises(NoCodec, match="Handle"):
            await durable.start(constants.bind())
