"""Removals of ended containers: in the background, so many at once, and none forgotten."""

from __future__ import annotations

import anyio
import pytest

from onready.backends.docker.removals import Removals

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(60)]


class Container:
    """Goes when it may; `gone` counts how often it has, `given_up` how often it could not."""

    def __init__(self) -> None:
        self.may_go = anyio.Event()
        self.gone = 0
        self.given_up = 0

    async def remove(self) -> None:
        try:
            await self.may_go.wait()
        except BaseException:
            self.given_up += 1
            raise
        self.gone += 1


async def test_who_brings_one_does_not_wait_but_who_leaves_does() -> None:
    one = Container()
    removals = Removals(1, 30.0)
    await removals.take(one.remove)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(removals.close)
        await anyio.wait_all_tasks_blocked()
        assert not one.gone
        one.may_go.set()
    assert one.gone == 1


async def test_who_brings_one_too_many_waits() -> None:
    one = Container()
    removals = Removals(2, 30.0)
    taken: list[int] = []

    async def bring() -> None:
        for number in range(3):
            await removals.take(one.remove)
            taken.append(number)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bring)
        await anyio.wait_all_tasks_blocked()
        assert taken == [0, 1]
        one.may_go.set()
    await removals.close()
    assert (taken, one.gone) == ([0, 1, 2], 3)


async def test_who_leaves_waits_not_for_ever(caplog: pytest.LogCaptureFixture) -> None:
    one = Container()
    removals = Removals(2, 0.05)
    await removals.take(one.remove)
    await removals.take(one.remove)
    await removals.close()
    assert (one.gone, one.given_up) == (0, 2)
    assert caplog.messages == ["2 ended containers could not be removed: `onready gc` will"]


async def test_who_is_cancelled_waits_too() -> None:
    one = Container()
    removals = Removals(1, 30.0)
    await removals.take(one.remove)

    async def free() -> None:
        await anyio.wait_all_tasks_blocked()
        one.may_go.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(free)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await removals.close()
    assert one.gone == 1


async def test_a_fault_of_one_is_said_and_no_other_suffers(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def fail() -> None:
        message = "a fault of ours"
        raise RuntimeError(message)

    one = Container()
    removals = Removals(2, 30.0)
    await removals.take(fail)
    await removals.take(one.remove)
    one.may_go.set()
    await removals.close()
    assert one.gone == 1
    assert "a fault of ours" in caplog.text
