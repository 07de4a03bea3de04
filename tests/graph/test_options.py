"""Options: what reaches the plan, and what is refused."""

from __future__ import annotations

from typing import Any, cast

import pytest

from onready.engine.graph import graph, task
from onready.engine.options import Resources, Retry, RetryPolicy
from onready.engine.plan.compile import compile_plan
from onready.engine.plan.model import TaskSpec
from onready.engine.spi import Call, Capabilities
from tests.graph.defs import BACKENDS, heavy, inc, load, plan_of, refused


def spec_of(changed: Any) -> TaskSpec:
    @graph
    def main() -> object:
        return changed(1)

    return plan_of(main.bind()).tasks[0]


def test_all_options_reach_the_plan() -> None:
    resources = Resources(cpu=1, memory="1Gi")
    made = task(
        name="made",
        backend="process",
        retry=Retry(3, backoff=0.5, on=(OSError, "timeout")),
        timeout=5,
        node_timeout=60,
        pool="disk",
        resources=resources,
        codec="pickle",
        options={"queue": "short", "labels": {"b": "2", "a": "1"}, "parts": ["x", "y"]},
    )(heavy.fn)
    assert spec_of(made) == TaskSpec(
        name="made",
        work=Call("tests.graph.defs:heavy", "pickle"),
        backend="process",
        retry=RetryPolicy(3, 0.5, kinds=("timeout",), types=("builtins.OSError",)),
        timeout=5.0,
        node_timeout=60.0,
        pool="disk",
        resources=resources,
        options={"queue": "short", "labels": {"a": "1", "b": "2"}, "parts": ["x", "y"]},
        codec="pickle",
        source=spec_of(heavy).source,
        params=("x",),
    )


def test_with_options_changes_what_is_given_alone() -> None:
    first = inc.with_options(timeout=5, retry=2, pool="a")
    second = first.with_options(timeout=None, backend="process")
    spec = spec_of(second)
    assert (spec.timeout, spec.retry.limit, spec.pool, spec.backend) == (None, 2, "a", "process")
    assert spec_of(first).timeout == 5.0
    assert spec_of(inc).timeout is None
    assert spec_of(first.with_options(retry=0)).retry == RetryPolicy()


def test_defaults_of_backends() -> None:
    assert spec_of(inc).backend == "thread"
    (spec,) = plan_of(load.bind("u")).tasks
    assert spec.backend == "inline"
    assert spec.is_async


BAD: dict[str, list[object]] = {
    "timeout": [0, -1, "5", True, float("nan"), float("inf")],
    "node_timeout": [0, []],
    "retry": [-1, 1.5, True, "2"],
    "backend": ["a b", 3, "1x"],
    "pool": ["a/b", 0],
    "codec": [1, ".."],
    "resources": ["1", {"cpu": 1}],
    "options": ["x", {1: "x"}, {"a": None}, {"a": [1]}, {"a": {"b": 1}}],
    "image": [1, None, ["a"]],
    "limit": [-1, 1.5, True],
}


@pytest.mark.parametrize(
    ("option", "value"), [(option, value) for option, values in BAD.items() for value in values]
)
def test_values_that_cannot_be(option: str, value: object) -> None:
    with refused("G041", " cannot be"):
        cast("Any", inc).with_options(**{option: value})


BOXES = {**BACKENDS, "boxes": Capabilities(image=True, options=frozenset({"image", "queue"}))}


def chosen(changed: Any) -> dict[str, object]:
    """The options that reach a backend which has containers."""
    (spec,) = compile_plan(changed.bind(1), backends=BOXES).tasks
    return dict(spec.options)


def test_an_image_is_an_option_of_the_backend() -> None:
    named = task(backend="boxes", image="a:1", options={"queue": "short"})(heavy.fn)
    assert chosen(named) == {"image": "a:1", "queue": "short"}
    assert chosen(task(backend="boxes", options={"image": "a:1"})(heavy.fn)) == {"image": "a:1"}
    # The one stays when the others change, and the other way round.
    assert chosen(named.with_options(options={"queue": "b"})) == {"image": "a:1", "queue": "b"}
    assert chosen(named.with_options(image="b:2")) == {"image": "b:2", "queue": "short"}
    assert chosen(named.with_options(options={"image": "c:3"})) == {"image": "c:3"}
    assert chosen(named.with_options(image="")) == {"queue": "short"}
    assert chosen(named.with_options(image="a", options={"image": "a"})) == {"image": "a"}
    with refused("G041", "image='a' and options={'image': 'b'} differ"):
        inc.with_options(image="a", options={"image": "b"})
    with refused("G041", "options['image']=1 cannot be"):
        inc.with_options(options={"image": 1})


def test_a_backend_without_images_says_so_where_the_node_is() -> None:
    wrong = inc.with_options(image="a:1").bind(1)
    told = "'thread' has no option 'image'", "defs.py:"
    with refused("G055", *told, "Say backend='boxes'"):
        compile_plan(wrong, backends=BOXES)
    with refused("G055", *told, "Say backend='docker'"):
        compile_plan(wrong, backends=BACKENDS)


def test_options_of_a_call_count_in_a_graph_alone() -> None:
    with refused("G041", "inc.bind() with limit="):
        inc.with_options(limit=2).bind(1)


def test_graph_options() -> None:
    @graph(name="other", on_error="cancel", timeout=2.5)
    def main() -> object:
        return inc(1)

    plan = plan_of(main.bind())
    assert (plan.name, plan.on_error, plan.timeout) == ("other", "cancel", 2.5)
    assert plan_of(main.bind(), on_error="continue").on_error == "continue"
    assert plan_of(graph(main.fn).bind()).on_error == "stop"
    with refused("G041", "timeout=0 cannot be"):
        graph(timeout=0)


def test_options_are_written_once_per_set() -> None:
    @graph
    def main() -> None:
        inc(1)
        inc.with_options(name="other")(2)
        inc.with_options(timeout=3)(3)
        inc.with_options(timeout=3)(4)
        task(name="alias")(inc.fn)(5)

    plan = plan_of(main.bind())
    assert [node.task for node in plan.root.nodes] == [0, 0, 1, 1, 2]
    assert [spec.name for spec in plan.tasks] == ["inc", "inc", "alias"]
