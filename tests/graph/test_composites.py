"""Composites in a plan: arms and their arguments, iterations, clean-up nodes, failures as items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, cast

import pytest

from onready.engine.errors import Failure
from onready.engine.graph import (
    GraphBuilder,
    Provided,
    branch,
    each,
    graph,
    repeat,
    rescue,
    shell,
    switch,
    task,
)
from onready.engine.graph.composites import union_of
from onready.engine.graph.functions import MISSING
from onready.engine.plan.model import (
    Arg,
    Const,
    FromNode,
    FromParam,
    FromProvided,
    Gather,
    Plan,
    PlanNode,
    Step,
)
from tests.graph.composite_cases import above, inner, positive, strict, told, tolerant
from tests.graph.defs import (
    Score,
    aware,
    clean,
    heavy,
    inc,
    load,
    name_of,
    pair,
    plan_of,
    refused,
    score,
    train,
)


def plan_by(function: Callable[[], object]) -> Plan:
    return plan_of(graph(function).bind())


def node(plan: Plan, name: str) -> PlanNode:
    return next(node for node in plan.root.nodes if node.name == name)


@task
def free_value(x: int) -> Any:
    return x


# --- branch and switch ----------------------------------------------------------------------------


def test_a_branch_has_two_arms_that_take_from_the_graph_around() -> None:
    def main() -> object:
        data = load("u")
        return branch(positive(data[0]), inc.bind(data[1]), train.bind(data, alpha=0.1))

    plan = plan_by(main)
    made = node(plan, "branch")
    assert (made.kind, made.args) == ("branch", (Arg("test", FromNode(1)),))
    assert sorted(made.waits) == [0, 1]
    then, otherwise = made.arms
    assert (then.name, then.key, otherwise.name, otherwise.key) == (
        "then",
        None,
        "otherwise",
        None,
    )
    assert then.args == (Arg("x", FromNode(0, (Step(1),))),)
    assert otherwise.args == (Arg("data", FromNode(0)), Arg("alpha", Const(0.1)))
    (inside,) = otherwise.body.nodes
    assert (inside.name, inside.kind) == ("train", "task")
    assert inside.args == (Arg("data", FromParam("data")), Arg("alpha", FromParam("alpha")))
    assert otherwise.body.result == FromNode(0)
    assert made.bodies == (then.body, otherwise.body)
    assert node(plan, "load").feeds == (1, 2)


def test_a_default_of_an_arm_holds() -> None:
    def main() -> object:
        return branch(True, train.bind([1]), train.bind([2]))

    arm = node(plan_by(main), "branch").arms[0]
    assert [(p.name, p.required, p.default) for p in arm.body.params] == [
        ("data", True, None),
        ("alpha", False, 0.5),
    ]
    assert [arg.name for arg in arm.args] == ["data"]


def test_options_of_the_bound_task_hold_in_the_arm() -> None:
    def main() -> object:
        plus = inc.with_options(name="plus", retry=3, backend="process")
        return branch(True, plus.bind(1), inc.with_options(name="also").bind(2))

    plan = plan_by(main)
    one, other = node(plan, "branch").arms
    assert [arm.body.nodes[0].name for arm in (one, other)] == ["plus", "also"]
    task = one.body.nodes[0].task
    assert task is not None
    assert (plan.tasks[task].retry.limit, plan.tasks[task].backend) == (3, "process")


@pytest.mark.parametrize(
    ("keys", "names"),
    [
        (["a", "b.c", "-1_"], ["a", "b.c", "-1_"]),
        ([0, -3], ["0", "-3"]),
        ([True, False], ["true", "false"]),
        (["", "two words", "a/b", "ü", "x" * 65], [f"case-{n}" for n in range(1, 6)]),
        ([1, "1"], ["1", "case-2"]),
        ([True, "true"], ["true", "case-2"]),
        (["case-2", ""], ["case-2", "case-2-2"]),
        (["default"], ["case-1"]),
    ],
)
def test_names_of_the_arms_of_a_switch(keys: list[str | int | bool], names: list[str]) -> None:
    def main() -> object:
        arms = {key: inc.bind(at) for at, key in enumerate(keys)}
        return switch(free_value(1), cast("Any", arms), default=clean.bind([]))

    *arms, last = node(plan_by(main), "switch").arms
    assert [arm.name for arm in arms] == names
    assert [(type(arm.key), arm.key) for arm in arms] == [(type(key), key) for key in keys]
    assert (last.name, last.key) == ("default", None)


def test_a_switch_without_a_default() -> None:
    def main() -> object:
        return switch(name_of(1), {"a": inc.bind(1), "default": inc.bind(2)})

    made = node(plan_by(main), "switch")
    assert [arm.name for arm in made.arms] == ["a", "default"]
    assert made.arms[1].key == "default"
    assert made.args == (Arg("value", FromNode(0)),)


def test_the_value_of_a_choice_has_the_types_of_its_arms() -> None:
    def main() -> object:
        first, _ = branch(True, pair.bind(1), pair.bind(2))
        made = branch(True, inc.bind(1), name_of.bind(2))
        return [inc(first), clean(cast("Any", made))]

    with pytest.raises(Exception, match=r"the result of branch-2 is .*int.*str.*clean\(raw\)"):
        plan_by(main)


def test_an_arm_whose_type_is_not_known_leaves_the_type_open() -> None:
    g = GraphBuilder("built")
    bound = g.build(g.add(inc, 1))

    def main() -> object:
        return clean(cast("Any", branch(True, bound, inc.bind(1))))

    assert [node.name for node in plan_by(main).root.nodes] == ["branch", "clean"]


# --- repeat ---------------------------------------------------------------------------------------


def test_an_iteration_is_a_fragment_of_two_nodes() -> None:
    def main() -> object:
        start, bound = inc(1), inc(2)
        return repeat(inc, start, until=partial(above, bound=bound), limit=9)

    made = node(plan_by(main), "repeat")
    assert (made.kind, made.most, made.on_limit, made.waits) == ("repeat", 9, "fail", (0, 1))
    assert made.args == (Arg("state", FromNode(0)), Arg("until.bound", FromNode(1)))
    body = made.body
    assert body is not None
    assert [param.name for param in body.params] == ["state", "until.bound"]
    step, test = body.nodes
    assert (step.name, step.args, step.feeds) == ("inc", (Arg("x", FromParam("state")),), (1,))
    assert test.args == (Arg("x", FromNode(0)), Arg("bound", FromParam("until.bound")))
    assert body.result == FromNode(0)


def test_the_state_goes_to_the_first_parameter_that_is_not_fixed() -> None:
    @task
    def search(data: list[int], best: int, step: int = 1) -> int:
        return best

    def first() -> object:
        data = load("u")
        return repeat(partial(search, data, step=2), 1, until=positive, limit=2, on_limit="return")

    made = node(plan_by(first), "repeat")
    assert made.on_limit == "return"
    assert made.args == (
        Arg("state", Const(1)),
        Arg("body.data", FromNode(0)),
        Arg("body.step", Const(2)),
    )
    assert made.body is not None
    assert made.body.nodes[0].args == (
        Arg("data", FromParam("body.data")),
        Arg("best", FromParam("state")),
        Arg("step", FromParam("body.step")),
    )


def test_the_body_of_a_repeat_may_be_a_graph_and_the_test_of_the_same_name() -> None:
    @task(name="inner")
    def stop(x: int) -> bool:
        return True

    def main() -> object:
        return repeat(inner.with_options(name="again"), 1, until=stop, limit=2)

    def same() -> object:
        return repeat(inner, 1, until=stop, limit=2)

    body = node(plan_by(main), "repeat").body
    assert body is not None
    assert [(n.name, n.kind) for n in body.nodes] == [("again", "subgraph"), ("inner", "task")]
    body = node(plan_by(same), "repeat").body
    assert body is not None
    assert [n.name for n in body.nodes] == ["inner", "inner-2"]


def test_refs_inside_literals_may_be_fixed() -> None:
    @task
    def gather(data: list[int], x: int) -> int:
        return x

    def main() -> object:
        return repeat(partial(gather, [inc(1), 2]), 1, until=positive, limit=2)

    made = node(plan_by(main), "repeat")
    assert made.args[1] == Arg("body.data", Gather("list", (FromNode(0), Const(2))))
    assert made.waits == (0,)


def test_a_body_with_a_provided_object_gets_it_in_each_iteration() -> None:
    def main() -> object:
        return repeat(aware, 1, until=positive, limit=2)

    body = node(plan_by(main), "repeat").body
    assert body is not None
    assert body.nodes[0].args[-1] == Arg("context", FromProvided("NodeContext"))


# --- rescue ---------------------------------------------------------------------------------------


def test_a_handler_gets_the_failure_at_any_depth_and_on_every_backend() -> None:
    @graph
    def handler(x: int) -> int:
        return branch(True, told.with_options(backend="process").bind(x), deeper.bind(x))

    @graph
    def deeper(x: int) -> int:
        told.map(each([x]))
        return told(x)

    def main() -> object:
        made = inc(1)
        return rescue(inc.bind(made), handler.bind(made), after=[load("u")], name="guard")

    made = node(plan_by(main), "guard")
    assert (made.kind, made.args) == ("rescue", ())
    assert sorted(made.waits) == [0, 1]
    assert [arm.name for arm in made.arms] == ["body", "handler"]
    chosen, other = made.arms[1].body.nodes[0].arms
    assert chosen.body.nodes[0].args[-1] == Arg("failure", FromProvided("Failure"))
    assert [n.args[-1] for n in other.body.nodes] == [Arg("failure", FromProvided("Failure"))] * 2


def test_a_rescue_in_a_handler_gives_its_own_handler_its_own_failure() -> None:
    @graph
    def handler(x: int) -> int:
        return rescue(told.bind(x), told.bind(x))

    def main() -> object:
        return rescue(inc.bind(1), handler.bind(1))

    assert node(plan_by(main), "rescue").arms[1].body.nodes[0].kind == "rescue"


def test_a_failure_that_is_given_needs_no_rescue() -> None:
    failure = Failure("error", "m")

    def main() -> object:
        return told(1, failure)

    arg = node(plan_by(main), "told").args[-1]
    assert arg.name == "failure"
    assert isinstance(arg.value, Const)


def test_the_name_failure_is_reserved() -> None:
    with pytest.raises(Exception, match="names nothing that can be provided"):
        Provided("Failure")


# --- names, order, clean-up -----------------------------------------------------------------------


def test_names_and_order() -> None:
    def main() -> object:
        first = load("u")
        one = rescue(inc.bind(1), inc.bind(2))
        rescue(inc.bind(1), inc.bind(2), after=[first])
        branch(True, inc.bind(1), inc.bind(2), name="gate", after=[one])
        repeat(inc, 1, until=positive, limit=1, name="poll", after=[one], always=True)
        return switch("a", {"a": inc.bind(1)}, name="pick", after=[first], always=True)

    plan = plan_by(main)
    assert [(n.name, n.waits) for n in plan.root.nodes] == [
        ("load", ()),
        ("rescue", ()),
        ("rescue-2", (0,)),
        ("gate", (1,)),
        ("poll", (1,)),
        ("pick", (0,)),
    ]
    assert [n.name for n in plan.root.nodes if n.always] == ["poll", "pick"]


def test_clean_up_nodes_know_what_they_need_and_are_known() -> None:
    def main() -> object:
        data, other = load("u"), inc(1)
        clean.with_options(always=True, after=[other])(data)
        inner.with_options(always=True, after=[data])(1)
        shell("rm {x}", inputs={"x": other}, always=True)
        inc.with_options(always=True).map(each(data))
        strict(data)
        return branch(True, inc.bind(data[0]), inc.bind(other), always=True)

    plan = plan_by(main)
    rows = [(n.name, n.always, n.needs, n.cleans) for n in plan.root.nodes]
    assert rows == [
        ("load", False, (), (2, 3, 5, 7)),
        ("inc", False, (), (2, 4, 7)),
        ("clean", True, (0,), ()),
        ("inner", True, (), ()),
        ("rm", True, (1,), ()),
        ("inc-2", True, (0,), ()),
        ("strict", False, (), ()),
        ("branch", True, (0, 1), ()),
    ]
    assert node(plan, "clean").waits == (0, 1)


def test_always_can_be_taken_back() -> None:
    again = inc.with_options(always=True).with_options(always=False)

    def main() -> object:
        return again(1), again.with_options(always=True)(2)

    assert [n.always for n in plan_by(main).root.nodes] == [False, True]


# --- failures as items ----------------------------------------------------------------------------


@task
def listed(xs: list[int | Failure]) -> int:
    return 0


@task
def tupled(xs: tuple[int | Failure, ...]) -> int:
    return 0


@task
def one(x: int | Failure) -> int:
    return 0


@task
def both(xs: list[list[int | Failure]]) -> int:
    return 0


@task
def listed_state(xs: Sequence[int | Failure], state: int) -> int:
    return state


@task
def free(xs) -> int:  # type: ignore[no-untyped-def] # noqa: ANN001 - takes anything
    return 0


@graph
def through(xs: Sequence[int | Failure]) -> int:
    return tolerant(xs)


@graph
def handed() -> Sequence[int | Failure]:
    return inc.map(each([1]))


@pytest.mark.parametrize("consumer", [tolerant, listed, tupled, through])
def test_a_map_whose_consumer_takes_failures_is_tolerant(consumer: Callable[..., int]) -> None:
    def main() -> object:
        made = inc.map(each([1, 2]))
        free(made)
        return consumer(made)

    assert [n.tolerant for n in plan_by(main).root.nodes] == [True, False, False]


def test_failures_may_be_taken_one_by_one_inside_literals_and_by_arms() -> None:
    def main() -> object:
        a, b, c, d = (inc.map(each([at, 2])) for at in range(4))
        one.map(each(a))
        both(cast("Any", [b, [3]]))
        rescue(tolerant.bind(c), one.bind(d[0]))
        return repeat(partial(listed_state, c), 1, until=positive, limit=1)

    maps = [n for n in plan_by(main).root.nodes if n.kind == "map"]
    assert [(n.name, n.tolerant) for n in maps] == [
        ("inc", True),
        ("inc-2", True),
        ("inc-3", True),
        ("inc-4", True),
        ("one", False),
    ]


def test_a_map_whose_failures_leave_the_graph_is_tolerant() -> None:
    assert [n.tolerant for n in plan_of(handed.bind()).root.nodes] == [True]


def test_without_failures_in_an_annotation_no_map_is_tolerant() -> None:
    def main() -> object:
        made = inc.map(each([1, 2]))
        free(made)
        free({"a": made, "b": [made[0], made]})
        return strict(made)

    assert not any(n.tolerant for n in plan_by(main).root.nodes)


# --- built graphs ---------------------------------------------------------------------------------


def test_a_builder_makes_the_same_composites() -> None:
    def traced() -> object:
        data = load("u")
        a = branch(positive(data[0]), inc.bind(data[0]), inc.bind(2), name="a")
        b = switch(name_of(1), {"x": inc.bind(a)}, default=clean.bind(data), after=[a])
        c = repeat(partial(cast("Any", above), bound=a), 1, until=cast("Any", positive), limit=3)
        return rescue(inc.bind(a), told.bind(2), name="guard", after=[b, c], always=True)

    g = GraphBuilder("traced")
    data = g.add(load, "u")
    a = g.branch(g.add(positive, data[0]), inc.bind(data[0]), inc.bind(2), name="a")
    b = g.switch(g.add(name_of, 1), {"x": inc.bind(a)}, default=clean.bind(data), after=[a])
    c = g.repeat(partial(cast("Any", above), bound=a), 1, until=cast("Any", positive), limit=3)
    made = g.rescue(inc.bind(a), told.bind(2), name="guard", after=[b, c], always=True)
    assert plan_of(g.build(made)).fingerprint == plan_by(traced).fingerprint


def test_a_built_graph_may_be_an_arm_and_take_refs() -> None:
    def main() -> object:
        g = GraphBuilder("built")
        x = g.param("x", int)
        bound = g.build(g.add(inc, x), inputs={"x": inc(1)})
        return branch(True, bound, inc.bind(1))

    arm = node(plan_by(main), "branch").arms[0]
    assert (arm.body.name, arm.args) == ("built", (Arg("x", FromNode(0)),))


def test_a_builder_waits_for_names_of_later_nodes() -> None:
    g = GraphBuilder()
    g.rescue(inc.bind(1), inc.bind(2), after=["later"])
    g.add(load, "u", name="later", always=True)
    g.map(inc, each([1]), always=True)
    g.shell("make", always=True, name="make")
    plan = plan_of(g.build())
    assert plan.root.nodes[0].waits == (1,)
    assert [n.always for n in plan.root.nodes] == [False, True, True, True]


def test_built_graphs_nest_to_any_depth() -> None:
    bound = inc.bind(1)
    for _ in range(2_000):
        g = GraphBuilder()
        bound = g.build(g.branch(True, bound, bound))
    assert len(plan_of(bound).fingerprint) == 64


def test_a_graph_that_chooses_itself_is_refused() -> None:
    @graph
    def endless(x: int) -> int:
        return branch(positive(x), inc.bind(x), endless.bind(x))

    with pytest.raises(Exception, match="the graph endless calls itself: endless -> endless"):
        endless.bind(1).graph  # noqa: B018 - traces


def test_nodes_on_other_backends_in_arms_are_checked() -> None:
    def main() -> object:
        return branch(True, heavy.bind(1), score.bind(train([1])))

    plan = plan_by(main)
    assert {spec.backend for spec in plan.tasks} == {"process", "thread"}


# --- annotations that do not tell -----------------------------------------------------------------


def test_a_union_of_what_is_no_type_says_nothing() -> None:
    assert union_of([int, str]) == int | str
    assert union_of([ClassVar, int]) is MISSING
    assert union_of([MISSING, int]) is MISSING


@task
def named(score: Score) -> int:
    return 0


def test_a_map_that_goes_where_no_items_fit_is_judged_by_its_type() -> None:
    with refused("G005", "the result of inc is list[int], but inc(x) is int"):
        plan_by(lambda: inc(cast("Any", inc.map(each([1])))))

    def main() -> object:
        named(cast("Any", {"nope": inc.map(each([1]))}))
        return free(inc.map(each([1]))[0])

    assert not any(n.tolerant for n in plan_by(main).root.nodes)
