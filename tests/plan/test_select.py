"""Parts of a graph: which nodes a pattern means, and what the reduced plan is."""

from __future__ import annotations

import pytest

from onready.engine.errors import GraphError
from onready.engine.graph import graph, task
from onready.engine.plan.compile import compile_plan
from onready.engine.plan.model import FromNode, Gather, Plan
from onready.engine.plan.select import select_nodes
from onready.engine.spi import Capabilities


@task
def load(url: str) -> list[int]:
    return [1]


@task
def clean(raw: list[int]) -> list[int]:
    return raw


@task
def train_a(data: list[int], rate: float) -> int:
    return 1


@task
def train_b(data: list[int]) -> int:
    return 1


@task
def report(models: list[int]) -> str:
    return ""


@task
def notify() -> None: ...


@graph
def flow(url: str, rate: float) -> str:
    data = clean(load(url))
    made = report([train_a(data, rate), train_b(data)])
    notify.with_options(after=[made])()
    return made


def plan() -> Plan:
    backends = {"thread": Capabilities(in_process=True)}
    return compile_plan(flow.bound({}), backends=backends)


def names(of: Plan) -> list[str]:
    return [node.name for node in of.root.nodes]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["load"], ["load"]),
        (["+clean"], ["load", "clean"]),
        (["+train_?"], ["load", "clean", "train_a", "train_b"]),
        (["load+"], ["load", "clean", "train_a", "train_b", "report", "notify"]),
        (["+train_a+", "+report"], ["load", "clean", "train_a", "train_b", "report", "notify"]),
        (["notify"], ["notify"]),
        (["*"], ["load", "clean", "train_a", "train_b", "report", "notify"]),
    ],
)
def test_patterns(patterns: list[str], expected: list[str]) -> None:
    assert names(select_nodes(plan(), patterns)) == expected


def test_no_pattern_is_the_plan_itself() -> None:
    whole = plan()
    assert select_nodes(whole, []) is whole


def test_the_reduced_plan_is_whole() -> None:
    part = select_nodes(plan(), ["+train_a"])
    load_, clean_, train = part.root.nodes
    assert [node.position for node in part.root.nodes] == [0, 1, 2]
    assert (load_.waits, clean_.waits, train.waits) == ((), (0,), (1,))
    assert (load_.feeds, clean_.feeds, train.feeds) == ((1,), (2,), ())
    assert train.args[0].value == FromNode(1)
    assert part.root.result == FromNode(2)
    assert part.result_type is None
    assert part.fingerprint != plan().fingerprint
    # Order-only edges to what is left out go; values cannot.
    (alone,) = select_nodes(plan(), ["notify"]).root.nodes
    assert alone.waits == ()


def test_several_last_nodes_give_a_dict() -> None:
    result = select_nodes(plan(), ["+train_?"]).root.result
    assert result == Gather("dict", (FromNode(2), FromNode(3)), ("train_a", "train_b"))


def test_the_graphs_own_result_where_it_can_be_made() -> None:
    part = select_nodes(plan(), ["+report"])
    assert part.root.result == FromNode(4)
    assert part.result_type is str


def test_parameters_of_what_is_left_out_need_no_value() -> None:
    required = {
        param.name: param.required for param in select_nodes(plan(), ["+clean"]).root.params
    }
    assert required == {"url": True, "rate": False}


def test_errors() -> None:
    with pytest.raises(GraphError) as unknown:
        select_nodes(plan(), ["trian_a"])
    assert unknown.value.code == "G070"
    assert "did you mean 'train_a'?" in unknown.value.suggestion
    with pytest.raises(GraphError) as needed:
        select_nodes(plan(), ["report", "train_a"])
    assert needed.value.code == "G071"
    assert "takes the value of" in needed.value.message
