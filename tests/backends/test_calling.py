"""One call of a function in a worker: what goes in, what comes out, what goes wrong."""

from __future__ import annotations

import asyncio
import contextvars
import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from onready.engine.context import NodeContext, current
from onready.engine.graph import Provided
from onready.engine.names import NodeKey
from onready.engine.spi import Call, Failed, Succeeded
from onready.engine.values.stored import Stored
from onready.engine.worker import calling
from onready.engine.worker.ending import Terminated, TimeUp
from onready.engine.worker.speaking import WorkerSource

if TYPE_CHECKING:
    from decimal import Decimal

KEY = NodeKey("n")


def run(function: Callable[..., object], inputs: dict[str, Stored] | None = None) -> object:
    """The value of a call, or its failure; in a context of its own."""
    calling.callee_of.cache_clear()
    source = WorkerSource("run", Path("/nonexistent"), lambda _f, _m: None)
    work = Call(f"{__name__}:{function.__name__}")
    globals()[function.__name__] = function

    def call() -> object:
        outcome = calling.run_call(work, inputs or {}, source, KEY, 1)
        assert isinstance(outcome, Succeeded | Failed)
        return outcome.value if isinstance(outcome, Succeeded) else outcome.failure

    return contextvars.copy_context().run(call)


def half_known(x: int, y: Decimal | None = None) -> Decimal:
    return x  # type: ignore[return-value] # the annotation is for type checkers alone


def test_an_annotation_that_does_not_resolve_hides_no_other() -> None:
    assert run(half_known, {"x": 1}) == 1
    assert "input 'x'" in str(run(half_known, {"x": "text"}))


class Adder:
    """A callable object."""

    __name__ = "adder"

    def __call__(self, x: int) -> str:
        return f"{x}"


def test_callable_objects_and_partials_have_annotations() -> None:
    assert run(Adder(), {"x": 1}) == "1"
    assert "input 'x'" in str(run(Adder(), {"x": "text"}))
    part = functools.partial(Adder().__call__)
    part.__name__ = "part"  # type: ignore[attr-defined] # so that it can be found
    assert "input 'x'" in str(run(part, {"x": []}))  # type: ignore[dict-item] # it is refused


def test_a_live_object_is_refused() -> None:
    def wants(db: object = Provided("db")) -> None: ...

    failure = run(wants)
    assert "live object 'db'" in str(failure)
    assert getattr(failure, "kind", "") == "config"


def test_the_context_is_there_by_parameter_and_by_call() -> None:
    def asks(ctx: NodeContext = Provided(NodeContext)) -> list[object]:
        found = current()
        return [ctx.node, found.run if found else None]

    value = run(asks)
    assert "run" in str(value)
    assert current() is None


@pytest.mark.parametrize(("error", "kind"), [(TimeUp, "timeout"), (SystemExit, "error")])
def test_what_ends_a_call_is_a_failure(error: type[BaseException], kind: str) -> None:
    def ends() -> None:
        raise error

    assert getattr(run(ends), "kind", "") == kind


def test_term_is_passed_on() -> None:
    def ends() -> None:
        raise Terminated

    with pytest.raises(Terminated):
        run(ends)


def test_a_coroutine_cannot_leave_tasks_behind() -> None:
    tasks: list[asyncio.Task[None]] = []

    async def starts() -> int:
        tasks.append(asyncio.create_task(asyncio.sleep(600)))
        await asyncio.sleep(0)
        return 1

    assert run(starts) == 1
    assert tasks[0].cancelled()
