"""Runs are found by id, by a unique prefix, by name, and as the last one."""

from __future__ import annotations

import time

import anyio
import pytest

from onready import Engine, RunNotFound
from onready.engine.events import RunStatus
from onready.engine.lookup import summarise_run
from onready.engine.owner import new_owner
from onready.engine.spi import RunFilter
from onready.engine.testing.samples import started
from tests.engine import work
from tests.engine.test_owner import of_a_child

pytestmark = pytest.mark.anyio


async def ended(engine: Engine, id: str, name: str) -> None:  # noqa: A002 - as the engine says it
    await (await engine.start(work.add_one.bind(1), id=id, name=name)).result()


async def test_no_run_at_all(engine: Engine) -> None:
    with pytest.raises(RunNotFound, match="no runs yet"):
        await engine.find("last")
    with pytest.raises(RunNotFound, match="no run is called 'x'"):
        await engine.find("x")
    assert await summarise_run(engine.run_log, "x") is None


async def test_by_id_prefix_name_and_last(engine: Engine) -> None:
    await ended(engine, "alpha-1", "brisk-heron")
    await anyio.sleep(0.002)  # `last` goes by the time of the start
    await ended(engine, "beta-2", "calm-otter")
    for text in ("alpha-1", "alp", "brisk-heron"):
        assert (await engine.find(text)).run == "alpha-1"
    for text in ("beta-2", "b", "calm-otter", "last"):
        assert (await engine.find(text)).run == "beta-2"
    with pytest.raises(RunNotFound):
        await engine.find("brisk")
    with pytest.raises(RunNotFound, match="no run is called ''"):
        await engine.find("")


async def test_an_id_that_begins_another_is_meant_itself(engine: Engine) -> None:
    await ended(engine, "a", "one")
    for number in range(25):
        await ended(engine, f"a{number}", "later")
    assert (await engine.find("a")).run == "a"
    assert (await engine.find("one")).run == "a"


async def test_a_prefix_of_several_names_them(engine: Engine) -> None:
    for number in range(7):
        await ended(engine, f"many-{number}", f"name-{number}")
    with pytest.raises(RunNotFound, match="fits 7 runs") as caught:
        await engine.find("many")
    assert str(caught.value).count("many-") == 5


async def test_of_runs_with_one_name_the_newest_is_meant(engine: Engine) -> None:
    await ended(engine, "first", "same")
    await anyio.sleep(0.002)
    await ended(engine, "second", "same")
    assert (await engine.find("same")).run == "second"
    assert [record.run for record in await engine.runs(RunFilter(limit=1))] == ["second"]
    assert [record.run for record in await engine.runs()] == ["second", "first"]


async def test_a_run_whose_driver_has_died_is_interrupted_at_once(engine: Engine) -> None:
    await ended(engine, "well", "well")
    for run, owner in (("killed", of_a_child), ("driven", new_owner)):
        name = await anyio.to_thread.run_sync(owner)
        lease = await engine.run_log.lease(run, name, 600.0)
        await engine.run_log.append(run, lease.epoch, [started(run, at=time.time())])
        await anyio.sleep(0.002)
    found = {record.run: record.status for record in await engine.runs()}
    assert found == {"well": "succeeded", "killed": "interrupted", "driven": "running"}
    assert (await engine.find("killed")).status == "interrupted"
    statuses: tuple[RunStatus, ...] = ("succeeded", "interrupted", "running")
    for status in statuses:
        expected = [run for run, of_it in found.items() if of_it == status]
        assert [one.run for one in await engine.runs(RunFilter(status=status))] == expected
    assert await engine.runs(RunFilter(status="interrupted", limit=0)) == []
