"""Tracing: what a graph function's calls become, once, whoever asks first."""

from __future__ import annotations

import asyncio
import functools
import threading
from typing import Any, cast

import pytest

from onready.engine.errors import GraphError
from onready.engine.graph import AsyncTask, SyncTask, graph, task
from onready.engine.plan.model import Arg, Const, FromNode, FromParam, Gather, Step
from onready.engine.values import ValueType
from tests.graph.defs import anything, clean, inc, load, pair, plan_of, train


def names(fragment: Any) -> list[str]:
    return [node.name for node in fragment.nodes]


def test_calls_become_nodes_in_their_order() -> None:
    @graph
    def main(url: str) -> object:
        raw = load(url)
        return train(clean(raw), alpha=0.5)

    root = plan_of(main.bind("u")).root
    assert names(root) == ["load", "clean", "train"]
    assert [node.position for node in root.nodes] == [0, 1, 2]
    assert root.nodes[0].args == (Arg("url", FromParam("url")),)
    assert root.nodes[1].args == (Arg("raw", FromNode(0)),)
    assert root.nodes[2].args == (Arg("data", FromNode(1)), Arg("alpha", Const(0.5)))
    assert root.result == FromNode(2)
    assert [node.waits for node in root.nodes] == [(), (0,), (1,)]
    assert [node.feeds for node in root.nodes] == [(1,), (2,), ()]
    assert root.nodes[0].where == f"{__file__}:{main.fn.__code__.co_firstlineno + 2}"


def test_names_are_numbered_by_the_order_of_calls() -> None:
    @graph
    def main() -> None:
        inc(1)
        inc(2)
        inc.with_options(name="inc-3")(3)
        inc(4)
        inc.with_options(name="last")(5)
        inc(6)

    body = main.bind().graph
    assert [node.name for node in body.nodes] == ["inc", "inc-2", "inc-3", "inc-4", "last", "inc-5"]


def test_keyword_arguments_come_in_the_order_of_the_signature() -> None:
    @graph
    def main() -> None:
        train(alpha=1.0, data=[1])
        train([1], alpha=1.0)

    first, second = plan_of(main.bind()).root.nodes
    assert first.args == second.args


def test_projections() -> None:
    @graph
    def main() -> object:
        value = cast("Any", anything(1))
        return anything(value["k"].size[0][-1])

    node = plan_of(main.bind()).root.nodes[1]
    path = (Step("k"), Step("size", attribute=True), Step(0), Step(-1))
    assert node.args == (Arg("x", FromNode(0, path)),)
    assert node.waits == (0,)


def test_tuples_unpack_by_their_annotation() -> None:
    @graph
    def main(given: tuple[int, tuple[int, str]]) -> object:
        number, text = pair(1)
        first, (second, third) = given
        return [number, text, first, second, third]

    root = plan_of(main.bind((1, (2, "a")))).root
    assert root.result == Gather(
        "list",
        (
            FromNode(0, (Step(0),)),
            FromNode(0, (Step(1),)),
            FromParam("given", (Step(0),)),
            FromParam("given", (Step(1), Step(0))),
            FromParam("given", (Step(1), Step(1))),
        ),
    )


def test_refs_inside_literals_are_gathered_and_waited_for() -> None:
    @graph
    def main() -> object:
        one = inc(1)
        two = inc(2)
        return anything({"a": [one, 3], "b": (two, "x")}, y=[])

    root = plan_of(main.bind()).root
    node = root.nodes[2]
    assert node.args[0].value == Gather(
        "dict",
        (
            Gather("list", (FromNode(0), Const(3))),
            Gather("tuple", (FromNode(1), Const("x"))),
        ),
        ("a", "b"),
    )
    assert node.waits == (0, 1)
    constant = node.args[1].value
    assert isinstance(constant, Const)
    assert ValueType.any().decode(constant.value) == []


def test_a_list_changed_after_the_call_does_not_change_the_call() -> None:
    @graph
    def main() -> None:
        items = [1]
        clean(items)
        items.append(2)
        clean(items)

    kept = [cast("Const", node.args[0].value).value for node in plan_of(main.bind()).root.nodes]
    assert [ValueType.of(list[int]).decode(value) for value in kept] == [[1], [1, 2]]


def test_after_orders_without_data() -> None:
    @graph
    def main() -> object:
        first = inc(1)
        second = inc(2)
        inc.with_options(after=[first, second, first])(3)
        inc.with_options(after=[first])(first)
        return None

    nodes = plan_of(main.bind()).root.nodes
    assert nodes[2].waits == (0, 1)
    assert nodes[2].args == (Arg("x", Const(3)),)
    assert nodes[3].waits == (0,)
    assert nodes[0].feeds == (2, 3)


def test_a_part_of_a_result_orders_too() -> None:
    @graph
    def main() -> None:
        number, _ = pair(1)
        inc.with_options(after=[number])(1)

    assert plan_of(main.bind()).root.nodes[1].waits == (0,)


def test_a_graph_in_a_graph_is_a_fragment_of_its_own() -> None:
    @graph
    def inner(x: int, step: int = 2) -> object:
        return inc(inc(x))

    @graph
    def outer(x: int) -> object:
        return inner(cast("Any", inner(x)), step=3)

    root = plan_of(outer.bind(1)).root
    first, second = root.nodes
    assert (first.kind, first.task, first.name) == ("subgraph", None, "inner")
    assert second.args == (Arg("x", FromNode(0)), Arg("step", Const(3)))
    assert first.body is not None
    assert first.body is second.body
    assert names(first.body) == ["inc", "inc-2"]
    assert [(p.name, p.required, p.default) for p in first.body.params] == [
        ("x", True, None),
        ("step", False, 2),
    ]
    assert first.body.result == FromNode(1)


def test_results_of_every_shape() -> None:
    @graph
    def several(x: int) -> object:
        return {"sum": inc(x), "parts": (x, [1, "a"]), "none": None}

    @graph
    def constant() -> object:
        inc(1)
        return 7

    @graph
    def passed_on(x: int) -> int:
        return x

    assert plan_of(several.bind(1)).root.result == Gather(
        "dict",
        (
            FromNode(0),
            Gather("tuple", (FromParam("x"), plan_constant([1, "a"]))),
            Const(None),
        ),
        ("sum", "parts", "none"),
    )
    assert plan_of(constant.bind()).root.result == Const(7)
    assert plan_of(passed_on.bind(1)).root.result == FromParam("x")


def plan_constant(value: object) -> Const:
    return Const(ValueType.any().encode(value))


def test_a_graph_is_traced_once_by_many_threads() -> None:
    calls = []

    @graph
    def main(x: int) -> int:
        calls.append(threading.get_ident())
        return inc(x)

    started = threading.Barrier(8)
    found: list[object] = []

    def ask() -> None:
        started.wait(timeout=30)
        found.append(main.bind(1).graph)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert len(calls) == 1
    assert len(found) == 8
    assert len(set(map(id, found))) == 1


def test_tracing_is_lazy_and_shared_by_copies() -> None:
    calls = []

    @graph
    def inner(x: int) -> int:
        calls.append(1)
        return x

    @graph
    def outer() -> list[int]:
        return [inner.with_options(name=f"n{index}")(index) for index in range(3)]

    assert calls == []
    assert len(outer.bind().graph.nodes) == 3
    assert calls == [1]


def test_two_threads_trace_apart() -> None:
    """A trace is seen by its own thread alone."""
    inside = threading.Event()
    go_on = threading.Event()
    failures: list[GraphError] = []

    @graph
    def slow() -> None:
        inside.set()
        assert go_on.wait(timeout=30)

    def call_outside() -> None:
        try:
            assert inside.wait(timeout=30)
            inc(1)
        except GraphError as error:
            failures.append(error)
        finally:
            go_on.set()

    other = threading.Thread(target=call_outside)
    other.start()
    slow.bind().graph  # noqa: B018 - traces
    other.join(timeout=30)
    assert [error.code for error in failures] == ["G001"]


def test_a_trace_that_failed_can_be_tried_again_and_leaves_no_trace_behind() -> None:
    fail = [True]

    @graph
    def main() -> int:
        if fail:
            raise OSError("user's own")
        return inc(1)

    with pytest.raises(OSError, match="user's own"):
        main.bind().graph  # noqa: B018 - traces
    with pytest.raises(Exception, match="outside a graph"):
        inc(1)
    fail.clear()
    assert len(main.bind().graph.nodes) == 1


def test_tracing_inside_a_running_loop() -> None:
    @graph
    def main() -> int:
        return inc(1)

    async def run() -> int:
        return len(main.bind().graph.nodes)

    assert asyncio.run(run()) == 1


def test_the_function_stays_usable() -> None:
    assert clean.fn([1]) == [1]
    assert asyncio.run(load.fn("abc")) == [3]
    assert isinstance(load, AsyncTask)
    assert isinstance(clean, SyncTask)
    assert clean.__name__ == "clean"

    @task
    def spoken() -> None:
        """Says so."""

    assert spoken.__doc__ == "Says so."


def test_callables_that_are_no_plain_functions() -> None:
    class Adder:
        def __call__(self, x: int) -> int:
            return x + 1

    class Later:
        async def __call__(self, x: int) -> int:
            return x

    adder = task(Adder())
    later = cast("Any", task)(Later())
    half = task(functools.partial(train.fn, alpha=0.25))

    @graph
    def main() -> None:
        adder(1)
        later(1)
        half([1])
        task(lambda: 3)()

    plan = plan_of(main.bind())
    assert names(plan.root) == ["Adder", "Later", "train", "lambda"]
    assert [spec.is_async for spec in plan.tasks] == [False, True, False, False]


def test_keywords_are_given_by_name() -> None:
    @task
    def free(x: int, **more: object) -> None: ...

    @graph
    def main() -> None:
        free(1, a=2, b=inc(3))

    node = plan_of(main.bind()).root.nodes[1]
    assert node.args == (Arg("x", Const(1)), Arg("a", Const(2)), Arg("b", FromNode(0)))


def test_a_bound_task_is_a_graph_of_one_node() -> None:
    plan = plan_of(train.bind([1, 2], alpha=0.1))
    assert plan.name == "train"
    assert names(plan.root) == ["train"]
    assert [(p.name, p.required, p.default, p.type) for p in plan.root.params] == [
        ("data", True, None, "list[int]"),
        ("alpha", False, 0.5, "float"),
    ]
    assert plan.root.nodes[0].args == (
        Arg("data", FromParam("data")),
        Arg("alpha", FromParam("alpha")),
    )
    assert plan.root.result == FromNode(0)
    assert plan.param_types == {"data": list[int], "alpha": float}
    assert plan_of(train.bind([1])) is plan


def test_a_default_that_cannot_be_written_down_is_left_to_the_function() -> None:
    marker = object()

    @task
    def picky(x: int = cast("Any", None), y: object = marker, **more: object) -> None: ...

    assert [p.name for p in plan_of(picky.bind()).root.params] == []
    assert [p.name for p in plan_of(picky.bind(x=1)).root.params] == ["x"]
    assert [p.name for p in plan_of(picky.bind(y=1, free=2)).root.params] == ["y", "free"]


def test_bound_knows_its_name_and_inputs() -> None:
    bound = train.bind([1], alpha=0.1)
    assert (bound.name, bound.inputs) == ("train", {"data": [1], "alpha": 0.1})
    assert repr(bound) == "<bound train(data, alpha)>"
    assert repr(train) == "<task train>"
    assert repr(graph(lambda: None)) == "<graph lambda>"
