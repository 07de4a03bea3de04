"""Functions as tasks and graphs: signatures, annotations, odd callables; and small print."""

from __future__ import annotations

import importlib.machinery
import threading
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from onready.engine.graph import Provided, graph, shell, task
from onready.engine.graph.functions import resolve_hints
from onready.engine.plan.model import Arg, Const, FromNode, Gather
from onready.engine.plan.sources import reference_of, source_hash
from onready.engine.values import ValueType
from tests.graph.defs import Model, anything, clean, inc, plan_of, query, refused, train


@dataclass
class Holder:
    inside: object
    names: list[str] = field(default_factory=list)


def test_refs_in_objects_are_refused_and_other_objects_pass() -> None:
    @graph
    def wrong() -> object:
        return anything(Holder(inc(1)))

    with refused("G015", "the result of inc is inside a Holder"):
        wrong.bind().graph  # noqa: B018 - traces

    @graph
    def right() -> object:
        return anything(Holder(1), y=frozenset({2}))

    first, second = plan_of(right.bind()).root.nodes[0].args
    assert ValueType.any().decode(cast("Const", first.value).value) == Holder(1)
    assert ValueType.any().decode(cast("Const", second.value).value) == frozenset({2})


def test_constants_beside_refs_are_checked_by_their_place() -> None:
    @graph
    def wrong() -> object:
        return clean([inc(1), cast("Any", "no")])

    with refused("G005", "clean(raw) cannot take 'no'"):
        wrong.bind().graph  # noqa: B018 - traces

    @graph
    def unknown() -> object:
        return train(cast("Any", {"a": inc(1), "b": 2}))

    assert plan_of(unknown.bind()).root.nodes[1].args == (
        Arg("data", Gather("dict", (FromNode(0), Const(2)), ("a", "b"))),
    )


def test_dicts_with_refs_have_text_keys() -> None:
    @graph
    def wrong() -> object:
        return anything({1: inc(1)})

    with refused("G015", "keys that are no texts"):
        wrong.bind().graph  # noqa: B018 - traces


def test_constants_of_every_size() -> None:
    values = [2**63, -(2**63), "x" * 5000, "é", True, None, 1.5, [1], {"a": [None]}, b"raw"]

    @graph
    def main() -> None:
        for value in values:
            anything(value)

    nodes = plan_of(main.bind()).root.nodes
    kept = [cast("Const", node.args[0].value).value for node in nodes]
    assert [ValueType.any().decode(value) for value in kept] == values


def test_what_can_be_neither() -> None:
    with refused("G040", "is no function, so it cannot be a graph"):
        graph(dict)
    with refused("G040", "is no function, so it cannot be a task"):
        cast("Any", task)(3)
    with refused("G040", "<task inc> is decorated twice"):
        cast("Any", task)(inc)
    with refused("G021", "'größe' cannot name a task"):

        @task
        def größe() -> None: ...  # noqa: PLC2401 - what is refused

    class Odd:
        __signature__ = "none"

        def __call__(self) -> None: ...

    with refused("G040", "Odd has no signature that can be read"):
        task(Odd())


def test_decorators_with_empty_brackets() -> None:
    @task()
    def one(x: int) -> int:
        return x

    @graph()
    def two(x: int) -> int:
        return one(x)

    assert len(plan_of(two.bind(1)).root.nodes) == 1


def test_annotations_that_refer_to_closures_and_to_nothing() -> None:
    class Local: ...

    later: type

    def uses(x: Local, y: Missing, z: int, w: later) -> Local:  # type: ignore[name-defined,valid-type] # noqa: F821 - the fault
        return Local() if z else later()

    assert resolve_hints(uses) == {"x": Local, "z": int, "return": Local}
    later = int
    assert later is int


def test_partial_signatures_and_no_module() -> None:
    def f() -> int:
        return 1

    f.__module__ = "no.such.module"
    f.__qualname__ = "f"
    assert reference_of(f) is None
    assert len(source_hash(f)) == 32


def test_a_script_without_a_file_has_no_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    import __main__

    def f() -> int:
        return 1

    f.__module__ = "__main__"
    f.__qualname__ = "f"
    monkeypatch.setattr(__main__, "__spec__", None)
    monkeypatch.setattr(__main__, "__file__", "<stdin>", raising=False)
    assert reference_of(f) is None
    monkeypatch.setattr(__main__, "__file__", "/folder/mine.py", raising=False)
    assert reference_of(f) == "/folder/mine.py:f"
    monkeypatch.setattr(__main__, "__spec__", importlib.machinery.ModuleSpec("pkg.mine", None))
    assert reference_of(f) == "pkg.mine:f"


def test_source_that_no_longer_fits_its_file(tmp_path: Any) -> None:
    names: dict[str, Any] = {}
    file = tmp_path / "gone.py"
    file.write_text("x = '''\n")
    exec(compile("def f(): return 1", str(file), "exec"), names)  # noqa: S102 - a changed file
    assert len(source_hash(names["f"])) == 32


def test_provided_shows_itself() -> None:
    assert repr(Provided("db")) == "Provided('db')"
    assert [p.provided for p in query.function.provided] == ["db"]


def test_a_second_thread_waits_for_the_trace() -> None:
    inside = threading.Event()
    waiting = threading.Event()
    calls: list[int] = []

    @graph
    def slow() -> int:
        calls.append(1)
        inside.set()
        assert waiting.wait(timeout=30)
        return inc(1)

    def second() -> None:
        assert inside.wait(timeout=30)
        waiting.set()
        slow.bind().graph  # noqa: B018 - asks for the trace

    other = threading.Thread(target=second)
    other.start()
    slow.bind().graph  # noqa: B018 - traces
    other.join(timeout=30)
    assert calls == [1]


def test_unpacking_what_has_no_such_part() -> None:
    @graph
    def main() -> object:
        a, b = cast("Any", inc(1))["k"]
        return [a, b]

    with refused("G012", "cannot iterate over the result of inc['k']"):
        main.bind().graph  # noqa: B018 - traces


def test_items_of_models() -> None:
    @graph
    def main(model: Model) -> object:
        return shell("echo {a}", inputs={"a": model.alpha})

    assert plan_of(main.bind(Model(1.0))).param_types == {"model": Model}
