"""The builder: the same graphs as tracing makes, and edges to nodes that come later."""

from __future__ import annotations

import itertools
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onready.engine.graph import GraphBuilder, each, graph
from onready.engine.graph.codes import Code
from onready.engine.names import is_name
from onready.engine.plan.model import Arg, Const, Fragment, FromNode, FromParam
from tests.graph.defs import clean, inc, load, plan_of, refused, train


def test_the_same_graph_either_way() -> None:
    @graph(name="main", on_error="continue", timeout=5)
    def main(url: str = "u") -> object:
        raw = load(url)
        tidy = clean.with_options(name="tidy", after=[raw])(raw)
        return train.map(tidy, each([0.1]))

    g = GraphBuilder("main", on_error="continue", timeout=5)
    url = g.param("url", str, default="u")
    raw = g.add(load, url)
    tidy = g.add(clean, raw, name="tidy", after=[raw])
    built = g.build(g.map(train, tidy, each([0.1])))
    assert plan_of(built).fingerprint == plan_of(main.bind()).fingerprint
    assert plan_of(built).on_error == "continue"
    assert plan_of(built).timeout == 5


def test_edges_to_later_nodes() -> None:
    g = GraphBuilder()
    g.add(inc, 1, name="second", after=["first"])
    g.add(inc, 2, name="first")
    g.add(inc, 3, after="second")
    root = plan_of(g.build()).root
    assert [node.waits for node in root.nodes] == [(1,), (), (0,)]
    assert [node.feeds for node in root.nodes] == [(2,), (0,), ()]


def test_a_node_after_itself() -> None:
    g = GraphBuilder()
    g.add(inc, 1, name="a", after=["a"])
    with refused("G023", "a -> a"):
        plan_of(g.build())


def test_options_of_a_task_and_of_the_call_add_up() -> None:
    g = GraphBuilder()
    first = g.add(inc, 1)
    second = g.add(inc, 2)
    g.add(inc.with_options(after=[first], name="x", retry=2), 3, after=[second])
    plan = plan_of(g.build())
    node = plan.root.nodes[2]
    assert (node.name, node.waits) == ("x", (0, 1))
    assert [spec.retry.limit for spec in plan.tasks] == [0, 2]


def test_graphs_in_it_and_shell() -> None:
    @graph
    def inner(x: int) -> int:
        return inc(x)

    g = GraphBuilder()
    x = g.add(inner, 1)
    g.map(inner, each([1, x]))
    g.shell("echo {x}", inputs={"x": x}, after="inner", name="say")
    root = plan_of(g.build()).root
    assert [(node.name, node.kind, node.waits) for node in root.nodes] == [
        ("inner", "subgraph", ()),
        ("inner-2", "map", (0,)),
        ("say", "task", (0,)),
    ]


def test_inputs() -> None:
    g = GraphBuilder()
    x = g.param("x", int)
    y = g.param("y", default=[1])
    bound = g.build([x, y], inputs={"x": 3})
    plan = plan_of(bound)
    assert bound.inputs == {"x": 3}
    assert [(p.name, p.required, p.type) for p in plan.root.params] == [
        ("x", True, "int"),
        ("y", False, ""),
    ]
    assert plan.param_types == {"x": int}
    assert plan.root.result != FromParam("x")


def test_the_place_of_a_node_is_its_add() -> None:
    g = GraphBuilder()
    g.add(inc, 1)
    node = plan_of(g.build()).root.nodes[0]
    line = test_the_place_of_a_node_is_its_add.__code__.co_firstlineno + 2
    assert node.where == f"{__file__}:{line}"


@pytest.mark.parametrize("name", ["1x", "a b", "", "x/y"])
def test_names_of_inputs_are_identifiers(name: str) -> None:
    with refused("G021", "cannot name an input"):
        GraphBuilder().param(name)


def test_after_of_an_unknown_kind() -> None:
    g = GraphBuilder()
    with refused("G022", "after= holds 3"):
        g.add(inc, 1, name="a", after=[3])
    g.add(inc, 1, name="a")
    assert [node.name for node in plan_of(g.build()).root.nodes] == ["a"]


def test_a_default_is_checked() -> None:
    with refused("G005", "graph(x) cannot take 'no'"):
        GraphBuilder().param("x", int, default=cast("Any", "no"))


def test_bad_options() -> None:
    with refused("G041", "on_error='no' cannot be"):
        GraphBuilder(on_error=cast("Any", "no"))
    with refused("G041", "timeout=-1 cannot be"):
        GraphBuilder(timeout=-1)


def test_a_long_chain_needs_no_recursion() -> None:
    g = GraphBuilder()
    value: Any = 0
    for _ in range(5000):
        value = g.add(inc, value)
    g.add(inc, 0, name="start")
    g.add(inc, value, after=["start"])
    root = plan_of(g.build(value)).root
    assert len(root.nodes) == 5002
    assert root.nodes[4999].args == (Arg("x", FromNode(4998)),)


@given(st.lists(st.tuples(st.sampled_from(["", "inc", "inc-2", "inc-3", "b"])), max_size=12))
@settings(max_examples=200, deadline=None)
def test_names_are_unique_and_follow_the_rule(wanted: list[tuple[str]]) -> None:
    """An independent statement of the rule: explicit names as given, else the first free number."""
    g = GraphBuilder()
    taken: list[str] = []
    for (asked,) in wanted:
        name = asked
        if name in taken:
            with refused("G020"):
                g.add(inc, 1, name=name)
            continue
        g.add(inc, 1, name=name)
        if not name:
            numbers = ["inc", *(f"inc-{count}" for count in range(2, 20))]
            name = next(free for free in numbers if free not in taken)
        taken.append(name)
    fragment: Fragment = plan_of(g.build()).root
    assert [node.name for node in fragment.nodes] == taken
    assert all(is_name(name) for name in taken)


@given(
    st.integers(2, 8).flatmap(
        lambda count: st.lists(
            st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=12
        ).map(lambda edges: (count, edges))
    )
)
@settings(max_examples=300, deadline=None)
def test_circles_are_found_exactly(case: tuple[int, list[tuple[int, int]]]) -> None:
    """Against reachability by brute force; the printed circle is one of the graph's own edges."""
    count, edges = case
    reach = {(a, b) for a, b in edges}
    for middle in range(count):
        reach |= {
            (a, b)
            for a in range(count)
            for b in range(count)
            if (a, middle) in reach and (middle, b) in reach
        }
    g = GraphBuilder()
    for index in range(count):
        before = [f"n{a}" for a, b in edges if b == index]
        g.add(inc, index, name=f"n{index}", after=before)
    bound = g.build()
    if not any((index, index) in reach for index in range(count)):
        assert len(plan_of(bound).root.nodes) == count
        return
    with refused(Code.G023.name) as caught:
        plan_of(bound)
    circle = caught.value.message.partition(": ")[2].split(" -> ")
    assert circle[0] == circle[-1]
    steps = list(itertools.pairwise(circle))
    assert all((int(a[1:]), int(b[1:])) in edges for a, b in steps)


def test_constants_only() -> None:
    assert plan_of(GraphBuilder().build()).root.result == Const(None)
