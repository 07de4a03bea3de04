"""Cached tasks: what is found again, what is not, and that no fault of the cache is a node's."""

from __future__ import annotations

import functools
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import msgspec
import pytest

from onready import Engine, GraphBuilder, Provided, each, graph, task
from onready.engine.cache import CacheEntry
from onready.engine.dispatcher import cached
from onready.engine.errors import GraphError, StoreError
from onready.engine.events import NodeCached, NodeEmitted, NodeStarted, NodeSucceeded
from onready.engine.names import NodeKey
from onready.engine.values.stored import Encoded
from onready.storage.memory import MemoryCatalog
from tests.engine import caching, work
from tests.engine.caching import HookedCatalog, events_of, origins, warnings
from tests.engine.stores import FaultyRunLog

pytestmark = pytest.mark.anyio


@pytest.fixture
async def kept(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Engine]:
    """An engine whose cache is in files."""
    del anyio_backend
    async with Engine(folder=tmp_path / "state", grace=0.5) as made:
        yield made


def records(tmp_path: Path) -> list[Path]:
    folder = tmp_path / "state" / "catalog" / "records" / "cache"
    return sorted(path for path in folder.rglob("*.json") if path.is_file())


# --- hits and misses ------------------------------------------------------------------------------


async def test_a_second_run_takes_the_values_of_the_first(engine: Engine) -> None:
    first = await engine.start(caching.squares.bind([1, 2, 3]))
    assert await first.result() == [1, 4, 9]
    second = await engine.start(caching.squares.bind([3, 2, 4]))
    assert await second.result() == [9, 4, 16]
    assert sorted(work.calls) == ["square 1", "square 2", "square 3", "square 4"]
    assert await origins(second) == {"square[0]": first.id, "square[1]": first.id}
    events = await events_of(second)
    hits = [event for event in events if isinstance(event, NodeCached)]
    assert [event.attempt for event in hits] == [0, 0]
    assert sorted(event.value for event in hits if isinstance(event.value, int)) == [4, 9]
    started = [event.node for event in events if isinstance(event, NodeStarted)]
    assert started == [NodeKey.parse("square[2]")]


async def test_values_outlive_the_engine(tmp_path: Path) -> None:
    for _ in range(2):
        async with Engine(folder=tmp_path / "state") as engine:
            assert await engine.run(caching.squares.bind([1, 2])) == [1, 4]
    assert sorted(work.calls) == ["square 1", "square 2"]


async def test_a_task_that_is_not_cached_runs_each_time(engine: Engine) -> None:
    plain = caching.square.with_options(cache=False)
    for _ in range(2):
        assert await engine.run(plain.bind(3)) == 9
    assert work.calls == ["square 3"] * 2
    assert await engine.cache.entries() == []


async def test_another_version_is_another_value(engine: Engine) -> None:
    for version in (True, "1", "2", "2"):
        await engine.run(caching.square.with_options(cache=version).bind(3))
    assert work.calls == ["square 3"] * 2
    entries = await engine.cache.entries()
    versions = [listed.entry.ingredients.version for listed in entries if listed.entry is not None]
    assert versions == ["1", "2"]


async def test_a_run_without_the_cache_neither_reads_nor_writes_it(engine: Engine) -> None:
    for _ in range(2):
        run = await engine.start(caching.squares.bind([1]), cache=False)
        assert await run.result() == [1]
    assert await engine.cache.entries() == []
    await engine.run(caching.squares.bind([1]))
    run = await engine.start(caching.squares.bind([1]), cache=False)
    await run.result()
    assert await origins(run) == {}
    assert work.calls == ["square 1"] * 4


async def test_a_value_of_one_backend_serves_another(kept: Engine, tmp_path: Path) -> None:
    path = str(tmp_path / "marks")
    assert await kept.run(caching.mark.bind(path, 1)) == 2
    other = caching.mark.with_options(backend="thread", retry=3, timeout=9, name="again")
    assert await kept.run(other.bind(path, 1)) == 2
    assert (tmp_path / "marks").read_text() == "1\n"


async def test_a_part_of_a_value_counts_as_what_it_is(engine: Engine) -> None:
    assert await engine.run(caching.of_a_part.bind(4)) == 16
    assert await engine.run(caching.square.bind(4)) == 16
    assert work.calls == ["square 4"]


async def test_defaults_count_like_what_is_given(engine: Engine) -> None:
    @graph
    def calls() -> list[int]:
        first = caching.with_default(1)
        second = caching.with_default.with_options(after=[first])(1, 10)
        return [first, second, caching.with_default.with_options(after=[second])(1, 11)]

    assert await engine.run(calls.bind()) == [11, 11, 12]
    assert work.calls == ["default"] * 2


async def test_large_values_and_files_come_back_whole(engine: Engine) -> None:
    for _ in range(2):
        assert await engine.run(caching.large.bind(7)) == bytes([7]) * caching.BIG
        file = await engine.run(caching.written.bind(7))
        assert file.path.read_text() == "7"
    assert sorted(work.calls) == ["large", "written"]


async def test_a_task_that_is_retried_is_kept_once_it_succeeds(engine: Engine) -> None:
    bound = caching.fails_first.with_options(retry=2).bind(8)
    run = await engine.start(bound)
    assert await run.result() == 8
    assert await engine.run(bound) == 8
    assert work.calls == ["tried"] * 2
    events = await events_of(run)
    assert sum(isinstance(event, NodeEmitted) for event in events) == 1
    entry = (await engine.cache.entries())[0].entry
    assert entry is not None
    assert (entry.run, entry.node, entry.attempt, entry.value) == (run.id, "fails_first", 2, 8)


async def test_a_failure_is_not_kept(engine: Engine) -> None:
    run = await engine.start(caching.fails_first.bind(8))
    assert (await run.wait()).status == "failed"
    assert await engine.cache.entries() == []
    assert await engine.run(caching.fails_first.bind(8)) == 8


async def test_what_waits_for_a_hit_runs(engine: Engine) -> None:
    @graph
    def chain(x: int) -> int:
        return work.add_one(caching.square(work.add_one(caching.square(x))))

    assert [await engine.run(chain.bind(2)) for _ in range(2)] == [26, 26]
    assert work.calls == ["square 2", "square 5"]


async def test_a_hit_takes_no_share_of_a_limit(engine: Engine) -> None:
    await engine.run(caching.squares.bind([1, 2, 3]))
    run = await engine.start(caching.squares.bind([1, 2, 3]), max_parallel=1)
    assert await run.result() == [1, 4, 9]
    assert len(await origins(run)) == 3


async def test_what_is_told_to_run_again_does_and_replaces_the_value(engine: Engine) -> None:
    run = await engine.start(caching.counted.bind("a"))
    assert await run.result() == 1
    again = await engine.retry(run.id, caching.counted.bind("a"), start=["counted"])
    assert await again.result() == 2
    assert await engine.run(caching.counted.bind("a")) == 2


async def test_a_run_without_the_cache_goes_on_without_it(engine: Engine) -> None:
    run = await engine.start(caching.fails_first.bind(8), cache=False)
    assert (await run.wait()).status == "failed"
    again = await engine.retry(run.id, caching.fails_first.bind(8))
    assert await again.result() == 8
    assert await engine.cache.entries() == []


# --- what cannot be cached ------------------------------------------------------------------------


async def test_an_input_without_a_stored_form_fails_the_node(memory: Engine) -> None:
    run = await memory.start(caching.of_a_live_object.bind())
    outcome = await run.wait()
    failure = outcome.failures[0]
    assert (outcome.status, failure.kind, failure.node) == ("failed", "config", "uses")
    assert failure.message.startswith("input 'handle' of a cached task: ")
    assert "Handle" in failure.message
    assert work.calls == []


async def test_a_default_without_a_stored_form_fails_the_node(memory: Engine) -> None:
    sentinel = caching.Handle()

    def plain(x: int, handle: object = sentinel) -> int:
        return x

    outcome = await (await memory.start(task(cache=True)(plain).bind(1))).wait()
    assert outcome.failures[0].kind == "config"
    assert "input 'handle' of a cached task" in outcome.failures[0].message


async def test_a_result_without_a_stored_form_is_a_warning(memory: Engine) -> None:
    run = await memory.start(caching.makes.bind(1))
    assert isinstance(await run.result(), caching.Handle)
    assert await warnings(run) == ["its result (Handle) has no stored form, and is not cached"]
    assert await memory.cache.entries() == []


def test_what_a_function_holds_must_not_hide_from_the_key() -> None:
    factor = 3

    def closes(x: int) -> int:
        return x * factor

    def inner(x: int) -> int:
        return x

    def wraps(x: int) -> int:
        return inner(x)

    with pytest.raises(GraphError, match="closes is cached, and takes 'factor' from"):
        compiled(task(cache=True)(closes))
    compiled(task(cache=True)(wraps))
    compiled(task(closes))
    with pytest.raises(GraphError, match="a partial that holds arguments of its own"):
        compiled(task(cache=True)(functools.partial(wraps)))
    with pytest.raises(GraphError, match=r"an object \(Stateful\) with a state"):
        compiled(task(cache=True)(Stateful()))


@pytest.mark.parametrize("version", [3, None, "a\nb", "x" * 129])
def test_a_version_is_a_short_text(version: object) -> None:
    with pytest.raises(GraphError, match=r"cache=.* cannot be"):
        caching.square.with_options(cache=version)  # type: ignore[arg-type] # on purpose


class Stateful:
    """Something that can be called, and may hold anything."""

    def __call__(self, x: int) -> int:
        return x


def compiled(made: object) -> None:
    from tests.graph.defs import plan_of

    plan_of(made.bind(1))  # type: ignore[attr-defined] # a task


async def test_a_live_object_cannot_be_part_of_a_key(memory: Engine) -> None:
    async def reads(x: int, db: object = Provided("db")) -> int:
        return x

    with pytest.raises(GraphError, match="reads is cached, and takes the live object 'db'"):
        await memory.start(task(cache=True)(reads).bind(1), provided={"db": object()})


# --- several at once ------------------------------------------------------------------------------


async def test_equal_nodes_of_one_run_run_once(engine: Engine) -> None:
    run = await engine.start(caching.slow_squares.bind([7] * 20 + [8]))
    assert await run.result() == [49] * 20 + [64]
    assert sorted(work.calls) == ["begin 7", "begin 8", "end 7", "end 8"]
    assert set((await origins(run)).values()) == {run.id}


async def test_equal_nodes_of_several_runs_run_once(engine: Engine) -> None:
    runs = [await engine.start(caching.slow_square.bind(7)) for _ in range(5)]
    assert [await run.result() for run in runs] == [49] * 5
    assert work.calls == ["begin 7", "end 7"]
    found = [tuple((await origins(run)).values()) for run in runs]
    assert sorted(map(len, found)) == [0, 1, 1, 1, 1]


async def test_where_the_first_fails_the_next_runs(engine: Engine) -> None:
    @graph(on_error="continue")
    def several() -> list[int]:
        return caching.fails_first.map(each([4, 4, 4]))

    run = await engine.start(several.bind())
    outcome = await run.wait()
    assert (outcome.status, len(outcome.failures)) == ("failed", 1)
    assert work.calls == ["tried"] * 2
    events = await events_of(run)
    ends = [type(e) for e in events if isinstance(e, (NodeSucceeded, NodeCached))]
    assert ends == [NodeSucceeded, NodeCached]


async def test_where_the_first_is_cancelled_another_run_goes_on(engine: Engine) -> None:
    first = await engine.start(caching.stuck.bind(4))
    while not work.calls:
        await anyio.sleep(0.001)
    second = await engine.start(caching.stuck.bind(4))
    await anyio.sleep(0.02)
    assert not second.done
    await first.cancel("enough", grace=0.1)
    assert await second.result() == 4
    assert (await first.wait()).status == "cancelled"


async def test_where_the_first_run_breaks_another_goes_on(anyio_backend: str) -> None:
    log = FaultyRunLog(refused=NodeSucceeded)
    async with Engine.memory(run_log=log, grace=0.2) as engine:
        first = await engine.start(caching.slow_square.bind(4))
        second = await engine.start(caching.slow_square.bind(4))
        assert (await first.wait()).status == "interrupted"
        assert (await second.wait()).status == "interrupted"
        # The second one tried for itself; what no log has, the cache does not have either.
        assert work.calls == ["begin 4", "end 4"] * 2
        assert await engine.cache.entries() == []


async def test_cancelled_while_looking_up(anyio_backend: str) -> None:
    looking = anyio.Event()

    async def never(name: str) -> None:
        if name.startswith("cache/"):
            looking.set()
            await anyio.sleep_forever()

    async with Engine.memory(catalog=HookedCatalog(reading=never), grace=0.2) as engine:
        run = await engine.start(caching.squares.bind([1, 2, 1]))
        await looking.wait()
        await run.cancel("enough")
        outcome = await run.wait()
    assert (outcome.status, outcome.reason, work.calls) == ("cancelled", "enough", [])


async def test_skipped_while_looking_up(anyio_backend: str) -> None:
    gate = anyio.Event()

    async def wait(name: str) -> None:
        if name.startswith("cache/"):
            await gate.wait()

    g = GraphBuilder("two")
    g.add(work.boom, 1)
    g.add(caching.square, 2)
    async with Engine.memory(catalog=HookedCatalog(reading=wait), grace=0.2) as engine:
        run = await engine.start(g.build())
        outcome = await run.wait()
        gate.set()
        await anyio.sleep(0.01)
        assert outcome.status == "failed"
        # Nobody waits for the one that was given up.
        assert await engine.run(caching.square.bind(2)) == 4
    assert work.calls == ["square 2"]


async def test_many_look_ups_in_a_wide_map(engine: Engine) -> None:
    wide = caching.squares.bind([x % 100 for x in range(400)])
    assert await engine.run(wide) == [(x % 100) ** 2 for x in range(400)]
    assert len(work.calls) == 100
    assert await engine.run(wide) == [(x % 100) ** 2 for x in range(400)]
    assert len(work.calls) == 100


# --- a cache that goes wrong ----------------------------------------------------------------------


async def again(engine: Engine, says: str, bound: object = None) -> None:
    """The value is worked out again with a warning, replaced, and then found."""
    asked = bound or caching.square.bind(3)
    calls = len(work.calls)
    run = await engine.start(asked)  # type: ignore[arg-type, var-annotated] # a bound task
    await run.result()
    said = await warnings(run)
    assert len(said) == 1
    assert says in said[0]
    assert len(work.calls) == calls + 1
    run = await engine.start(asked)  # type: ignore[arg-type] # as above
    await run.result()
    assert (await warnings(run), len(work.calls)) == ([], calls + 1)


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"version": 1}', b"\xff\x00"])
async def test_a_damaged_record_is_a_miss_and_is_replaced(
    kept: Engine, tmp_path: Path, damage: bytes
) -> None:
    await kept.run(caching.square.bind(3))
    (record,) = records(tmp_path)
    record.write_bytes(damage)
    await again(kept, "cannot be used: the record cannot be read")


async def test_a_record_of_a_newer_release_is_a_miss(kept: Engine, tmp_path: Path) -> None:
    await kept.run(caching.square.bind(3))
    (record,) = records(tmp_path)
    record.write_bytes(record.read_bytes().replace(b'"version":1}', b'"version":2}'))
    await again(kept, "the record has version 2; this onready knows 1")


async def test_the_record_of_another_value_is_a_miss(kept: Engine, tmp_path: Path) -> None:
    await kept.run(caching.square.bind(3))
    (mine,) = records(tmp_path)
    await kept.run(caching.square.bind(4))
    (other,) = set(records(tmp_path)) - {mine}
    shutil.copyfile(other, mine)
    await again(kept, "the record holds the value of other ingredients")


@pytest.mark.parametrize("bound", [caching.large.bind(3), caching.written.bind(3)], ids=str)
async def test_a_value_whose_blob_is_gone_is_a_miss(
    kept: Engine, tmp_path: Path, bound: object
) -> None:
    await kept.run(bound)  # type: ignore[arg-type] # a bound task
    shutil.rmtree(tmp_path / "state" / "catalog" / "blobs")
    (tmp_path / "state" / "catalog" / "blobs").mkdir()
    async with Engine(folder=tmp_path / "state", grace=0.5) as other:
        await again(other, "the catalog has no blob", bound)


async def test_a_value_whose_blob_is_damaged_is_a_miss(kept: Engine, tmp_path: Path) -> None:
    await kept.run(caching.large.bind(3))
    for blob in (tmp_path / "state" / "catalog" / "blobs").rglob("*"):
        if blob.is_file():
            blob.write_bytes(b"x")
    await again(kept, "cannot be used", caching.large.bind(3))


async def replaced(engine: Engine, **changes: object) -> None:
    """The one entry, changed."""
    (listed,) = await engine.cache.entries()
    assert listed.entry is not None
    entry: CacheEntry = msgspec.structs.replace(listed.entry, **changes)
    assert await engine.cache.write(entry, replace=True)


async def test_a_value_that_no_longer_fits_its_task_is_a_miss(engine: Engine) -> None:
    await engine.run(caching.square.bind(3))
    await replaced(engine, value="nine")
    await again(engine, "the value no longer fits the task")


async def test_a_pickle_that_nobody_asked_for_is_never_read(engine: Engine) -> None:
    await engine.run(caching.square.bind(3))
    await replaced(engine, value=Encoded("pickle", b"\x80\x04K\x09.", None, 5))
    await again(engine, "the record holds a pickle, and the task has not asked for")


async def test_a_cache_that_cannot_be_read_is_a_warning(anyio_backend: str) -> None:
    async def broken(name: str) -> None:
        if name.startswith("cache/"):
            message = "the store is away"
            raise StoreError(message, retryable=True)

    async with Engine.memory(catalog=HookedCatalog(reading=broken)) as engine:
        for _ in range(2):
            run = await engine.start(caching.square.bind(3))
            assert await run.result() == 9
            assert await warnings(run) == ["the cache cannot be read: the store is away"]
    assert work.calls == ["square 3"] * 2


async def test_a_cache_that_cannot_be_written_is_a_warning(anyio_backend: str) -> None:
    async def full(name: str) -> None:
        if name.startswith("cache/"):
            message = "the disk is full"
            raise OSError(message)

    async with Engine.memory(catalog=HookedCatalog(creating=full)) as engine:
        run = await engine.start(caching.squares.bind([3, 4]))
        assert await run.result() == [9, 16]
        said = "the value cannot be kept in the cache: the disk is full"
        assert await warnings(run) == [said, said]


async def test_a_run_waits_for_its_records_but_not_for_ever(
    anyio_backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cached, "WRITING", 0.05)

    async def never(name: str) -> None:
        if name.startswith("cache/"):
            await anyio.sleep_forever()

    async with Engine.memory(catalog=HookedCatalog(creating=never)) as engine:
        run = await engine.start(caching.square.bind(3))
        assert await run.result() == 9
        assert await warnings(run) == ["the value was not kept: the catalog took too long"]


async def test_the_records_are_there_when_the_run_has_ended(anyio_backend: str) -> None:
    async def slow(name: str) -> None:
        await anyio.sleep(0.05)

    inner = MemoryCatalog()
    async with Engine.memory(catalog=HookedCatalog(inner, creating=slow)) as engine:
        await engine.run(caching.squares.bind([1, 2, 3]))
        assert len(await inner.list("cache/")) == 3


# --- looking, and clearing ------------------------------------------------------------------------


async def test_entries_are_listed_and_cleared(engine: Engine) -> None:
    await engine.run(caching.squares.bind([1, 2]))
    await engine.run(caching.large.bind(1))
    tasks = [listed.entry.task for listed in await engine.cache.entries() if listed.entry]
    assert sorted(tasks) == ["large", "square", "square"]
    (large,) = await engine.cache.entries("large")
    assert large.size == caching.BIG
    assert len(await engine.cache.entries("tests.engine.caching:square")) == 2
    assert await engine.cache.clear("square") == 2
    assert await engine.cache.clear("square") == 0
    await engine.run(caching.squares.bind([1, 2]))
    assert work.calls.count("square 1") == 2
    assert await engine.cache.clear() == 3
    assert await engine.cache.entries() == []


async def test_damaged_records_are_listed_and_cleared_too(kept: Engine, tmp_path: Path) -> None:
    await kept.run(caching.square.bind(3))
    records(tmp_path)[0].write_bytes(b"?")
    (listed,) = await kept.cache.entries()
    assert (listed.entry, listed.size) == (None, 1)
    assert await kept.cache.entries("square") == []
    assert await kept.cache.clear() == 1


async def why(engine: Engine, run: str, node: str) -> tuple[str, tuple[str, ...]]:
    answer = await engine.explain_cache(run, node)
    return answer.status, answer.reasons


async def test_why_a_node_was_or_was_not_cached(engine: Engine) -> None:
    first = await engine.start(caching.square.bind(3))
    await first.result()
    second = await engine.start(caching.square.bind(3))
    await second.result()
    third = await engine.start(caching.square.bind(4))
    await third.result()
    fourth = await engine.start(caching.square.with_options(cache="new").bind(4))
    await fourth.result()
    off = await engine.start(caching.square.bind(3), cache=False)
    await off.result()
    none = ("missed", ("no value of this task was in the cache",))
    assert await why(engine, first.id, "square") == none
    assert await why(engine, second.id, "square") == ("cached", ())
    assert (await engine.explain_cache(second.id, "square")).origin == first.id
    assert await why(engine, third.id, "square") == ("missed", ("input x changed",))
    version = "the version changed: cache='new', and there '1'"
    assert await why(engine, fourth.id, "square") == ("missed", (version,))
    unasked = "its task has no cache=, or the run was started without the cache (--no-cache)"
    assert await why(engine, off.id, "square") == ("unasked", (unasked,))
    answer = await engine.explain_cache(first.id, "other")
    assert (answer.status, answer.nodes) == ("unknown", ("square",))


async def test_why_says_what_was_wrong(engine: Engine) -> None:
    await engine.run(caching.square.bind(3))
    await replaced(engine, value="nine")
    run = await engine.start(caching.square.bind(3))
    await run.result()
    await replaced(engine, created=0.0)
    status, reasons = await why(engine, run.id, "square")
    assert status == "missed"
    assert "the value no longer fits the task" in reasons[-1]


async def test_why_of_what_never_was_looked_up(memory: Engine) -> None:
    run = await memory.start(caching.of_a_live_object.bind())
    await run.wait()
    status, reasons = await why(memory, run.id, "uses")
    assert status == "unasked"
    assert reasons[0].startswith("input 'handle' of a cached task")
