"""A plan from JSON gets its functions back by their references."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from onready.engine.errors import GraphError
from onready.engine.plan.dump import dump_plan, load_plan
from onready.engine.plan.link import link
from onready.engine.plan.model import Fragment, Plan, TaskSpec
from onready.engine.spi import Call, Shell

SOURCE = """
from __future__ import annotations
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    from nowhere import Unknown

def typed(x: int, y: list[str]) -> float:
    return float(x)

def plain(x):
    return x

def unknown(x: Unknown) -> Unknown:
    return x

class Holder:
    @staticmethod
    def inner() -> None:
        return None
"""


def spec(reference: str) -> TaskSpec:
    return TaskSpec(name="t", work=Call(reference), backend="thread")


def linked(*references: str) -> Plan:
    plan = Plan("g", Fragment(name="g"), tuple(map(spec, references)), "f")
    return link(load_plan(dump_plan(plan)))


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    name = f"linked_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    return name


def test_functions_and_annotations_come_back(module: str) -> None:
    typed, plain = linked(f"{module}:typed", f"{module}:plain").runtimes
    assert typed.function is not None
    assert typed.function(3, []) == 3.0
    assert (typed.accepts, typed.returns, typed.typed_return) == (
        {"x": int, "y": list[str]},
        float,
        True,
    )
    assert (plain.accepts, plain.returns, plain.typed_return) == (
        {},
        inspect.Signature.empty,
        False,
    )


def test_a_return_of_none_is_typed(module: str) -> None:
    (runtime,) = linked(f"{module}:Holder.inner").runtimes
    assert (runtime.returns, runtime.typed_return) == (type(None), True)


def test_names_that_only_checkers_know_mean_any(module: str) -> None:
    (runtime,) = linked(f"{module}:unknown").runtimes
    assert (runtime.accepts, runtime.typed_return) == ({}, False)


def test_one_reference_is_one_runtime(module: str) -> None:
    one, two = linked(f"{module}:plain", f"{module}:plain").runtimes
    assert one is two


def test_a_file_is_a_reference(tmp_path: Path) -> None:
    file = tmp_path / "graphs.py"
    file.write_text(SOURCE)
    (runtime,) = linked(f"{file}:plain").runtimes
    assert runtime.function is not None
    assert runtime.function(5) == 5


def test_programs_have_no_function() -> None:
    task = TaskSpec(name="t", work=Shell(("true",)), backend="process")
    (runtime,) = link(Plan("g", Fragment(name="g"), (task,), "f")).runtimes
    assert runtime.function is None


@pytest.mark.parametrize(
    ("end", "words"), [(":gone", "has no 'gone'"), ("_x:plain", "no module named")]
)
def test_a_dead_reference_is_a_graph_error(module: str, end: str, words: str) -> None:
    with pytest.raises(GraphError, match=words):
        linked(f"{module}{end}")


def test_the_plan_that_was_given_is_left_alone(module: str) -> None:
    plan = Plan("g", Fragment(name="g"), (spec(f"{module}:plain"),), "f")
    assert len(link(plan).runtimes) == 1
    assert plan.runtimes == ()
