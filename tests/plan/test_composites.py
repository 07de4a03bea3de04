"""Composites in everything that reads a plan: JSON, drawings, the view, selections, arguments."""

from __future__ import annotations

import json
from functools import partial

import msgspec
import pytest
from hypothesis import given, settings

from onready.engine.errors import Failure, GraphError, NoCodec
from onready.engine.graph import (
    GraphBuilder,
    Provided,
    branch,
    each,
    graph,
    repeat,
    rescue,
    switch,
    task,
)
from onready.engine.names import NodeKey
from onready.engine.plan.arguments import UNKNOWN, Arguments, Known
from onready.engine.plan.compile import compile_plan
from onready.engine.plan.drawing import draw_mermaid, draw_text
from onready.engine.plan.dump import dump_plan, load_plan
from onready.engine.plan.fingerprint import fingerprint
from onready.engine.plan.link import link
from onready.engine.plan.model import FromNode, Plan
from onready.engine.plan.select import select_nodes
from onready.engine.plan.shape import count_nodes, inner_first
from onready.engine.plan.view import View, view
from onready.engine.spi import Capabilities
from onready.engine.values.stored import Encoded, Stored
from tests.recipes import BODIES, Cook, Recipe, graph_of
from tests.strategies import recipes

BACKENDS = {"thread": Capabilities(in_process=True)}


@task
def load(name: str) -> list[int]:
    return []


@task
def good(x: int) -> bool:
    return True


@task
def inc(x: int, by: int = 1) -> int:
    return x + by


@task
def kind(x: int) -> str:
    return ""


@task
def far(x: int, bound: int) -> bool:
    return x > bound


@task
def report(x: int, failure: Failure = Provided(Failure)) -> int:
    return 0


@task
def tidy(name: str) -> None: ...


@graph
def step(x: int) -> int:
    return inc(inc(x), by=x)


@graph
def same(x: int) -> int:
    return x


@graph
def whole(name: str, bound: int) -> list[int]:
    data = load(name)
    high = branch(good(data[0]), inc.bind(data[0], by=5), step.bind(data[1]), name="gate")
    text = switch(kind(high), {"a": inc.bind(high), "b c": step.bind(1)}, default=same.bind(7))
    poll = repeat(partial(inc, by=bound), text, until=partial(far, bound=9), limit=20, name="poll")
    walk = repeat(step, poll, until=good, limit=4, on_limit="return", name="walk")
    stay = repeat(same, walk, until=good, limit=4, name="stay")
    safe = rescue(step.bind(stay), report.bind(stay), name="guard")
    tidy.with_options(always=True, after=[safe])(name)
    return step.map(each([safe, high]))


def plan() -> Plan:
    return compile_plan(whole.bound({}), backends=BACKENDS)


# --- JSON -----------------------------------------------------------------------------------------


@settings(max_examples=50)
@given(recipes)
def test_generated_graphs_survive_the_way_to_json(recipe: Recipe) -> None:
    made = compile_plan(graph_of(recipe).bind(1), backends=BACKENDS)
    loaded = load_plan(dump_plan(made))
    assert loaded.root == made.root
    assert fingerprint(loaded.root, loaded.tasks) == made.fingerprint
    assert link(loaded).runtimes[0].function is not None
    assert view(loaded)["nodes_total"] == count_nodes(made.root)
    assert draw_text(loaded) == draw_text(made)


@pytest.mark.parametrize("outer", BODIES)
@pytest.mark.parametrize("inner", BODIES)
def test_every_composite_nests_in_every_other(outer: str, inner: str) -> None:
    plain = (Cook("add"),)
    deep = (Cook(inner, (plain,) * BODIES[inner]),)
    recipe = (Cook(outer, (deep,) * BODIES[outer]),)
    made = compile_plan(graph_of(recipe).bind(1), backends=BACKENDS)
    loaded = load_plan(dump_plan(made))
    assert fingerprint(loaded.root, loaded.tasks) == made.fingerprint
    kinds = [node.kind for fragment in inner_first(loaded.root) for node in fragment.nodes]
    names = {"caught": "rescue"}
    assert names.get(outer, outer) in kinds
    assert names.get(inner, inner) in kinds


def test_a_live_constant_of_an_arm_is_refused_with_its_node() -> None:
    @task
    def opened(x: object) -> int:
        return 0

    def main() -> object:
        return branch(True, inc.bind(1), opened.bind(object()))

    made = compile_plan(graph(main).bind(), backends=BACKENDS)
    with pytest.raises(NoCodec, match=r"test_composites\.py:\d+: node branch: a constant"):
        dump_plan(made)


def test_infinities_of_arms_survive() -> None:
    @task
    def wide(x: float) -> int:
        return 0

    def main() -> object:
        return branch(True, wide.bind(float("inf")), wide.bind(float("-inf")))

    made = compile_plan(graph(main).bind(), backends=BACKENDS)
    assert load_plan(dump_plan(made)).root == made.root


def test_bodies_that_arms_share_stay_shared() -> None:
    def main() -> object:
        return branch(True, step.bind(1), step.bind(2))

    made = compile_plan(graph(main).bind(), backends=BACKENDS)
    one, other = load_plan(dump_plan(made)).root.nodes[0].arms
    assert one.body is other.body


# --- drawings and the view ------------------------------------------------------------------------


def test_a_drawing_for_terminals() -> None:
    assert draw_text(plan()) == (
        """\
whole(name, bound)  30 nodes, 10 steps

●      load     <- name
├─●    good     <- load
●─┘    gate     <- good, load
│        ?then
│          ●  inc  <- x, by
│        ?otherwise
│          ●  inc    <- x
│          ●  inc-2  <- x, inc
├─●    kind     <- gate
├─●    switch   <- kind, gate
│ │      ?a
│ │        ●  inc  <- x, by
│ │      ?case-2 'b c'
│ │        ●  inc    <- x
│ │        ●  inc-2  <- x, inc
│ │      ?default
│ │        (no nodes)
│ ●    poll[*]  <- bound, switch  (at most 20)
│ │      ●  inc  <- state, body.by
│ │      ●  far  <- until.bound, inc
│ ●    walk[*]  <- poll  (at most 4, then as it is)
│ │      ●  step  <- state
│ │      │    ●  inc    <- x
│ │      │    ●  inc-2  <- x, inc
│ │      ●  good  <- step
│ ●    stay[*]  <- walk  (at most 4)
│ │      ●  same  <- state
│ │      │    (no nodes)
│ │      ●  good  <- same
│ ●    guard    <- stay
│ │      ?body
│ │        ●  inc    <- x
│ │        ●  inc-2  <- x, inc
│ │      ?handler
│ │        ●  report  <- x
│ ├─●  tidy     <- name, after guard  (always)
●─┘    step[*]  <- guard, gate, each of [guard, gate]
         ●  inc    <- x
         ●  inc-2  <- x, inc
"""
    )


def test_a_drawing_in_mermaid() -> None:
    drawn = draw_mermaid(plan())
    assert (
        """\
  subgraph n2["gate"]
    subgraph n2a0["?then"]
      n2a0_0["inc"]
    end
    subgraph n2a1["?otherwise"]
      n2a1_0["inc"]
      n2a1_1["inc-2"]
      n2a1_0 --> n2a1_1
    end
  end
"""
        in drawn
    )
    assert """    subgraph n4a1["?case-2 'b c'"]\n""" in drawn
    assert '  subgraph n5["poll[*]"]\n    n5_0["inc"]\n    n5_1["far"]\n' in drawn
    assert 'n9["tidy (always)"]' in drawn
    assert "  n8 -.-> n9\n" in drawn


def shown(name: str) -> View:
    nodes = view(plan())["nodes"]
    assert isinstance(nodes, list)
    found: View = next(node for node in nodes if node["name"] == name)
    return found


def test_the_view_of_composites() -> None:
    gate = shown("gate")
    assert gate["needs"] == ["good", "load"]
    arms = gate["arms"]
    assert isinstance(arms, list)
    assert [(arm["name"], arm["arguments"], arm["body"]["graph"]) for arm in arms] == [
        ("then", {"x": "load[0]", "by": "5"}, "inc"),
        ("otherwise", {"x": "load[1]"}, "step"),
    ]
    assert all("key" not in arm for arm in arms)
    arms = shown("switch")["arms"]
    assert isinstance(arms, list)
    assert [arm.get("key") for arm in arms] == ["a", "b c", None]
    walk = shown("walk")
    assert (walk["most"], walk["on_limit"], walk["arguments"]) == (4, "return", {"state": "poll"})
    tidied = shown("tidy")
    assert (tidied["always"], tidied["after"]) == (True, ["guard"])


def test_plans_of_any_depth_can_be_looked_at() -> None:
    bound = inc.bind(1)
    for _ in range(2_000):
        g = GraphBuilder()
        bound = g.build(g.branch(True, bound, inc.bind(1)))
    deep = compile_plan(bound, backends=BACKENDS)
    assert "nodes inside" in draw_text(deep)
    assert "nodes inside" in draw_mermaid(deep)
    assert '"nodes_total"' in json.dumps(view(deep))
    loaded = load_plan(dump_plan(deep))
    assert fingerprint(loaded.root, loaded.tasks) == deep.fingerprint


# --- selection ------------------------------------------------------------------------------------


def test_a_composite_is_selected_as_one_node() -> None:
    part = select_nodes(plan(), ["+gate"])
    assert [node.name for node in part.root.nodes] == ["load", "good", "gate"]
    gate = part.root.nodes[2]
    assert [arm.name for arm in gate.arms] == ["then", "otherwise"]
    assert part.root.result == FromNode(2)
    assert [(p.name, p.required) for p in part.root.params] == [("name", True), ("bound", False)]


def test_what_an_arm_takes_must_be_selected() -> None:
    with pytest.raises(GraphError, match="gate takes the value of load, good") as caught:
        select_nodes(plan(), ["gate"])
    assert caught.value.code == "G071"


def test_clean_up_nodes_keep_what_they_clean() -> None:
    def main() -> object:
        first = inc(1)
        data = load("u")
        tidy.with_options(always=True, after=[first])(kind(data[0]))
        return branch(True, inc.bind(data[0]), inc.bind(2))

    made = compile_plan(graph(main).bind(), backends=BACKENDS)
    assert [node.cleans for node in made.root.nodes] == [(3,), (), (3,), (), ()]
    part = select_nodes(made, ["+tidy", "branch"])
    assert part.root == made.root
    less = select_nodes(made, ["load", "kind", "tidy", "branch"])
    assert [(node.name, node.needs, node.cleans) for node in less.root.nodes] == [
        ("load", (), ()),
        ("kind", (), (2,)),
        ("tidy", (1,), ()),
        ("branch", (), ()),
    ]
    arm = less.root.nodes[3].arms[0]
    assert isinstance(arm.args[0].value, FromNode)
    assert arm.args[0].value.node == 0


# --- arguments ------------------------------------------------------------------------------------


def encoded(value: object) -> Encoded:
    data = msgspec.json.encode(value)
    return Encoded("json", data, None, len(data))


def key(text: str) -> NodeKey:
    return NodeKey.parse(text)


VALUES: dict[NodeKey, Stored] = {
    key("load"): encoded([10, 20]),
    key("good"): False,
    key("gate?otherwise/inc"): 21,
    key("gate?otherwise/inc-2"): 41,
    key("kind"): "b c",
    key("switch?case-2/inc"): 2,
    key("switch?case-2/inc-2"): 3,
    **{key(f"poll[{at}]/inc"): 3 + 2 * (at + 1) for at in range(4)},
    key("walk[0]/step/inc"): 12,
    key("walk[0]/step/inc-2"): 23,
    key("walk[1]/step/inc"): 24,
    key("walk[1]/step/inc-2"): 47,
    key("guard?handler/report"): 5,
    key("step[0]/inc"): 6,
}
COUNTS = {key("poll"): 4, key("walk"): 2, key("stay"): 3, key("step"): 2}
ARMS = {key("gate"): "otherwise", key("switch"): "case-2", key("guard"): "handler"}


def given_to(text: str, arms: dict[NodeKey, str] | None = None) -> dict[str, Known]:
    inputs: dict[str, Stored] = {"name": "u", "bound": 2}
    known = ARMS if arms is None else arms
    return Arguments(plan(), inputs, VALUES, COUNTS, known).of(key(text))[0]


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("gate", {"test": False}),
        ("gate?then/inc", {"x": 10, "by": 5}),
        ("gate?otherwise/inc", {"x": 20}),
        ("gate?otherwise/inc-2", {"x": 21, "by": 20}),
        ("kind", {"x": 41}),
        ("switch", {"value": "b c"}),
        ("switch?a/inc", {"x": 41, "by": 1}),
        ("switch?case-2/inc", {"x": 1}),
        ("poll", {"state": 3, "body.by": 2, "until.bound": 9}),
        ("poll[0]/inc", {"x": 3, "by": 2}),
        ("poll[2]/inc", {"x": 7, "by": 2}),
        ("poll[2]/far", {"x": 9, "bound": 9}),
        ("walk[0]/step", {"x": 11}),
        ("walk[1]/step/inc", {"x": 23}),
        ("walk[1]/good", {"x": 47}),
        ("stay[2]/same", {"x": 47}),
        ("stay[0]/good", {"x": 47}),
        ("guard?body/inc", {"x": 47}),
        ("guard?handler/report", {"x": 47, "failure": UNKNOWN}),
        ("step[0]/inc", {"x": 5}),
        ("step[1]/inc", {"x": 41}),
        ("guard?nothing/inc", {}),
        ("gate/inc", {}),
    ],
)
def test_what_an_instance_was_given(text: str, arguments: dict[str, Known]) -> None:
    assert given_to(text) == arguments


def test_what_a_rescued_body_gave_counts_where_it_was_opened_last() -> None:
    assert given_to("step[0]/inc", ARMS | {key("guard"): "body"}) == {"x": UNKNOWN}
    assert given_to("kind", {}) == {"x": UNKNOWN}


def test_thousands_of_iterations_need_no_recursion() -> None:
    def main() -> object:
        return inc(repeat(same, 1, until=good, limit=9_999))

    made = compile_plan(graph(main).bind(), backends=BACKENDS)
    answers = Arguments(made, {}, {}, {key("repeat"): 5_000})
    assert answers.of(key("inc"))[0] == {"x": 1}
    assert answers.of(key("repeat[4999]/same"))[0] == {"x": 1}


def test_a_repeat_that_has_not_ended_is_unknown() -> None:
    answers = Arguments(plan(), {"name": "u", "bound": 2}, {}, {})
    assert answers.of(key("walk")) == ({"state": UNKNOWN}, frozenset())
