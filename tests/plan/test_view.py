"""The view of a plan: names and JSON types only."""

from __future__ import annotations

import json

from hypothesis import given

from onready.engine.names import Location
from onready.engine.options import Resources, RetryPolicy
from onready.engine.plan.model import (
    Arg,
    Const,
    Fragment,
    FromNode,
    FromParam,
    FromProvided,
    Gather,
    ParamSpec,
    Plan,
    PlanNode,
    Step,
    TaskSpec,
)
from onready.engine.plan.shape import literal
from onready.engine.plan.view import view
from onready.engine.spi import Call, Shell
from onready.engine.values.stored import Compound, Encoded, Live
from tests.strategies import plans

LOAD = TaskSpec(name="load", work=Call("mod:load"), backend="thread")
MAKE = TaskSpec(
    name="make",
    work=Shell(("make", "{target}")),
    backend="process",
    retry=RetryPolicy(3),
    timeout=60.0,
    resources=Resources(cpu=2),
)


def sample() -> Plan:
    body = Fragment(
        name="fold",
        params=(ParamSpec("row"),),
        nodes=(PlanNode(position=0, name="fit", kind="task", task=0),),
        result=FromNode(0),
    )
    nodes = (
        PlanNode(position=0, name="load", kind="task", task=0, where="g.py:3"),
        PlanNode(
            position=1,
            name="fold",
            kind="map",
            args=(Arg("row", FromNode(0, (Step("rows"), Step("first", attribute=True))), True),),
            waits=(0,),
            body=body,
            limit=4,
        ),
        PlanNode(
            position=2,
            name="make",
            kind="task",
            task=1,
            args=(Arg("target", FromParam("url")),),
            waits=(0, 1),
            always=True,
        ),
    )
    params = (ParamSpec("url", type="str"), ParamSpec("n", False, 3, "int"))
    root = Fragment(name="g", params=params, nodes=nodes, result=Gather("tuple", (FromNode(2),)))
    return Plan("g", root, (LOAD, MAKE), "ab" * 32, location=Location("g.py", 1), timeout=5.0)


def test_the_whole_view() -> None:
    load = {"name": "load", "backend": "thread", "function": "mod:load"}
    assert view(sample()) == {
        "version": 1,
        "graph": "g",
        "fingerprint": "ab" * 32,
        "where": "g.py:1",
        "on_error": "stop",
        "timeout": 5.0,
        "nodes_total": 4,
        "parameters": [
            {"name": "url", "required": True, "type": "str"},
            {"name": "n", "required": False, "type": "int", "default": "3"},
        ],
        "nodes": [
            {
                "name": "load",
                "kind": "task",
                "where": "g.py:3",
                "needs": [],
                "after": [],
                "arguments": {},
                "task": load,
            },
            {
                "name": "fold",
                "kind": "map",
                "where": "",
                "needs": ["load"],
                "after": [],
                "arguments": {"row": "each(load['rows'].first)"},
                "limit": 4,
                "body": {
                    "graph": "fold",
                    "parameters": [{"name": "row", "required": True, "type": ""}],
                    "nodes": [
                        {
                            "name": "fit",
                            "kind": "task",
                            "where": "",
                            "needs": [],
                            "after": [],
                            "arguments": {},
                            "task": load,
                        }
                    ],
                    "result": "fit",
                },
            },
            {
                "name": "make",
                "kind": "task",
                "where": "",
                "needs": [],
                "after": ["load", "fold"],
                "arguments": {"target": "url"},
                "always": True,
                "task": {
                    "name": "make",
                    "backend": "process",
                    "command": ["make", "{target}"],
                    "retry": {
                        "limit": 3,
                        "backoff": 0.0,
                        "factor": 2.0,
                        "jitter": False,
                        "max_delay": 300.0,
                        "kinds": [],
                        "types": [],
                    },
                    "timeout": 60.0,
                    "resources": {"cpu": 2.0, "memory": "", "gpu": 0},
                },
            },
        ],
        "result": "(make,)",
    }


@given(plans())
def test_any_view_is_json(plan: Plan) -> None:
    shown = view(plan)
    assert json.loads(json.dumps(shown, allow_nan=False)) == shown


def test_values_are_shown_as_people_write_them() -> None:
    inner = Compound("dict", (1, Compound("list", ("a",))), ("x", "y"))
    assert literal(inner) == "{'x': 1, 'y': ['a']}"
    assert literal(Encoded("json", b'{"a": 1}', None, 8)) == '{"a": 1}'
    assert literal(Encoded("numpy", None, "ab" * 32, 99_000)) == "<numpy, 99000 bytes>"
    assert literal(Live({1})) == "<set>"
    assert literal("x" * 99) == "'" + "x" * 56 + "..."


def test_provided_and_constants_are_shown() -> None:
    args = (Arg("db", FromProvided("db")), Arg("n", Gather("dict", (Const(1),), ("k",))))
    nodes = (PlanNode(position=0, name="a", kind="task", task=0, args=args),)
    shown = view(Plan("g", Fragment(name="g", nodes=nodes), (LOAD,), "f"))
    found = shown["nodes"]
    assert isinstance(found, list)
    assert found[0]["arguments"] == {"db": "<provided db>", "n": "{'k': 1}"}
