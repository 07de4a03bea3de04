"""Uses of the public API that every type checker must take without a word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import assert_type

from onready import (
    Bound,
    Engine,
    Failure,
    File,
    GraphBuilder,
    NodeContext,
    Provided,
    Resources,
    Retry,
    Run,
    RunOutcome,
    Secret,
    branch,
    each,
    graph,
    repeat,
    rescue,
    run_sync,
    shell,
    switch,
    task,
)


class Pool: ...


@dataclass
class Model:
    alpha: float


@task
async def load(url: str, db: Pool = Provided("db")) -> list[int]:
    return [len(url)]


@task(retry=3)
def clean(raw: list[int]) -> list[int]:
    return raw


@task(retry=Retry(3, backoff=1.0, on=(OSError, "timeout")), timeout=60, resources=Resources(cpu=1))
def train(data: list[int], alpha: float, context: NodeContext = Provided(NodeContext)) -> Model:
    return Model(alpha)


@task(name="pair-up", backend="process", image="a:1", options={"queue": "short"})
async def pair(number: int, text: str = "") -> tuple[int, str]:
    return number, text


@task()
def nothing() -> None: ...


@task
def login(url: str, token: str = Secret("TOKEN"), more: str | None = Secret("MORE")) -> int:
    return len(token) + len(url) + len(more or "")


@task
def best(models: list[Model]) -> Model:
    return models[0]


@task
def enough(data: list[int]) -> bool:
    return len(data) > 9


@task
async def more(data: list[int], by: int) -> list[int]:
    return [*data, by]


@task
def is_long(data: list[int], bound: int) -> bool:
    return len(data) > bound


@task
def size_class(data: list[int]) -> str:
    return "small"


@task
def count(data: list[int]) -> int:
    return len(data)


@task
def apologise(url: str, failure: Failure = Provided(Failure)) -> str:
    return failure.message


@task
def survivors(models: Sequence[Model | Failure]) -> int:
    return len(models)


@graph
def fold(data: list[int], alphas: list[float]) -> list[Model]:
    models = train.map(data, each(alphas))
    assert_type(models, list[Model])
    return models


@graph(name="main", on_error="continue", timeout=10)
def main(url: str, alphas: list[float] | None = None) -> tuple[Model, list[list[Model]], int]:
    raw = load(url)
    assert_type(raw, list[int])
    data = clean(raw)
    number, text = pair(data[0])
    assert_type(number, int)
    assert_type(text, str)
    model = train(data, alpha=0.5)
    assert_type(model.alpha, float)
    nested = fold.map(each([data, [1, 2]]), [0.1, 0.5])
    assert_type(nested, list[list[Model]])
    assert_type(nested[0], list[Model])
    assert_type(clean.map(each([[1], [2]])), list[list[int]])
    assert_type(
        train.with_options(name="again", after=[data], retry=0, limit=4, image="a")(data, 0.1),
        Model,
    )
    fold.with_options(name="folded", after=[model], limit=2).map(each([data]), [0.1])
    assert_type(shell(["echo", "{x}"], inputs={"x": number}), str)
    assert_type(shell(["echo"], image="busybox:1.36"), str)
    assert_type(shell("make report", outputs="report.txt"), File)
    assert_type(shell("make all", outputs=["a", "b"]), dict[str, File])
    assert_type(login(url), int)
    login(url, Secret("OTHER"))
    shell("curl", inputs={"a": Secret("A")}, environment={"TOKEN": Secret("TOKEN")})
    nothing()
    return best(fold(data, [0.1])), nested, number


@graph
def composed(url: str) -> int | str | list[int]:
    data = load(url)
    chosen = branch(enough(data), count.bind(data), apologise.bind(url), name="gate", after=[data])
    assert_type(chosen, int | str)
    assert_type(branch(enough(data), count.bind(data), count.bind([1])), int)
    arms = {"small": count.bind(data), "big": count.bind([1])}
    assert_type(switch(size_class(data), arms), int)
    assert_type(switch(size_class(data), arms, default=apologise.bind(url)), int | str)
    assert_type(switch(count(data), {1: count.bind(data)}, default=None, always=True), int)
    assert_type(switch(enough(data), {True: fold.bind(data, [0.1])}), list[Model])
    grown = repeat(clean, data, until=enough, limit=3)
    assert_type(grown, list[int])
    assert_type(repeat(partial(more, by=2), data, until=enough, limit=9, name="poll"), list[int])
    late = repeat(clean, data, until=partial(is_long, bound=3), limit=9, on_limit="return")
    assert_type(late, list[int])
    saved = rescue(composed_body.bind(url), apologise.bind(url), always=False)
    assert_type(saved, list[int] | str)
    assert_type(survivors(train.map(data, each([0.1]))), int)
    clean.with_options(always=True, after=[saved])(data)
    fold.with_options(always=True)(data, [0.1])
    assert_type(shell("rm x", always=True, after=[saved]), str)
    return chosen


@graph
def composed_body(url: str) -> list[int]:
    return load(url)


def built_composites() -> Bound[int | str]:
    g = GraphBuilder()
    data = g.add(load, "u", always=True)
    chosen = g.branch(g.add(enough, data), count.bind(data), apologise.bind("u"), after=["x"])
    assert_type(chosen, int | str)
    arms = {"small": count.bind(data)}
    assert_type(g.switch(g.add(size_class, data), arms), int)
    found = g.switch(g.add(size_class, data), arms, default=apologise.bind("u"), name="pick")
    assert_type(found, int | str)
    assert_type(g.repeat(clean, data, until=enough, limit=3, on_limit="return"), list[int])
    assert_type(g.rescue(count.bind(data), apologise.bind("u")), int | str)
    assert_type(g.map(count, each([data]), name="all", always=True), list[int])
    return g.build(chosen)


def built() -> Bound[Model]:
    g = GraphBuilder("built", on_error="stop")
    url = g.param("url", str, default="x")
    assert_type(url, str)
    raw = g.add(load, url)
    assert_type(raw, list[int])
    data = g.add(clean, raw, name="tidy", after=["later"])
    assert_type(data, list[int])
    models = g.map(train, data, each([0.1, 0.5]))
    assert_type(models, list[Model])
    g.add(nothing, name="later")
    g.shell("make", after=[data])
    bound = g.build(g.add(best, models), inputs={"url": "y"})
    assert_type(bound, Bound[Model])
    return bound


def plain() -> None:
    assert_type(clean.fn([1]), list[int])
    assert_type(clean.bind([1]), Bound[list[int]])
    assert_type(main.bind("u"), Bound[tuple[Model, list[list[Model]], int]])
    covariant: Bound[object] = clean.bind([1])
    del covariant


async def awaited() -> None:
    assert_type(await load.fn("u", Pool()), list[int])
    async with Engine.memory(provided={"db": Pool()}) as engine:
        assert_type(await engine.run(main.bind("u")), tuple[Model, list[list[Model]], int])
        assert_type(await engine.run(built()), Model)
        run = await engine.start(clean.bind([1]))
        assert_type(run, Run[list[int]])
        assert_type(await run.result(), list[int])
        assert_type(await run.wait(), RunOutcome[list[int]])


def scripted() -> None:
    assert_type(run_sync(pair.bind(1)), tuple[int, str])
