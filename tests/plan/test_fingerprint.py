"""The fingerprint changes with every field that means something, and with nothing else."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest
from hypothesis import given

from onready.engine.options import Resources, RetryPolicy
from onready.engine.plan.dump import dump_plan, load_plan
from onready.engine.plan.fingerprint import fingerprint
from onready.engine.plan.model import (
    Arg,
    Arm,
    Binding,
    Const,
    Fragment,
    FromNode,
    FromParam,
    FromProvided,
    Gather,
    NodeKind,
    ParamSpec,
    Plan,
    PlanNode,
    Step,
    TaskSpec,
)
from onready.engine.spi import Call, Shell
from onready.engine.values.stored import Live
from tests.strategies import plans

BODY = Fragment(name="body", nodes=(PlanNode(position=0, name="inner", kind="task", task=0),))
NODE = PlanNode(position=0, name="load", kind="task", task=0)
TASK = TaskSpec(name="load", work=Call("mod:load"), backend="inline")

NODE_CHANGES: dict[str, object] = {
    "position": 1,
    "name": "other",
    "kind": "map",
    "args": (Arg("x", Const(1)),),
    "waits": (0,),
    "feeds": (0,),
    "task": None,
    "body": BODY,
    "limit": 3,
    "always": True,
    "arms": (Arm(name="then", body=BODY),),
    "most": 3,
    "on_limit": "return",
    "needs": (0,),
    "cleans": (0,),
    "tolerant": True,
}
ARM = Arm(name="then", body=BODY)
ARM_CHANGES: dict[str, object] = {
    "name": "otherwise",
    "body": Fragment(name="other"),
    "args": (Arg("x", Const(1)),),
    "key": "a",
}
TASK_CHANGES: dict[str, object] = {
    "name": "other",
    "work": Call("mod:other"),
    "backend": "process",
    "is_async": True,
    "retry": RetryPolicy(1),
    "timeout": 1.0,
    "node_timeout": 1.0,
    "pool": "gpu",
    "limit": 2,
    "resources": Resources(cpu=1),
    "options": {"image": "x"},
    "codec": "pickle",
    "source": "abc",
    "params": ("a",),
    "cache": "1",
}
FRAGMENT_CHANGES: dict[str, object] = {
    "name": "other",
    "params": (ParamSpec("a"),),
    "nodes": (),
    "result": FromNode(0),
}
VALUES: list[Binding] = [
    Const(None),
    Const(1),
    Const(1.0),
    Const(value=True),
    Const("1"),
    Const(-0.0),
    Const(0.0),
    FromNode(0),
    FromNode(1),
    FromNode(0, (Step("k"),)),
    FromNode(0, (Step("k", attribute=True),)),
    FromNode(0, (Step(0),)),
    FromNode(0, (Step("0"),)),
    FromParam("0"),
    FromProvided("0"),
    Gather("list", (Const(1), Const(2))),
    Gather("tuple", (Const(1), Const(2))),
    Gather("list", (Gather("list", (Const(1),)), Const(2))),
    Gather("dict", (Const(1),), ("a",)),
    Gather("dict", (Const(1),), ("b",)),
]


def of(node: PlanNode = NODE, task: TaskSpec = TASK) -> str:
    return fingerprint(Fragment(name="g", nodes=(node,)), (task,))


def test_the_tables_below_name_every_field() -> None:
    assert {*NODE_CHANGES, "where"} == set(PlanNode.__struct_fields__)
    assert set(ARM_CHANGES) == set(Arm.__struct_fields__)
    assert set(TASK_CHANGES) == set(TaskSpec.__struct_fields__)
    assert set(FRAGMENT_CHANGES) == set(Fragment.__struct_fields__)


@pytest.mark.parametrize("field", NODE_CHANGES)
def test_a_node_field_counts(field: str) -> None:
    assert of(msgspec.structs.replace(NODE, **{field: NODE_CHANGES[field]})) != of()


def with_arm(arm: Arm) -> str:
    return of(msgspec.structs.replace(NODE, arms=(arm,)))


@pytest.mark.parametrize("field", ARM_CHANGES)
def test_an_arm_field_counts(field: str) -> None:
    changed = msgspec.structs.replace(ARM, **{field: ARM_CHANGES[field]})
    assert with_arm(changed) != with_arm(ARM)


def test_the_type_of_a_key_counts() -> None:
    keys: list[str | int | bool | None] = [None, 1, True, "1", 0, False]
    found = {with_arm(msgspec.structs.replace(ARM, key=key)) for key in keys}
    assert len(found) == len(keys)


@pytest.mark.parametrize("field", TASK_CHANGES)
def test_a_task_field_counts(field: str) -> None:
    assert of(task=msgspec.structs.replace(TASK, **{field: TASK_CHANGES[field]})) != of()


@pytest.mark.parametrize("field", FRAGMENT_CHANGES)
@pytest.mark.parametrize("nested", [False, True])
def test_a_fragment_field_counts_at_any_depth(field: str, nested: bool) -> None:
    def whole(fragment: Fragment) -> str:
        outer = PlanNode(position=0, name="sub", kind="subgraph", body=fragment)
        return fingerprint(Fragment(name="g", nodes=(outer,)) if nested else fragment, (TASK,))

    changed = msgspec.structs.replace(BODY, **{field: FRAGMENT_CHANGES[field]})
    assert whole(changed) != whole(BODY)


def test_values_that_compare_equal_but_differ_count() -> None:
    found = [of(msgspec.structs.replace(NODE, args=(Arg("x", value),))) for value in VALUES]
    assert len(set(found)) == len(VALUES)


def test_shell_and_call_of_the_same_text_differ() -> None:
    assert of(task=msgspec.structs.replace(TASK, work=Shell(("mod:load",)))) != of()


def test_the_line_of_a_call_does_not_count() -> None:
    assert of(msgspec.structs.replace(NODE, where="a.py:1")) == of()


def test_the_order_of_options_does_not_count() -> None:
    one = msgspec.structs.replace(TASK, options={"a": 1, "b": 2})
    two = msgspec.structs.replace(TASK, options={"b": 2, "a": 1})
    assert of(task=one) == of(task=two)


def test_live_constants_count_by_class() -> None:
    def live(value: object) -> str:
        return of(msgspec.structs.replace(NODE, args=(Arg("x", Const(Live(value))),)))

    assert live(object()) == live(object())
    assert live(object()) != live({1})


def test_what_no_plan_holds_is_refused() -> None:
    strange = msgspec.structs.replace(TASK, options={"x": object()})
    with pytest.raises(TypeError, match="plans hold no object"):
        of(task=strange)


def test_a_shared_body_counts_as_an_equal_one() -> None:
    def pair(one: Fragment, two: Fragment) -> str:
        nodes = (
            PlanNode(position=0, name="a", kind="subgraph", body=one),
            PlanNode(position=1, name="b", kind="subgraph", body=two),
        )
        return fingerprint(Fragment(name="g", nodes=nodes), (TASK,))

    assert pair(BODY, BODY) == pair(BODY, msgspec.structs.replace(BODY))


@pytest.mark.parametrize("kind", ["subgraph", "branch"])
def test_depth_needs_no_recursion(kind: NodeKind) -> None:
    fragment = BODY
    for _ in range(5_000):
        arms = (Arm(name="then", body=fragment), Arm(name="otherwise", body=BODY))
        outer = PlanNode(
            position=0,
            name="sub",
            kind=kind,
            body=fragment if kind == "subgraph" else None,
            arms=arms if kind == "branch" else (),
        )
        fragment = Fragment(name="g", nodes=(outer,))
    assert len(fingerprint(fragment, (TASK,))) == 64
    plan = Plan("deep", fragment, (TASK,), "x")
    assert fingerprint(load_plan(dump_plan(plan)).root, (TASK,)) == fingerprint(fragment, (TASK,))


@given(plans())
def test_it_is_the_same_after_a_round_trip(plan: Plan) -> None:
    loaded = load_plan(dump_plan(plan))
    assert fingerprint(loaded.root, loaded.tasks) == plan.fingerprint


def test_it_is_the_same_in_another_process() -> None:
    plan = Plan("g", Fragment(name="g", nodes=(NODE,)), (TASK,), of())
    program = (
        "import sys\n"
        "from onready.engine.plan.dump import load_plan\n"
        "from onready.engine.plan.fingerprint import fingerprint\n"
        "plan = load_plan(sys.stdin.buffer.read())\n"
        "print(fingerprint(plan.root, plan.tasks))\n"
    )
    for seed in ("0", "1"):
        answer = subprocess.run(
            [sys.executable, "-c", program],
            input=dump_plan(plan),
            capture_output=True,
            check=True,
            timeout=60,
            env={"PYTHONHASHSEED": seed},
        )
        assert answer.stdout.decode().strip() == of()
