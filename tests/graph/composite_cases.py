"""Cases of codes that composites, clean-up nodes and failures as values can bring about.

Rule of this room: cases only; `test_codes` goes through them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, cast

from onready.engine.errors import Failure
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
from tests.graph.cases import case, traced
from tests.graph.defs import anything, clean, inc, load, name_of, plan_of, query


@task
def positive(x: int) -> bool:
    return x > 0


@task
def above(x: int, bound: int) -> bool:
    return x > bound


@task
def told(x: int, failure: Failure = Provided(Failure)) -> int:
    return x


@task
def tolerant(xs: Sequence[int | Failure]) -> int:
    return len(xs)


@task
def strict(xs: list[int]) -> int:
    return len(xs)


@task
def nothing() -> bool:
    return True


@graph
def inner(x: int) -> int:
    return inc(x)


# --- outside, and what is no arm ------------------------------------------------------------------


@case("G001", "branch is called outside a graph", "Call it inside a @graph function")
def branch_outside() -> object:
    return branch(True, inc.bind(1), inc.bind(2))  # here


@case("G001", "switch is called outside a graph", "Call it inside a @graph function")
def switch_outside() -> object:
    return switch("a", {"a": inc.bind(1)})  # here


@case("G001", "repeat is called outside a graph", "Call it inside a @graph function")
def repeat_outside() -> object:
    return repeat(inc, 1, until=positive, limit=1)  # here


@case("G001", "rescue is called outside a graph", "Call it inside a @graph function")
def rescue_outside() -> object:
    return rescue(inc.bind(1), inc.bind(2))  # here


@case("G033", "the arm then of branch is the result of inc", "Write name.bind(...) where")
def called_arm() -> object:
    def wrong() -> object:
        return branch(positive(1), cast("Any", inc(1)), inc.bind(2))  # here

    return traced(wrong)


@case("G033", "the arm handler of rescue is <task inc>", "Write inc.bind(...) with its inputs")
def unbound_arm() -> object:
    def wrong() -> object:
        return rescue(inc.bind(1), cast("Any", inc))  # here

    return traced(wrong)


@case("G033", "the arm a of switch is 3", "Give name.bind(...)")
def number_as_arm() -> object:
    def wrong() -> object:
        return switch("a", {"a": cast("Any", 3)})  # here

    return traced(wrong)


@case("G034", "the arms of switch are {}", "Write switch(ref")
def no_arms() -> object:
    def wrong() -> object:
        return switch("a", {}, default=inc.bind(1))  # here

    return traced(wrong)


@case("G034", "the key 1.5 of switch is a float", "Write switch(ref")
def key_of_another_type() -> object:
    def wrong() -> object:
        return switch(cast("Any", 1), {1.5: inc.bind(1)})  # here

    return traced(wrong)


@case("G034", "the key 36893488147419103232 of switch", "Write switch(ref")
def key_beyond_all_bounds() -> object:
    def wrong() -> object:
        return switch(1, {2**65: inc.bind(1)})  # here

    return traced(wrong)


# --- what arms are given --------------------------------------------------------------------------


@case("G002", "inc is not given 'x'", "Give it")
def arm_without_an_input() -> object:
    def wrong() -> object:
        return rescue(inc.bind(1), cast("Any", inc).bind())  # here

    return traced(wrong)


@case("G003", "inc has no input 'y'", "There is: x")
def arm_with_another_input() -> object:
    def wrong() -> object:
        return rescue(inc.bind(1), cast("Any", inc).bind(1, y=2))  # here

    return traced(wrong)


@case("G002", "built, the arm body of rescue, is not given x", "Give the input")
def built_arm_without_an_input() -> object:
    g = GraphBuilder("built")
    bound = g.build(g.add(inc, g.param("x", int)))

    def wrong() -> object:
        return rescue(bound, inc.bind(1))  # here

    return traced(wrong)


@case("G003", "inc has no input 'y'", "There is: x")
def bound_without_a_look() -> object:
    def wrong() -> object:
        return rescue(inc.bind(1), inc.bound({"x": 1, "y": 2}))  # here

    return traced(wrong)


@case("G005", "clean(raw) cannot take 'no'", "")
def constant_of_an_arm() -> object:
    def wrong() -> object:
        return rescue(inc.bind(1), cast("Any", clean).bind("no"))  # here

    return traced(wrong)


@case("G005", "the result of name_of is str, but inc(x) is int", "Change the annotation")
def ref_of_an_arm() -> object:
    def wrong() -> object:
        return rescue(inc.bind(1), inc.bind(cast("Any", name_of(1))))  # here

    return plan_of(graph(wrong).bind())


@case("G014", "belongs to the graph", "Pass the value into this graph")
def arm_with_a_ref_of_another_graph() -> object:
    kept: list[int] = []

    def other() -> None:
        kept.append(inc(1))

    traced(other)

    def wrong() -> object:
        return rescue(inc.bind(1), inc.bind(kept[0]))  # here

    return traced(wrong)


@case("G030", "each() is not a direct argument", "Write name.map(each(values))")
def each_in_an_arm() -> object:
    def wrong() -> object:
        return rescue(inc.bind(1), inc.bind(each([1])))  # here

    return traced(wrong)


@case("G041", "inc.bind() with after=", "give after= and always= to branch(...)")
def arm_with_after() -> object:
    def wrong() -> object:
        return rescue(inc.bind(1), inc.with_options(after=[inc(2)]).bind(1))  # here

    return traced(wrong)


@case("G041", "inc.bind() with limit=", "count for a call inside a graph")
def arm_with_limit() -> object:
    def wrong() -> object:
        return rescue(inc.bind(1), inc.with_options(limit=2).bind(1))  # here

    return traced(wrong)


@case("G041", "inc.bind() with always=", "count for a call inside a graph")
def bound_with_always() -> object:
    return inc.with_options(always=True).bind(1)  # here


@case("G041", "is a graph with the name 'x'", "leave the name out")
def named_graph_as_arm() -> object:
    def wrong() -> object:
        return rescue(inc.bind(1), inner.with_options(name="x").bind(1))  # here

    return traced(wrong)


@case("G041", "always=1 cannot be", "Give True or False")
def always_that_is_no_truth() -> object:
    def wrong() -> object:
        return rescue(inc.bind(1), inc.bind(2), always=cast("Any", 1))  # here

    return traced(wrong)


# --- what decides ---------------------------------------------------------------------------------


@case("G005", "the result of name_of is str, but branch(test) is bool", "Change the annotation")
def test_of_another_type() -> object:
    def wrong() -> object:
        return branch(cast("Any", name_of(1)), inc.bind(1), inc.bind(2))  # here

    return plan_of(graph(wrong).bind())


@case("G005", "branch(test) cannot take 'yes'", "")
def constant_test_of_another_type() -> object:
    def wrong() -> object:
        return branch(cast("Any", "yes"), inc.bind(1), inc.bind(2))  # here

    return traced(wrong)


@case("G005", "the result of load is list[int], but switch(value) is", "Change the annotation")
def value_of_another_type() -> object:
    def wrong() -> object:
        value = cast("Any", load("u"))
        return switch(value, {"a": inc.bind(1), 1: inc.bind(2)})  # here

    return plan_of(graph(wrong).bind())


# --- repeats --------------------------------------------------------------------------------------


@case("G035", "the body of repeat is 3", "Give a task")
def body_that_is_none() -> object:
    def wrong() -> object:
        return repeat(cast("Any", 3), 1, until=positive, limit=3)  # here

    return traced(wrong)


@case("G035", "the until of repeat is <built-in function", "Give a task")
def test_that_is_none() -> object:
    def wrong() -> object:
        return repeat(inc, 1, until=cast("Any", print), limit=3)  # here

    return traced(wrong)


@case("G035", "the test of repeat is <graph inner>", "Make it a task that returns a bool")
def graph_as_test() -> object:
    def wrong() -> object:
        return repeat(inc, 1, until=cast("Any", inner), limit=3)  # here

    return traced(wrong)


@case("G035", "nothing, has no parameter for the state", "Leave one parameter")
def test_without_a_parameter() -> object:
    def wrong() -> object:
        return repeat(inc, 1, until=cast("Any", nothing), limit=3)  # here

    return traced(wrong)


@case("G035", "inc, has no parameter for the state", "Leave one parameter")
def body_with_all_fixed() -> object:
    def wrong() -> object:
        return repeat(cast("Any", partial(inc, 1)), 1, until=positive, limit=3)  # here

    return traced(wrong)


@case("G002", "the until of repeat, above, is not given bound", "functools.partial(above, bound=")
def test_that_lacks_an_argument() -> object:
    def wrong() -> object:
        return repeat(inc, 1, until=cast("Any", above), limit=3)  # here

    return traced(wrong)


@case("G003", "above has no input 'bund'", "Did you mean 'bound'?")
def unknown_fixed_argument() -> object:
    def wrong() -> object:
        return repeat(inc, 1, until=partial(cast("Any", above), bund=3), limit=3)  # here

    return traced(wrong)


@case("G041", "the body of repeat, inc, has limit=", "to repeat(...) itself")
def body_with_limit() -> object:
    def wrong() -> object:
        return repeat(inc.with_options(limit=2), 1, until=positive, limit=3)  # here

    return traced(wrong)


@case("G041", "limit=0 cannot be", "a whole number from 1")
def no_iterations() -> object:
    def wrong() -> object:
        return repeat(inc, 1, until=positive, limit=0)  # here

    return traced(wrong)


@case("G041", "limit=True cannot be", "a whole number from 1")
def truth_as_limit() -> object:
    def wrong() -> object:
        return repeat(inc, 1, until=positive, limit=True)  # here

    return traced(wrong)


@case("G041", "on_limit='stop' cannot be", 'Give "fail" or "return"')
def unknown_end() -> object:
    def wrong() -> object:
        return repeat(inc, 1, until=positive, limit=3, on_limit=cast("Any", "stop"))  # here

    return traced(wrong)


@case("G005", "repeat(state) cannot take 'a'", "")
def state_that_does_not_fit() -> object:
    def wrong() -> object:
        return repeat(inc, cast("Any", "a"), until=positive, limit=3)  # here

    return traced(wrong)


@case("G005", "the result of name_of is str, but repeat(state) is int", "Change the annotation")
def ref_as_state_that_does_not_fit() -> object:
    def wrong() -> object:
        return repeat(inc, cast("Any", name_of(1)), until=positive, limit=3)  # here

    return plan_of(graph(wrong).bind())


@case("G005", "repeat(until.bound) cannot take 'a'", "")
def fixed_argument_that_does_not_fit() -> object:
    def wrong() -> object:
        return repeat(inc, 1, until=partial(cast("Any", above), bound="a"), limit=3)  # here

    return traced(wrong)


@case("G005", "name_of returns str, but its own x", "Change the annotation")
def next_state_that_does_not_fit() -> object:
    def wrong() -> object:
        return repeat(cast("Any", name_of), 1, until=cast("Any", anything), limit=3)  # here

    return plan_of(graph(wrong).bind())


@case("G005", "name_of says when to stop, and returns str", "Return a bool")
def test_that_gives_no_truth() -> object:
    def wrong() -> object:
        return repeat(inc, 1, until=cast("Any", name_of), limit=3)  # here

    return plan_of(graph(wrong).bind())


@case("G005", "the result of inc is int, but clean(raw) is list[int]", "Change the annotation")
def test_of_another_state() -> object:
    def wrong() -> object:
        return repeat(inc, 1, until=cast("Any", clean), limit=3)  # here

    return plan_of(graph(wrong).bind())


# --- failures -------------------------------------------------------------------------------------


@case("G046", "told wants the failure, and it is not in the handler", "rescue(body.bind(...)")
def failure_without_a_rescue() -> object:
    def wrong() -> object:
        return told(1)  # here

    return plan_of(graph(wrong).bind())


@case("G046", "told wants the failure", "handler.bind(...)")
def failure_in_the_body_of_a_rescue() -> object:
    def deep() -> object:
        return told(1)  # here

    def wrong() -> object:
        return rescue(graph(deep).bind(), inc.bind(1))

    return plan_of(graph(wrong).bind())


@case("G053", "query runs on 'process' and wants the live object 'db'", "Run the node on")
def live_object_in_an_arm() -> object:
    g = GraphBuilder()
    bound = g.build(g.add(query.with_options(backend="process"), "select"))  # here

    def wrong() -> object:
        return rescue(bound, inc.bind(1))

    return plan_of(graph(wrong).bind())


@case("G036", "tolerant(xs) takes failures among the items of inc, but strict(xs) does not", "")
def consumers_that_disagree() -> object:
    def wrong() -> object:
        made = inc.map(each([1, 2]))
        tolerant(made)
        return strict(made)  # here

    return plan_of(graph(wrong).bind())


@case("G036", "but inc(x) does not", "Annotate both with Sequence[T | Failure]")
def item_by_item_that_disagrees() -> object:
    def wrong() -> object:
        made = inc.map(each([1, 2]))
        tolerant(made)
        return inc.map(each(made))  # here

    return plan_of(graph(wrong).bind())


@case("G036", "but inc(x) does not", "Annotate both")
def arm_that_disagrees() -> object:
    def wrong() -> object:
        made = inc.map(each([1, 2]))
        tolerant(made)
        return rescue(inc.bind(made[0]), inc.bind(1))  # here

    return plan_of(graph(wrong).bind())
