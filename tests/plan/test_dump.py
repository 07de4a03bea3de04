"""Plans survive the way to JSON and back; what cannot be read is refused in clear words."""

from __future__ import annotations

import json
import math
import struct

import msgspec
import pytest
from hypothesis import given

from onready.engine.errors import NoCodec, StoreError
from onready.engine.plan.dump import PLAN_FORMAT, dump_plan, load_plan
from onready.engine.plan.fingerprint import fingerprint
from onready.engine.plan.model import (
    Arg,
    Binding,
    Const,
    Fragment,
    Gather,
    ParamSpec,
    Plan,
    PlanNode,
    TaskSpec,
)
from onready.engine.spi import Call
from onready.engine.values.stored import Compound, Live
from tests.strategies import plans

TASK = TaskSpec(name="load", work=Call("mod:load"), backend="inline")


def plan_of(value: Binding) -> Plan:
    node = PlanNode(
        position=0, name="n", kind="task", task=0, args=(Arg("x", value),), where="g.py:7"
    )
    return Plan("g", Fragment(name="g", nodes=(node,)), (TASK,), "f" * 64)


def value_of(plan: Plan) -> object:
    return plan.root.nodes[0].args[0].value


@given(plans())
def test_a_plan_comes_back_as_it_was(plan: Plan) -> None:
    loaded = load_plan(dump_plan(plan))
    # By their text: nan does not equal itself, and 1 equals True.
    assert repr(loaded.root) == repr(plan.root)
    assert loaded.tasks == plan.tasks
    assert (loaded.name, loaded.fingerprint, loaded.on_error, loaded.timeout, loaded.location) == (
        plan.name,
        plan.fingerprint,
        plan.on_error,
        plan.timeout,
        plan.location,
    )
    assert loaded.runtimes == ()


@given(plans())
def test_the_document_is_standard_json(plan: Plan) -> None:
    def refuse(text: str) -> object:
        message = f"{text} is not JSON"
        raise AssertionError(message)

    assert json.loads(dump_plan(plan), parse_constant=refuse)["format"] == PLAN_FORMAT


@pytest.mark.parametrize("number", [math.inf, -math.inf])
def test_infinities_survive(number: float) -> None:
    assert value_of(load_plan(dump_plan(plan_of(Const(number))))) == Const(number)


@pytest.mark.parametrize("bits", ["7ff8000000000000", "fff8000000000000", "7ff8000000000001"])
def test_every_nan_keeps_its_bits_and_so_its_fingerprint(bits: str) -> None:
    plan = plan_of(Const(struct.unpack(">d", bytes.fromhex(bits))[0]))
    loaded = load_plan(dump_plan(plan))
    found = value_of(loaded)
    assert isinstance(found, Const)
    assert isinstance(found.value, float)
    assert struct.pack(">d", found.value).hex() == bits
    assert fingerprint(loaded.root, loaded.tasks) == fingerprint(plan.root, plan.tasks)


def test_a_float_of_another_length_is_refused() -> None:
    document = json.loads(dump_plan(plan_of(Const(math.inf))))
    value = document["fragments"][0]["nodes"][0]["args"][0]["value"]["value"]
    value[2] = "aW5m"
    with pytest.raises(StoreError, match="not a plan"):
        load_plan(json.dumps(document).encode())


def test_infinities_survive_wherever_a_constant_may_be() -> None:
    held = Compound("list", (1.5, math.inf))
    plan = plan_of(Gather("list", (Const(1), Const(held))))
    root = msgspec.structs.replace(
        plan.root, params=(ParamSpec("p", False, -math.inf),), result=Const(math.inf)
    )
    loaded = load_plan(dump_plan(Plan("g", root, (TASK,), "f")))
    assert loaded.root == root


def test_a_shared_body_stays_shared() -> None:
    body = Fragment(name="body", nodes=(PlanNode(position=0, name="in", kind="task", task=0),))
    nodes = tuple(
        PlanNode(position=at, name=f"s{at}", kind="subgraph", body=body) for at in range(2)
    )
    loaded = load_plan(dump_plan(Plan("g", Fragment(name="g", nodes=nodes), (TASK,), "f")))
    assert loaded.root.nodes[0].body is loaded.root.nodes[1].body
    assert loaded.root.nodes[0].body == body


def test_a_live_constant_is_refused_with_its_node() -> None:
    with pytest.raises(NoCodec, match=r"g\.py:7: node n: a constant of type set .*Provided"):
        dump_plan(plan_of(Gather("list", (Const(Live({1})),))))


def test_a_newer_format_is_refused_and_says_what_to_do() -> None:
    document = json.loads(dump_plan(plan_of(Const(1))))
    document["format"] = PLAN_FORMAT + 1
    document["tasks"] = "of another shape"
    with pytest.raises(StoreError, match=rf"format {PLAN_FORMAT + 1}.*upgrade onready"):
        load_plan(json.dumps(document).encode())


def test_a_field_of_a_later_minor_version_is_no_obstacle() -> None:
    document = json.loads(dump_plan(plan_of(Const(1))))
    document["comment"] = "added later, with a default"
    assert value_of(load_plan(json.dumps(document).encode())) == Const(1)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b'{"format": 1}', b'{"format": "x"}'])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(StoreError, match="not a plan"):
        load_plan(data)


@pytest.mark.parametrize(
    ("field", "value"),
    [("bodies", []), ("bodies", [[[0, 5]]]), ("bodies", [[[5, 0]]]), ("fragments", [])],
)
def test_a_document_that_contradicts_itself_is_refused(field: str, value: object) -> None:
    document = json.loads(dump_plan(plan_of(Const(1))))
    document[field] = value
    with pytest.raises(StoreError, match="not a plan"):
        load_plan(json.dumps(document).encode())


def test_every_torn_document_is_refused() -> None:
    data = dump_plan(plan_of(Const(1)))
    for length in range(len(data)):
        with pytest.raises(StoreError):
            load_plan(data[:length])
