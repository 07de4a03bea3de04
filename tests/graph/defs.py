"""Tasks, types and backends that the tests of graphs share, at module level as users have them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple, TypedDict

import pytest

from onready.engine.context import NodeContext
from onready.engine.errors import GraphError
from onready.engine.graph import Bound, Provided, task
from onready.engine.plan.compile import compile_plan
from onready.engine.plan.model import Plan
from onready.engine.spi import Capabilities

BACKENDS = {
    "inline": Capabilities(in_process=True, coroutines=True),
    "thread": Capabilities(in_process=True),
    "process": Capabilities(options=frozenset({"queue", "labels", "parts"})),
    "subprocess": Capabilities(shell=True),
    "gpu-box": Capabilities(gpu=True),
}


@dataclass
class Model:
    alpha: float
    name: str = ""


class Score(TypedDict):
    value: float
    label: str


class Point(NamedTuple):
    x: int
    y: str


@task
async def load(url: str) -> list[int]:
    return [len(url)]


@task
def clean(raw: list[int]) -> list[int]:
    return raw


@task
def inc(x: int) -> int:
    return x + 1


@task
def name_of(x: int) -> str:
    return str(x)


@task
def pair(x: int) -> tuple[int, str]:
    return x, str(x)


@task
def train(data: list[int], alpha: float = 0.5) -> Model:
    return Model(alpha * len(data))


@task
def score(model: Model) -> Score:
    return {"value": model.alpha, "label": model.name}


@task
def anything(x, y=None, *, z=0):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN201 - on purpose
    return x, y, z


@task
def query(sql: str, db: object = Provided("db")) -> int:
    return len(sql)


@task
def aware(x: int, context: NodeContext = Provided(NodeContext)) -> int:
    return x


@task(backend="process")
def heavy(x: int) -> int:
    return x


def plan_of(bound: Bound[object], **options: object) -> Plan:
    return compile_plan(bound, backends=BACKENDS, **options)  # type: ignore[arg-type] # tests choose


@contextmanager
def refused(code: str, *texts: str) -> Generator[pytest.ExceptionInfo[GraphError]]:
    """The block raises a GraphError of that code whose text has all of `texts`."""
    with pytest.raises(GraphError) as caught:
        yield caught
    assert caught.value.code == code, caught.value
    for text in texts:
        assert text in str(caught.value), caught.value
