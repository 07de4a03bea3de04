"""What changed between two plans is said in the words of the graph, once each."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import msgspec
import pytest
from hypothesis import given

from onready.engine.graph import Bound
from onready.engine.host import BUILT_IN, INLINE_CAPABILITIES
from onready.engine.loading import load_file
from onready.engine.plan import sources
from onready.engine.plan.compile import compile_plan
from onready.engine.plan.diff import Change, diff_plans, drift_of
from onready.engine.plan.dump import dump_plan, load_plan
from onready.engine.plan.fingerprint import fingerprint
from onready.engine.plan.link import link
from onready.engine.plan.model import (
    Arg,
    Arm,
    Const,
    Fragment,
    FromNode,
    FromParam,
    Gather,
    ParamSpec,
    Plan,
    PlanNode,
    TaskSpec,
)
from onready.engine.spi import Call, Capabilities, Shell
from onready.engine.values.stored import Compound, Live
from tests.strategies import plans

SOURCE = """\
from onready import Retry, each, graph, task


@task
def load(url: str) -> list[int]:
    return [1]


@task(retry=Retry(1), timeout=5)
def fit(data: list[int], alpha: float) -> float:
    return alpha


@task
def tell(models: list[float]) -> float:
    return max(models)


@task
def tidy() -> None:
    return None


@graph
def one(data: list[int], alpha: float) -> float:
    return fit(data, alpha)


@graph
def pipeline(url: str = "x", alphas: list[float] = [0.1, 0.5]) -> float:
    data = load(url)
    ready = tidy()
    models = one.map(data, each(alphas))
    return tell.with_options(after=[ready])(models)
"""

CASES: list[tuple[str, str, str]] = [
    ("    return [1]", "    return [2]", "load: its code changed (pipeline.py:4)"),
    (
        "@task\ndef tell",
        "@task(backend='process')\ndef tell",
        (
            "tell: its code changed (pipeline.py:14)\n"
            "tell: backend was thread, is process (pipeline.py:34)"
        ),
    ),
    (
        "retry=Retry(1)",
        "retry=Retry(3)",
        (
            "one/fit: its code changed (pipeline.py:9)\n"
            "one/fit: retry.limit was 1, is 3 (pipeline.py:26)"
        ),
    ),
    ("after=[ready]", "after=[]", "tell: after is gone: was tidy (pipeline.py:34)"),
    (
        "one.map(data, each(alphas))",
        "one.map([3], each(alphas))",
        "one: argument data was load, is [3] (pipeline.py:33)",
    ),
    ('url: str = "x"', "url: str", "the graph: parameter url was str = 'x', is str"),
    (
        "return fit(data, alpha)",
        "return fit.with_options(name='train')(data, alpha)",
        (
            "one/fit: is gone (pipeline.py:26)\none/train: is new (pipeline.py:26)\n"
            "one: result was fit, is train"
        ),
    ),
    (
        "@graph\ndef pipeline",
        "@graph(on_error='continue', timeout=60)\ndef pipeline",
        "the graph: on_error was stop, is continue\nthe graph: timeout was unset, is 60",
    ),
    (
        "each(alphas))",
        "each([0.1, 0.5]))",
        "one: argument alpha was each(alphas), is each([0.1, 0.5]) (pipeline.py:33)",
    ),
]


def module(folder: Path, source: str) -> ModuleType:
    """pipeline.py with this source, freshly imported."""
    file = folder / "pipeline.py"
    file.write_text(source)
    for name in [name for name in sys.modules if name.startswith("_onready_file_")]:
        del sys.modules[name]
    linecache.clearcache()
    sources._cached.clear()  # equal code of two files is one key there
    return load_file(file)


def compiled(folder: Path, source: str) -> Plan:
    """The plan of `pipeline` in a file with this source."""
    bound: Bound[object] = module(folder, source).pipeline.bound({})
    capabilities = dict.fromkeys(BUILT_IN, Capabilities())
    return compile_plan(bound, backends={**capabilities, "inline": INLINE_CAPABILITIES})


def said(changes: Sequence[Change], folder: Path) -> str:
    return "\n".join(map(str, changes)).replace(f"{folder}/", "")


@pytest.mark.parametrize(("old", "new", "expected"), CASES)
def test_a_change_of_the_source_is_told(tmp_path: Path, old: str, new: str, expected: str) -> None:
    assert SOURCE.count(old) == 1
    before = load_plan(dump_plan(compiled(tmp_path, SOURCE)))
    after = compiled(tmp_path, SOURCE.replace(old, new))
    assert said(diff_plans(before, after), tmp_path) == expected


def test_what_means_nothing_is_no_change(tmp_path: Path) -> None:
    before = load_plan(dump_plan(compiled(tmp_path, SOURCE)))
    after = compiled(tmp_path, "# a comment\n\n\n" + SOURCE)
    assert diff_plans(before, after) == ()
    assert before.fingerprint == after.fingerprint


def test_drift_is_seen_in_the_functions_alone(tmp_path: Path) -> None:
    stored = load_plan(dump_plan(compiled(tmp_path, SOURCE)))
    assert drift_of(link(stored)) == ()
    edited = SOURCE.replace("return alpha", "return alpha * 2").replace("max(", "min(")
    module(tmp_path, edited)
    found = said(drift_of(link(stored)), tmp_path)
    assert (
        found
        == "tell: its code changed (pipeline.py:14)\none/fit: its code changed (pipeline.py:9)"
    )


# --- plans of other shapes, made by hand --------------------------------------------------------

TASK = TaskSpec(name="t", work=Call("m:t"), backend="thread")
BODY = Fragment(
    name="report",
    params=(ParamSpec("x"),),
    nodes=(PlanNode(position=0, name="write", kind="task", task=0),),
    result=FromNode(0),
)
GATE = PlanNode(
    position=1,
    name="gate",
    kind="switch",
    args=(Arg("value", FromNode(0)),),
    waits=(0,),
    where="g.py:9",
    arms=(
        Arm(name="high", body=BODY, args=(Arg("x", FromNode(0)),), key="high"),
        Arm(name="default", body=BODY, args=(Arg("x", Const(1)),)),
    ),
)


def plan_of(*nodes: PlanNode, task: TaskSpec = TASK) -> Plan:
    first = PlanNode(position=0, name="first", kind="task", task=0, where="g.py:8")
    root = Fragment(name="g", nodes=(first, *nodes), result=FromNode(len(nodes)))
    return Plan("g", root, (task,), fingerprint(root, (task,)))


def changes(old: Plan, new: Plan) -> list[str]:
    return [str(change) for change in diff_plans(old, new)]


def test_arms() -> None:
    replace = msgspec.structs.replace
    high, other = GATE.arms
    cases: list[tuple[PlanNode, list[str]]] = [
        (replace(GATE, arms=(high,)), ["gate: arm default is gone: was report (g.py:9)"]),
        (
            replace(GATE, arms=(*GATE.arms, Arm(name="low", body=BODY, key=3))),
            ["gate: arm low is new: report for 3 (g.py:9)"],
        ),
        (
            replace(GATE, arms=(replace(high, key=True), other)),
            ["gate: arm high was report for 'high', is report for True (g.py:9)"],
        ),
        (
            replace(GATE, arms=(high, replace(other, args=(Arg("x", Const(True)),)))),
            ["gate?default: argument x was 1, is True (g.py:9)"],
        ),
        (
            replace(
                GATE, arms=(high, replace(other, body=replace(BODY, nodes=(), result=Const())))
            ),
            ["gate?default/write: is gone", "gate?default: result was write, is None"],
        ),
        (replace(GATE, kind="branch"), ["gate: kind was switch, is branch (g.py:9)"]),
    ]
    for changed, expected in cases:
        assert changes(plan_of(GATE), plan_of(changed)) == expected


def test_options_of_nodes_and_programs() -> None:
    replace = msgspec.structs.replace
    node = PlanNode(position=1, name="poll", kind="repeat", body=BODY, most=5, where="g.py:9")
    changed = replace(node, most=6, on_limit="return", always=True, waits=(0,))
    assert changes(plan_of(node), plan_of(changed)) == [
        "poll: always was off, is on (g.py:9)",
        "poll: most was 5, is 6 (g.py:9)",
        "poll: on_limit was fail, is return (g.py:9)",
        "poll: after is new: first (g.py:9)",
    ]
    shell = replace(TASK, work=Shell(("make",)), options={"a": 1})
    first, second = changes(plan_of(task=TASK), plan_of(task=shell))
    assert first.startswith('first: function was m:t, is {"type":"shell","argv":["make"]')
    assert second == "first: options.a was unset, is 1 (g.py:8)"


def test_values_are_compared_by_what_they_are() -> None:
    def with_value(value: Const | Gather | FromParam) -> Plan:
        args = (Arg("x", value),)
        return plan_of(PlanNode(position=1, name="n", kind="task", task=0, args=args))

    nan = with_value(Const(float("nan")))
    assert changes(nan, with_value(Const(float("nan")))) == []
    live = with_value(Const(Compound("list", (Live(object()),))))
    assert changes(live, with_value(Const(Compound("list", (Live(object()),))))) == []
    long = with_value(Const("a" * 90 + "b"))
    (text,) = changes(long, with_value(Const("a" * 90 + "c")))
    assert ", is another 'aaa" in text
    gathered = with_value(Gather("list", (FromNode(0), Const(1))))
    assert changes(gathered, with_value(Gather("list", (FromNode(0), Const(1))))) == []
    assert len(changes(gathered, with_value(Gather("tuple", (FromNode(0), Const(1)))))) == 1
    nothing = plan_of(PlanNode(position=1, name="n", kind="task", task=0))
    assert changes(nothing, nan) == ["n: argument x is new: nan"]


def test_another_form_is_said_where_nothing_else_is() -> None:
    old, new = plan_of(), plan_of()
    new.fingerprint = "0"
    (text,) = changes(old, new)
    assert text.startswith("the graph: the form of its plan changed")


def test_a_shared_body_is_told_once_and_any_depth_ends() -> None:
    def nested(leaf: str) -> Plan:
        body = Fragment(name="b", nodes=(PlanNode(position=0, name=leaf, kind="task", task=0),))
        for _ in range(300):
            pair = tuple(
                PlanNode(position=at, name=f"n{at}", kind="subgraph", body=body) for at in (0, 1)
            )
            body = Fragment(name="b", nodes=pair)
        return Plan("g", body, (TASK,), leaf)

    found = diff_plans(nested("a"), nested("b"))
    assert [change.kind for change in found] == ["removed", "added"]
    assert found[0].node.count("/") == 300


@given(plans(), plans())
def test_equal_plans_have_no_changes_and_others_have_some(one: Plan, two: Plan) -> None:
    again = load_plan(dump_plan(one))
    assert diff_plans(one, again) == ()
    if one.fingerprint != two.fingerprint:
        assert diff_plans(one, two) != ()
