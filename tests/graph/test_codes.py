"""Each code of the table: raised where it says, with file, line and a suggestion.

A case is a function whose faulty line is marked `# here`.
"""

from __future__ import annotations

import inspect
from typing import Any, cast

import pytest

from onready.engine.errors import GraphError
from onready.engine.graph import GraphBuilder, Provided, each, graph, shell, task
from onready.engine.graph.codes import CODES
from onready.engine.options import Resources
from tests.graph import composite_cases
from tests.graph.cases import CASES, Case, case, traced
from tests.graph.defs import (
    anything,
    clean,
    heavy,
    inc,
    load,
    name_of,
    pair,
    plan_of,
    query,
    score,
    train,
)

ELSEWHERE = {"G048"}
"""Codes whose cases are in test_secret_codes.py."""

# --- calls --------------------------------------------------------------------------------------


@case("G001", "inc is called outside a graph", "name.fn(...)")
def call_outside() -> object:
    return inc(1)  # here


@case("G001", "inc.map is called outside a graph", "engine.run(name.bind(...))")
def map_outside() -> object:
    return inc.map(each([1]))  # here


@case("G001", "shell(...) is called outside a graph", "@graph")
def shell_outside() -> object:
    return shell("true")  # here


@case("G002", "train is not given 'data'", "Give it")
def missing_input() -> object:
    return traced(cast("Any", lambda: [cast("Any", train)()]))  # here


@case("G002", "pair is not given 'x'", "Give it")
def missing_in_bind() -> object:
    return cast("Any", pair).bind()  # here


@case("G003", "train has no input 'alhpa'", "Did you mean 'alpha'? There are: alpha, data.")
def unknown_input() -> object:
    return traced(lambda: cast("Any", train)([1], alhpa=1))  # here


@case("G003", "the command wants {nmae}", "Did you mean 'name'? There is: name.")
def unknown_placeholder() -> object:
    return traced(lambda: shell("echo {nmae}", inputs={"name": 1}))  # here


@case("G003", "the graph built has no input 'y'", "There is: x.")
def unknown_builder_input() -> object:
    g = GraphBuilder("built")
    g.param("x")
    return g.build(inputs={"y": 1})  # here


@case("G004", "train is given 'data' twice", "Give each input once")
def input_twice() -> object:
    return traced(lambda: cast("Any", train)([1], data=[1]))  # here


@case("G004", "inc is given 2 inputs by position and takes 1", "It takes: x.")
def too_many() -> object:
    return traced(lambda: cast("Any", inc)(1, 2))  # here


@case("G005", "clean(raw) cannot take 'no'", "Change the annotation or the value")
def wrong_constant() -> object:
    return traced(lambda: clean(cast("Any", "no")))  # here


@case("G005", "is list[int], but inc(x) is int", "Change the annotation or the value")
def wrong_ref() -> object:
    def wrong() -> object:
        data = load("u")
        return inc(cast("Any", data))  # here

    return plan_of(graph(wrong).bind())


@case("G005", "has no items to iterate over", "Change the annotation or the value")
def each_of_a_number() -> object:
    def wrong() -> object:
        return inc.map(each(cast("Any", inc(1))))  # here

    return plan_of(graph(wrong).bind())


@case("G005", "Model has no attribute 'alhpa'; it has alpha, name", "Change the annotation")
def no_such_attribute() -> object:
    def wrong() -> object:
        return anything(cast("Any", train([1])).alhpa)  # here

    return plan_of(graph(wrong).bind())


@case("G005", "the dict has no key 'lable'; it has value, label", "Change the annotation")
def no_such_key() -> object:
    def wrong() -> object:
        return anything(cast("Any", score(train([1])))["lable"])  # here

    return plan_of(graph(wrong).bind())


@case("G005", "the tuple has 2 items, so there is no [2]", "Change the annotation")
def no_such_item() -> object:
    def wrong() -> object:
        return anything(cast("Any", pair(1))[2])  # here

    return plan_of(graph(wrong).bind())


@case("G006", "the graph endless calls itself: endless -> endless", "Take the recursion into one")
def recursion() -> object:
    @graph
    def endless() -> object:
        return endless()  # here

    return endless.bind().graph


@case("G006", "the graph ping calls itself: ping -> pong -> ping", "Take the recursion into one")
def mutual_recursion() -> object:
    @graph
    def ping() -> object:
        return pong()

    @graph
    def pong() -> object:
        return ping()  # here

    return ping.bind().graph


# --- refs ---------------------------------------------------------------------------------------


@case("G010", "the result of inc is used as a truth value", "Choose with branch(")
def truth() -> object:
    def wrong() -> object:
        return 1 if inc(1) else 2  # here

    return traced(wrong)


@case("G011", "len() of the result of load", "Take the length inside a task")
def length() -> object:
    return traced(lambda: len(load("u")))  # here


@case("G012", "cannot iterate over the result of load", ".map(each(ref))")
def loop() -> object:
    return traced(lambda: [inc(x) for x in load("u")])  # here


@case("G012", "cannot iterate over the result of load", "tuple[int, str]")
def unpack() -> object:
    def wrong() -> object:
        a, b = load("u")  # here
        return a, b

    return traced(wrong)


@case("G013", "`==` on the result of inc", "Do it inside a task")
def comparison() -> object:
    return traced(lambda: inc(1) == 2)  # here


@case("G013", "`format` on the result of name_of", 'ref["key"], ref[0] and ref.attribute')
def printed() -> object:
    return traced(lambda: f"{name_of(1)}")  # here


@case("G014", "the result of inc belongs to the graph first, not to second", "as an argument")
def foreign_ref() -> object:
    kept: list[int] = []

    def first() -> None:
        kept.append(inc(1))

    def second() -> object:
        return inc(kept[0])  # here

    traced(first)
    return traced(second)


@case("G015", "the result of inc is inside a set", "Put refs in arguments")
def ref_in_set() -> object:
    return traced(lambda: anything({inc(1)}))  # here


@case("G015", "the result of inc is inside a dict's key", "Put refs in arguments")
def ref_as_key() -> object:
    return traced(lambda: anything({inc(1): 2}))  # here


# --- names and edges ----------------------------------------------------------------------------


@case("G020", "two nodes are named 'a'; the first is at", "Give them two names")
def duplicate_name() -> object:
    def wrong() -> None:
        inc.with_options(name="a")(1)
        clean.with_options(name="a")([1])  # here

    return traced(wrong)


@case("G020", "the graph graph has an input 'x' already", "Give them two names")
def duplicate_param() -> object:
    g = GraphBuilder()
    g.param("x")
    return g.param("x")  # here


@case("G021", "'a/b' cannot name a node", "letters, digits, `_`, `.` and `-`")
def bad_node_name() -> object:
    return traced(lambda: inc.with_options(name="a/b")(1))  # here


@case("G021", "'1st' cannot name a task", "Begin with a letter or `_`")
def bad_task_name() -> object:
    return task(name="1st")(inc.fn)  # here


@case("G021", "'two words' cannot name a graph", "Begin with a letter or `_`")
def bad_builder_name() -> object:
    return GraphBuilder("two words")  # here


@case("G022", "after= holds the input x, which is no node", "Give the results of calls")
def after_an_input() -> object:
    g = GraphBuilder()
    x = g.param("x", int)
    return g.add(inc, 1, after=[x])  # here


@case("G022", "after= holds 'inc', which is no result", "Give the results of calls")
def after_a_text() -> object:
    return traced(lambda: inc.with_options(after=["inc"])(1))  # here


@case("G022", "after= of inc names 'cleen'", "Did you mean 'clean'? There are: clean, inc.")
def after_nobody() -> object:
    g = GraphBuilder()
    g.add(clean, [1])
    g.add(inc, 1, after=["cleen"])  # here
    return plan_of(g.build())


@case("G023", "in a circle: a -> b -> c -> a", "Take one edge away")
def circle() -> object:
    g = GraphBuilder()
    g.add(inc, 0, name="before")
    a = g.add(inc, 1, name="a", after=["c"])  # here
    b = g.add(inc, a, name="b")
    g.add(inc, b, name="c")
    return plan_of(g.build())


# --- maps ---------------------------------------------------------------------------------------


@case("G030", "each() in a call of inc that is no map", "name.map(each(values))")
def each_in_a_call() -> object:
    return traced(lambda: inc(each([1])))  # here


@case("G030", "each() is not a direct argument", "name.map(each(values))")
def each_inside() -> object:
    return traced(lambda: clean.map([each([1])]))  # here


@case("G031", "inc.map() has no each() argument", "Wrap what to iterate over")
def map_without_each() -> object:
    return traced(lambda: inc.map(1))  # here


@case("G032", "each() of a str", "list(text)")
def each_of_text() -> object:
    return each("abc")  # here


@case("G032", "each() of a set, whose items have no order", "sorted(values)")
def each_of_set() -> object:
    return each({1, 2})  # here


@case("G032", "each() of a int, which cannot be iterated", "Give a list")
def each_of_int() -> object:
    return each(cast("Any", 3))  # here


@case("G032", "each() inside each()", "map over a graph")
def each_of_each() -> object:
    return each(cast("Any", each([1])))  # here


# --- definitions --------------------------------------------------------------------------------


@case("G040", "the task many takes *xs", "a list or a dict")
def variadic() -> object:
    @task  # here
    def many(*xs: int) -> int:
        return len(xs)

    return many


@case("G040", "takes 'x' by position only", "Leave out the `/`")
def positional_only() -> object:
    @task  # here
    def only(x: int, /) -> int:
        return x

    return only


@case("G040", "items is a generator", "Return a list")
def generator() -> object:
    @task  # here
    def items() -> object:
        yield 1

    return items


@case("G040", "the graph later is an `async def`", "Write `def`")
def async_graph() -> object:
    @graph  # here
    async def later() -> int:
        return 1

    return later


@case("G040", "is no function, so it cannot be a task", "Write a function")
def class_as_task() -> object:
    return task(dict)  # here


@case("G040", "<task inc> is decorated twice", "Use one decorator")
def twice() -> object:
    return graph(inc)  # here


@case("G040", "neither a task nor a graph", "@task or @graph")
def add_a_function() -> object:
    return GraphBuilder().add(cast("Any", len), 1)  # here


@case("G041", "timeout=0 cannot be", "more than 0")
def bad_timeout() -> object:
    return inc.with_options(timeout=0)  # here


@case("G041", "retry=-1 cannot be", "Retry(3, backoff=1.0)")
def bad_retry() -> object:
    return task(retry=-1)(inc.fn)  # here


@case("G041", "limit=4 on a plain call of inc", "write .map(...)")
def limit_without_map() -> object:
    return traced(lambda: inc.with_options(limit=4)(1))  # here


@case("G041", "on_error='explode' cannot be", "stop, continue, cancel")
def bad_on_error() -> object:
    return graph(on_error=cast("Any", "explode"))  # here


@case("G042", "Provided(dict) names nothing that can be provided", "NodeContext")
def provided_type() -> object:
    return Provided(dict)  # here


@case("G042", "the graph wants has a provided parameter, 'db'", "Provide the object to the task")
def provided_to_graph() -> object:
    @graph  # here
    def wants(db: object = Provided("db")) -> object:
        return db

    return wants


@case("G043", "does not split into words", "splits as a shell's words")
def open_quote() -> object:
    return traced(lambda: shell("echo 'x"))  # here


@case("G043", "the command holds a ref", "inputs={")
def ref_in_command() -> object:
    return traced(lambda: shell(["echo", inc(1)]))  # here


@case("G043", "outputs= names '../x'", "Give a relative path")
def bad_output() -> object:
    return traced(lambda: shell("true", outputs=["../x"]))  # here


@case("G043", "would be one environment variable", "Rename one of them")
def inputs_clash() -> object:
    return traced(lambda: shell("true", inputs={"a": 1, "A": 2}))  # here


@case("G044", "{name} stands in program text", '"$ONREADY_INPUT_NAME"')
def value_in_script() -> object:
    return traced(lambda: shell(["sh", "-c", "echo {name}"], inputs={"name": 1}))  # here


@case("G044", "is an input", "Name the program in the command")
def value_as_program() -> object:
    return traced(lambda: shell(["{name}"], inputs={"name": "rm"}))  # here


@case("G045", "the graph graph is built already", "build once")
def changed_after_build() -> object:
    g = GraphBuilder()
    g.build()
    return g.add(inc, 1)  # here


# --- backends -----------------------------------------------------------------------------------


@case("G050", "there is no backend 'proces'", "Did you mean 'process'? There are: gpu-box, inline,")
def unknown_backend() -> object:
    def wrong() -> object:
        return inc.with_options(backend="proces")(1)  # here

    return plan_of(graph(wrong).bind())


@case(
    "G051",
    "'inline' runs `async def` alone",
    "Backends that can: gpu-box, process, subprocess, thread.",
)
def def_inline() -> object:
    def wrong() -> object:
        return inc.with_options(backend="inline")(1)  # here

    return plan_of(graph(wrong).bind())


@case("G051", "has no GPUs to give, and the task asks for 2", "Backends that can: gpu-box.")
def gpu_elsewhere() -> object:
    def wrong() -> object:
        return inc.with_options(resources=Resources(gpu=2))(1)  # here

    return plan_of(graph(wrong).bind())


@case("G051", "'thread' runs no shell commands", "Backends that can: subprocess.")
def shell_in_a_thread() -> object:
    def wrong() -> object:
        return shell("true", backend="thread")  # here

    return plan_of(graph(wrong).bind())


@case("G052", "local runs on 'process', but no other process can import it", "top level")
def local_function() -> object:
    @task(backend="process")
    def local() -> int:
        return 1

    def wrong() -> object:
        return local()  # here

    return plan_of(graph(wrong).bind())


@case("G052", "lambda runs on 'process'", "top level of a module")
def lambda_elsewhere() -> object:
    def wrong() -> object:
        return task(backend="process")(lambda: 1)()  # here

    return plan_of(graph(wrong).bind())


@case("G053", "query runs on 'process' and wants the live object 'db'", "in-process backend")
def provided_elsewhere() -> object:
    def wrong() -> object:
        return query.with_options(backend="process")("select 1")  # here

    return plan_of(graph(wrong).bind(), provided=["db"])


@case("G054", "query wants the provided object 'db'", "Did you mean 'db2'?")
def not_provided() -> object:
    def wrong() -> object:
        return query("select 1")  # here

    return plan_of(graph(wrong).bind(), provided=["db2"])


@case("G055", "the backend 'process' has no option 'qeue'", "Did you mean 'queue'?")
def unknown_option() -> object:
    def wrong() -> object:
        return heavy.with_options(options={"qeue": "short"})(1)  # here

    return plan_of(graph(wrong).bind())


@case("G080", "query is cached, and takes the live object 'db'", "as an input")
def cached_with_a_live_object() -> object:
    def wrong() -> object:
        return query.with_options(cache=True)("select 1")  # here

    return plan_of(graph(wrong).bind(), provided=["db"])


# --- the test -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "function", "message", "suggestion"),
    [pytest.param(*entry, id=f"{entry[0]}-{entry[1].__name__}") for entry in CASES],
)
def test_code_place_and_suggestion(
    code: str, function: Case, message: str, suggestion: str
) -> None:
    with pytest.raises(GraphError) as caught:
        function()
    error = caught.value
    assert error.code == code, error
    assert message in error.message
    assert suggestion in error.suggestion
    assert error.location is not None
    assert error.location.file == inspect.getsourcefile(function)
    lines, first = inspect.getsourcelines(function)
    marked = [first + index for index, line in enumerate(lines) if line.endswith("# here\n")]
    assert [error.location.line] == marked, error
    assert str(error).startswith(f"{error.location}: {code}: {error.message}")


def test_every_code_has_a_case() -> None:
    assert composite_cases.__doc__  # importing it adds its cases
    assert {entry[0] for entry in CASES} | ELSEWHERE == set(CODES)


def test_every_code_has_a_meaning_and_a_cure() -> None:
    for code in CODES.values():
        assert code.meaning.endswith(".")
        assert code.cure.endswith(".")


def test_error_without_a_place_of_the_users() -> None:
    """A C function has no source: the place is then the decoration."""
    with pytest.raises(GraphError) as caught:
        task(cast("Any", dict.fromkeys))
    assert caught.value.code == "G040"
    assert caught.value.location is not None
    assert caught.value.location.file == __file__
