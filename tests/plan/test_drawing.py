"""Drawings: what a stranger sees of a small graph, and that large ones are counted, not cut."""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence

from hypothesis import given

from onready.engine.plan.drawing import draw_mermaid, draw_text
from onready.engine.plan.lanes import rows
from onready.engine.plan.model import (
    Arg,
    Const,
    Fragment,
    FromNode,
    FromParam,
    Gather,
    NodeKind,
    ParamSpec,
    Plan,
    PlanNode,
    TaskSpec,
)
from onready.engine.spi import Call
from tests.strategies import plans, with_feeds

TASKS = (
    TaskSpec(name="quick", work=Call("mod:f"), backend="inline"),
    TaskSpec(name="heavy", work=Call("mod:f"), backend="process"),
)


def body(
    needs: Mapping[str, Sequence[str]],
    *,
    maps: Collection[str] = (),
    heavy: Collection[str] = (),
    bodies: Mapping[str, Fragment] | None = None,
    order: Collection[tuple[str, str]] = (),
) -> Fragment:
    """A fragment by names; `maps` go over the parameter `alphas`."""
    bodies = bodies or {}
    place = {name: at for at, name in enumerate(needs)}
    nodes: list[PlanNode] = []
    for name, wanted in needs.items():
        data = [need for need in wanted if (need, name) not in order]
        args = [Arg(need, FromNode(place[need])) for need in data]
        if name in maps:
            args.append(Arg("alpha", FromParam("alphas"), each=True))
        if not wanted:
            args.append(Arg("url", FromParam("url")))
        kind: NodeKind = "map" if name in maps else "subgraph" if name in bodies else "task"
        nodes.append(
            PlanNode(
                position=place[name],
                name=name,
                kind=kind,
                args=tuple(args),
                waits=tuple(place[need] for need in wanted),
                task=None if name in bodies else int(name in heavy),
                body=bodies.get(name),
            )
        )
    params = (ParamSpec("url"), ParamSpec("alphas", False, 3))
    return with_feeds(Fragment(name="g", params=params, nodes=tuple(nodes)))


def plan_of(root: Fragment) -> Plan:
    return Plan("pipeline", root, TASKS, "f" * 64)


def text(root: Fragment) -> str:
    return draw_text(plan_of(root))


MODEL = {"download": [], "clean": ["download"], "train": ["clean"], "pick": ["train"]}
FOLD = body({"split": [], "fit": ["split"], "check": ["split"], "score": ["fit", "check"]})


def test_a_chain_with_a_map() -> None:
    assert text(body(MODEL, maps=["train"], heavy=["train"])) == (
        """\
pipeline(url, alphas=3)  4 nodes, 4 steps

●  download  <- url
●  clean     <- download
●  train[*]  <- clean, each of alphas  (process)
●  pick      <- train[*]
"""
    )


def test_branches_joins_and_bodies() -> None:
    root = body(
        {
            "load": [],
            "fold": ["load"],
            "warm": ["load"],
            "merge": ["fold", "warm"],
            "report": ["load", "merge"],
        },
        maps=["fold"],
        bodies={"fold": FOLD},
        order=[("warm", "merge")],
    )
    assert text(root) == (
        """\
pipeline(url, alphas=3)  9 nodes, 4 steps

●      load     <- url
├─●    fold[*]  <- load, each of alphas
│ │      ●    split  <- url
│ │      ├─●  fit    <- split
│ │      ● │  check  <- split
│ │      ●─┘  score  <- fit, check
├─│─●  warm     <- load
│ ●─┘  merge    <- fold[*], after warm
●─┘    report   <- load, merge
"""
    )


def test_like_nodes_of_a_wide_graph_share_a_row() -> None:
    many = {f"fit_{at}": ["load"] for at in range(97)}
    assert text(body({"load": [], **many, "pick": list(many)})) == (
        """\
pipeline(url, alphas=3)  99 nodes, 3 steps

●  load                   <- url
●  fit_0 ... fit_96  x97  <- load
●  pick                   <- fit_0, fit_1, fit_2, fit_3, 93 more
"""
    )


def random_body(count: int, reach: int) -> Fragment:
    source = random.Random(1)
    return body(
        {
            f"n{at}": [
                f"n{need}"
                for need in sorted(source.sample(range(max(0, at - reach), at), min(at, 2)))
            ]
            for at in range(count)
        }
    )


def test_a_hundred_nodes_are_all_drawn() -> None:
    drawn = text(random_body(100, 5))
    assert "step 1" not in drawn
    for at in range(100):
        assert f"  n{at} " in drawn


def test_where_lines_would_confuse_nodes_are_listed_by_step() -> None:
    drawn = text(random_body(100, 100))
    assert "step 14" in drawn
    assert "●" not in drawn
    for at in range(100):
        assert f"  n{at} " in drawn


def test_a_thousand_nodes_are_counted_by_step() -> None:
    drawn = text(random_body(1000, 1000)).splitlines()
    assert drawn[0] == "pipeline(url, alphas=3)  1000 nodes, 29 steps"
    assert len(drawn) == 31
    counts = [int(line.split()[2]) for line in drawn[2:]]
    assert sum(counts) == 1000


def test_a_long_chain_ends_in_a_count() -> None:
    chain = {f"n{at}": [f"n{at - 1}"] if at else [] for at in range(500)}
    drawn = text(body(chain)).splitlines()
    assert len(drawn) == 63
    assert drawn[-1] == "... 440 more steps with 440 nodes"


def test_deep_bodies_end_in_a_count() -> None:
    inner = FOLD
    for _ in range(20):
        inner = body({"down": []}, bodies={"down": inner})
    drawn = text(inner)
    assert drawn.count("down") == 9
    assert "... 15 nodes inside" in drawn


def test_an_empty_graph_says_so() -> None:
    assert text(Fragment(name="g")) == "pipeline()  0 nodes, 0 steps\n\n(no nodes)\n"


def test_no_line_is_wider_than_a_terminal() -> None:
    long: dict[str, list[str]] = {f"{'x' * 90}{at}": [] for at in range(30)}
    assert max(map(len, text(body(long)).splitlines())) <= 100


def test_mermaid_shows_bodies_maps_and_both_kinds_of_edges() -> None:
    root = body(
        {"load": [], "fold": ["load"], "end": ["fold"]},
        maps=["fold"],
        bodies={"fold": body({"fit": [], "score": ["fit"]})},
        order=[("fold", "end")],
    )
    assert draw_mermaid(plan_of(root)) == (
        """\
flowchart TD
  n0["load"]
  subgraph n1["fold[*]"]
    n1_0["fit"]
    n1_1["score"]
    n1_0 --> n1_1
  end
  n2["end"]
  n0 --> n1
  n1 -.-> n2
"""
    )


def test_a_value_inside_a_list_is_a_data_edge() -> None:
    gathered = Gather("list", (Const(1), FromNode(0)))
    nodes = (
        PlanNode(position=0, name="a", kind="task", task=0, feeds=(1,)),
        PlanNode(position=1, name="b", kind="task", task=0, args=(Arg("x", gathered),), waits=(0,)),
    )
    plan = plan_of(Fragment(name="g", nodes=nodes))
    assert "n0 --> n1" in draw_mermaid(plan)
    assert "b  <- a\n" in draw_text(plan)


@given(plans())
def test_every_plan_can_be_drawn(plan: Plan) -> None:
    drawn = draw_text(plan)
    assert drawn.startswith(f"{plan.name}(")
    for node in plan.root.nodes:
        assert node.name in drawn
    arrows = [line for line in draw_mermaid(plan).splitlines() if "->" in line and '["' not in line]
    assert len(arrows) == edges(plan.root)


def edges(fragment: Fragment) -> int:
    inner = sum(edges(body) for node in fragment.nodes for body in node.bodies)
    return inner + sum(len(node.waits) for node in fragment.nodes)


@given(plans())
def test_lanes_connect_what_needs_what(plan: Plan) -> None:
    """Follow the lines of each row: they lead to just the items that this one needs."""
    needs = [node.waits for node in plan.root.nodes]
    owners: dict[int, int] = {}
    for row in rows(range(len(needs)), needs):
        own = row.lines.index("●") // 2
        touched = {at // 2 for at, sign in enumerate(row.lines) if sign in "├└┼┴┤┘"}
        reached = {owners[column] for column in touched}
        if own in owners:
            reached.add(owners[own])
        assert reached == set(needs[row.item])
        owners[own] = row.item
        owners = {
            column: item
            for column, item in owners.items()
            if 2 * column < len(row.below) and row.below[2 * column] == "│"
        }
