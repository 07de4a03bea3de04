"""Maps: over literals, refs and nothing; nested to any depth; any JSON value as an item."""

from __future__ import annotations

from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onready.engine.graph import Graph, each, graph
from onready.engine.plan.bindings import bind as binding
from onready.engine.plan.model import Arg, Const, FromNode, FromParam, Gather, PlanNode
from onready.engine.values import ValueType
from onready.engine.values.stored import Compound
from tests.graph.defs import anything, clean, inc, load, plan_of, train

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


def only_node(target: Graph[..., Any]) -> PlanNode:
    (node,) = plan_of(target.bind()).root.nodes
    return node


def test_over_a_literal() -> None:
    @graph
    def main() -> object:
        return train.map([1, 2], each([0.1, 0.5]))

    node = only_node(main)
    assert node.kind == "map"
    assert node.task == 0
    assert node.body is None
    assert [arg.each for arg in node.args] == [False, True]
    assert node.args[1] == Arg("alpha", Const(Compound("list", (0.1, 0.5))), each=True)


def test_over_a_ref_a_param_and_refs() -> None:
    @graph
    def main(xs: list[int]) -> object:
        data = load("u")
        a = inc.map(each(data))
        b = inc.map(each(xs))
        return inc.map(each([a[0], b[1], 3]))

    nodes = plan_of(main.bind([1])).root.nodes
    assert nodes[1].args == (Arg("x", FromNode(0), each=True),)
    assert nodes[2].args == (Arg("x", FromParam("xs"), each=True),)
    gathered = nodes[3].args[0].value
    assert isinstance(gathered, Gather)
    assert len(gathered.items) == 3
    assert nodes[3].waits == (1, 2)


def test_zipped_with_fixed_arguments() -> None:
    @graph
    def main() -> object:
        return anything.map(each([1, 2]), each(("a", "b")), z=3)

    node = only_node(main)
    assert [(arg.name, arg.each) for arg in node.args] == [("x", True), ("y", True), ("z", False)]


@pytest.mark.parametrize(
    "items", [[], (), range(0), {}, iter(())], ids=["list", "tuple", "range", "dict", "iterator"]
)
def test_over_nothing(items: Any) -> None:
    @graph
    def main() -> object:
        return inc.map(each(items))

    assert only_node(main).args == (Arg("x", Const(Compound("list", ())), each=True),)


def test_over_what_is_iterated_once() -> None:
    @graph
    def main() -> object:
        return inc.map(each(index * index for index in range(3)))

    assert only_node(main).args[0].value == Const(Compound("list", (0, 1, 4)))


@given(st.lists(JSON, max_size=8))
@settings(max_examples=100, deadline=None)
def test_any_json_value_is_an_item(items: list[Any]) -> None:
    @graph
    def main() -> object:
        return anything.map(each(items))

    value = cast("Const", only_node(main).args[0].value).value
    assert isinstance(value, Compound)
    assert [ValueType.any().decode(item) for item in value.items] == items


@given(st.integers(1, 6), st.integers(0, 3))
@settings(max_examples=25, deadline=None)
def test_nested_to_any_depth(depth: int, width: int) -> None:
    def level(remaining: int) -> Graph[..., Any]:
        if not remaining:
            return graph(lambda x: inc(x))  # noqa: PLW0108 - a task is no graph

        inner = level(remaining - 1)

        def body(x: int) -> object:
            return inner.map(each([x] * width))

        return graph(body)

    fragment = plan_of(level(depth).bind(1)).root
    for _ in range(depth):
        (node,) = fragment.nodes
        assert node.kind == "map"
        assert node.body is not None
        fragment = node.body
    assert [node.kind for node in fragment.nodes] == ["task"]


def test_a_map_over_a_graph_has_the_graphs_fragment() -> None:
    @graph
    def fold(data: list[int], alphas: list[float]) -> object:
        return train.map(data, each(alphas))

    @graph
    def main(folds: list[list[int]]) -> object:
        return fold.with_options(limit=2, name="folds").map(each(folds), [0.1, 0.2])

    (node,) = plan_of(main.bind([[1]])).root.nodes
    assert (node.kind, node.name, node.limit, node.task) == ("map", "folds", 2, None)
    assert node.body is not None
    assert node.body.nodes[0].kind == "map"


def test_limit_of_a_map_over_a_task() -> None:
    @graph
    def main() -> object:
        return inc.with_options(limit=4).map(each([1]))

    assert only_node(main).limit == 4


def test_elements_that_annotations_do_not_tell_pass() -> None:
    @graph
    def main() -> object:
        return inc.map(each(cast("Any", anything(1))))

    assert plan_of(main.bind()).root.nodes[1].waits == (0,)


def test_a_map_is_a_list_to_what_follows() -> None:
    @graph
    def main() -> object:
        return clean(inc.map(each([1, 2])))

    assert plan_of(main.bind()).root.nodes[1].args == (Arg("raw", FromNode(0)),)
    assert binding(3) == Const(3)
