"""Compilation: runtimes, references, provided objects, backends, and plans that are kept."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest

from onready.engine.errors import InputError
from onready.engine.graph import GraphBuilder, Provided, each, graph, task
from onready.engine.loading import load, load_file
from onready.engine.plan.compile import compile_plan
from onready.engine.plan.dump import dump_plan, load_plan
from onready.engine.plan.inputs import read_inputs
from onready.engine.plan.model import Arg, Const, FromParam, FromProvided
from onready.engine.plan.sources import reference_of, source_hash
from onready.engine.spi import Call, Capabilities
from onready.engine.values import ValueType
from onready.engine.values.stored import Compound, Encoded, Live
from tests.graph.defs import (
    BACKENDS,
    Model,
    anything,
    aware,
    clean,
    heavy,
    inc,
    plan_of,
    query,
    refused,
    train,
)
from tests.graph.defs import (
    load as load_task,
)


def reference(plan: Any, position: int = 0) -> str:
    return cast("Call", plan.tasks[position].work).reference


# --- tasks --------------------------------------------------------------------------------------


def test_runtimes_stand_beside_their_tasks() -> None:
    plan = plan_of(train.bind([1]))
    (runtime,) = plan.runtimes
    assert runtime.function is train.fn
    assert runtime.accepts == {"data": list[int], "alpha": float}
    assert (runtime.returns, runtime.typed_return) == (Model, True)


def test_annotations_that_do_not_resolve_take_any_value() -> None:
    class Local: ...

    @task
    def vague(x: Local, y: int) -> Local:
        return x

    @graph
    def main() -> object:
        return vague(vague(Local(), 1), 2)

    (runtime,) = plan_of(main.bind()).runtimes
    assert runtime.accepts == {"y": int}
    assert not runtime.typed_return


def test_none_is_a_typed_return() -> None:
    @task
    def silent() -> None: ...

    (runtime,) = plan_of(silent.bind()).runtimes
    assert (runtime.returns, runtime.typed_return) == (type(None), True)


def test_result_type_and_param_types() -> None:
    @graph
    def main(xs: list[int], free, names: dict[str, str] | None = None) -> list[Model]:  # type: ignore[no-untyped-def] # noqa: ANN001 - un-annotated on purpose
        return train.map(xs, each([0.1]))

    plan = plan_of(cast("Any", main).bind([1], 2))
    assert plan.param_types == {"xs": list[int], "names": dict[str, str] | None}
    assert plan.result_type == list[Model]
    assert [p.type for p in plan.root.params] == ["list[int]", "", "dict[str, str] | None"]


def test_the_result_is_checked_against_the_graphs_annotation() -> None:
    @graph
    def wrong() -> str:
        return cast("str", inc(1))

    with refused("G005", "the result of inc is int, but the result of wrong is str"):
        plan_of(wrong.bind())

    @graph
    def forgotten() -> int:  # type: ignore[return] # the fault that is tested
        inc(1)

    with refused("G005", "the result of forgotten cannot take None"):
        forgotten.bind().graph  # noqa: B018 - traces


# --- references ---------------------------------------------------------------------------------


def test_references_find_their_functions() -> None:
    found = reference(plan_of(heavy.bind(1)))
    assert found == "tests.graph.defs:heavy"
    assert load(found) is heavy.fn


def test_a_file_loaded_by_path_is_named_by_its_path(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from onready.engine.graph import task\n"
        "@task(backend='process')\n"
        "def double(x: int) -> int:\n"
        "    return 2 * x\n"
    )
    double = cast("Any", load_file(file)).double
    found = reference(plan_of(double.bind(1)))
    assert found == f"{file}:double"
    assert load(found) is double.fn


SCRIPT = """
from onready.engine.graph import task
from onready.engine.plan.compile import compile_plan
from onready.engine.spi import Capabilities

@task
def double(x: int) -> int:
    return 2 * x

if __name__ == "__main__":
    plan = compile_plan(double.bind(1), backends={"process": Capabilities()}, backend="process")
    print(plan.tasks[0].work.reference)
"""


@pytest.mark.parametrize("way", ["script", "module"])
def test_scripts_are_named_so_that_others_find_them(way: str, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(SCRIPT)
    argv = [sys.executable, "mine.py"] if way == "script" else [sys.executable, "-m", "mine"]
    done = subprocess.run(
        argv, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == (f"{file}:double" if way == "script" else "mine:double")


def test_what_has_no_reference() -> None:
    assert reference_of(lambda: None) is None
    assert reference_of(len) is None
    made: dict[str, Any] = {"__name__": "nowhere"}
    exec("def lost(): return 1", made)  # noqa: S102 - a function of no module
    assert reference_of(made["lost"]) is None


def test_a_name_that_is_taken_by_something_else() -> None:
    imposter = task(backend="process")(lambda x: x)
    imposter.function.fn.__qualname__ = "inc"
    imposter.function.fn.__module__ = "tests.graph.defs"
    with refused("G052", "tests.graph.defs:inc is not that function"):
        plan_of(cast("Any", imposter).bind(1))


def test_source_hashes_follow_the_source(tmp_path: Path) -> None:
    def module(name: str, text: str) -> Any:
        file = tmp_path / f"{name}.py"
        file.write_text(text)
        return load_file(file)

    first = module("a", "def f(x):\n    return x\n\ndef g(): return 1\n")
    moved = module("b", "\n\n# moved\ndef f(x):\n    return x\n")
    changed = module("c", "def f(x):\n    return x + 1\n")
    assert len(source_hash(first.f)) == 32
    assert source_hash(first.f) == source_hash(moved.f)
    assert source_hash(first.f) != source_hash(changed.f)
    assert source_hash(first.f) != source_hash(first.g)


def test_source_hash_without_lines() -> None:
    def made(text: str) -> Any:
        names: dict[str, Any] = {}
        exec(compile(text, "<made>", "exec"), names)  # noqa: S102 - code without a file
        return names["f"]

    one = "def f(x): return [y for y in x if y in {'a', 'b', 'c'}]"
    assert source_hash(made(one)) == source_hash(made(one))
    assert source_hash(made(one)) != source_hash(made(one.replace("'a'", "'d'")))
    assert source_hash(len) == ""


# --- provided -----------------------------------------------------------------------------------


def test_provided_objects_are_arguments() -> None:
    node = plan_of(query.bind("select 1"), provided=["db"]).root.nodes[0]
    assert node.args == (Arg("sql", FromParam("sql")), Arg("db", FromProvided("db")))
    assert plan_of(query.bind("select 1")).root.nodes[0] == node


def test_a_value_in_place_of_what_is_provided() -> None:
    @graph
    def main() -> object:
        return query.with_options(backend="process")("select 1", db=3)

    node = plan_of(main.bind(), provided=[]).root.nodes[0]
    assert node.args == (Arg("sql", Const("select 1")), Arg("db", Const(3)))
    assert [p.name for p in plan_of(query.bind("x", db=3), provided=[]).root.params] == [
        "sql",
        "db",
    ]


def test_the_context_is_on_every_backend() -> None:
    plan = plan_of(aware.with_options(backend="process").bind(1), provided=[])
    assert plan.root.nodes[0].args[1] == Arg("context", FromProvided("NodeContext"))


def test_names_that_cannot_be_provided() -> None:
    for what in ("NodeContext", "a b", "", int):
        with refused("G042"):
            Provided(cast("Any", what))


# --- backends -----------------------------------------------------------------------------------


def test_override_of_the_backend() -> None:
    @graph
    def main() -> object:
        inc(1)
        heavy(2)
        return load_task("u")

    plan = plan_of(main.bind(), backend="thread")
    assert [spec.backend for spec in plan.tasks] == ["thread"] * 3
    with refused("G050", "there is no backend 'slurm'"):
        plan_of(main.bind(), backend="slurm")


def test_no_backend_can() -> None:
    with refused("G051", "'shell-only' runs no Python functions", "No backend here can."):
        compile_plan(
            inc.bind(1),
            backends={"shell-only": Capabilities(python=False, shell=True)},
            backend="shell-only",
        )


def test_plans_are_kept_per_backends_and_options() -> None:
    @graph
    def main() -> object:
        return inc(1)

    bound = main.bind()
    plan = plan_of(bound)
    assert plan_of(main.bind()) is plan
    assert plan_of(bound, provided=["db"]) is not plan
    assert plan_of(bound, backend="process") is not plan
    assert plan_of(bound, on_error="cancel") is not plan
    fewer = {"thread": BACKENDS["thread"]}
    assert compile_plan(bound, backends=fewer) is not plan
    for index in range(20):
        plan_of(bound, provided=[f"p{index}"])
    assert len(bound.graph.plans) <= 8
    assert plan_of(bound).fingerprint == plan.fingerprint


def test_plans_go_to_json_and_back() -> None:
    @graph
    def inner(x: int, y: list[int]) -> object:
        return {"a": inc(x), "b": y}

    @graph
    def main(xs: list[int] = [1, 2]) -> object:
        first = inner.map(each(xs), [1])
        return anything(cast("Any", first)[0]["a"], y={"k": [clean([1]), None]})

    plan = plan_of(main.bind())
    again = load_plan(dump_plan(plan))
    assert (again.root, again.tasks, again.fingerprint) == (plan.root, plan.tasks, plan.fingerprint)


def test_refs_are_no_inputs_of_a_run() -> None:
    kept: list[Any] = []

    @graph
    def main() -> object:
        kept.append(inc.bind(inc(1)))
        return None

    main.bind().graph  # noqa: B018 - traces
    with refused("G014", "inc is run with the result of inc as its input 'x'"):
        plan_of(kept[0])


def test_live_constants() -> None:
    live = object()

    @graph
    def main() -> object:
        return anything(live)

    value = plan_of(main.bind()).root.nodes[0].args[0].value
    assert isinstance(value, Const)
    assert isinstance(value.value, Live)
    assert value.value.value is live


# --- inputs -------------------------------------------------------------------------------------


@graph
def whole(count: int, names: list[str], scale: float = 0.5, free: Any = None) -> object:
    return anything(count, y=[names, scale, free])


def test_inputs_are_read_by_their_annotations() -> None:
    plan = plan_of(whole.bind(1, ["a"]))
    stored = read_inputs(plan, {"names": ["a"], "count": 3})
    assert list(stored) == ["count", "names", "scale", "free"]
    assert (stored["count"], stored["scale"], stored["free"]) == (3, 0.5, None)
    assert isinstance(stored["names"], Encoded | Compound)
    assert ValueType.of(list[str]).decode(stored["names"]) == ["a"]


def test_all_problems_of_inputs_at_once() -> None:
    plan = plan_of(whole.bind(1, ["a"]))
    with pytest.raises(InputError) as caught:
        read_inputs(plan, {"cuont": 1, "scale": "no"})
    text = str(caught.value)
    assert text.startswith("inputs of whole: no input 'cuont'. Did you mean 'count'?")
    assert "count (int) is missing" in text
    assert "names (list[str]) is missing" in text
    assert "scale: " in text


def test_live_inputs() -> None:
    live = object()
    stored = read_inputs(plan_of(whole.bind(1, [])), {"count": 1, "names": [], "free": live})
    kept = stored["free"]
    assert isinstance(kept, Live)
    assert kept.value is live


def test_inputs_of_a_builder() -> None:
    g = GraphBuilder()
    x = g.param("x", int)
    bound = g.build(g.add(inc, x))
    with pytest.raises(InputError, match=r"x \(int\) is missing"):
        read_inputs(plan_of(bound), bound.inputs)


@pytest.mark.anyio
async def test_compiling_in_a_loop_does_not_block() -> None:
    """The watch of conftest is on while this runs."""

    @graph
    def main() -> object:
        return clean(load_task("u"))

    assert len(plan_of(main.bind()).tasks) == 2
