"""What a node was given, worked out of what a log holds."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import pytest

from onready.engine.graph import Provided, each, graph, task
from onready.engine.names import NodeKey
from onready.engine.plan.arguments import UNKNOWN, Arguments, Known, PartOf, Unknown
from onready.engine.plan.compile import compile_plan
from onready.engine.spi import Capabilities
from onready.engine.values.stored import Compound, Encoded, Live, Stored


@task
def load(name: str) -> dict[str, list[int]]:
    return {}


@task
def fit(data: list[int], alpha: float, flags: dict[str, int] = {}) -> float:
    return 0


@task
def best(models: list[float]) -> float:
    return 0


@graph
def fold(data: list[int], alphas: list[float], bonus: float = 0.5) -> float:
    return best(fit.map(data, each(alphas), flags={"a": 1}))


@task
def combine(values: list[float], first: int, pair: tuple[float, float], far: float) -> float:
    return 0


@task
def couple() -> tuple[float, float]:
    return (0, 0)


@graph
def search(name: str, alphas: list[float]) -> float:
    loaded = load(name)
    one = fold(loaded["train"], alphas)
    two = fold.map(each([[1], [2]]), alphas)
    a, b = couple()
    return combine(two, loaded["train"][0], (a, b), one)


@task
def ask(prompt: float, pool: object = Provided("db")) -> float:
    return 0


@graph
def parts(texts: dict[str, float]) -> float:
    return ask(texts["a"])


@graph
def talk(text: float, alphas: list[float]) -> float:
    parts({"a": text, "b": 1.0})
    return best(ask.map(each(alphas)))


def encoded(value: object) -> Encoded:
    data = msgspec.json.encode(value)
    return Encoded("json", data, None, len(data))


def key(text: str) -> NodeKey:
    return NodeKey.parse(text)


PLAN = compile_plan(search.bound({}), backends={"thread": Capabilities(in_process=True)})
INPUTS: dict[str, Stored] = {"name": "digits", "alphas": encoded([0.1, 0.5])}
VALUES: dict[NodeKey, Stored] = {
    key("load"): encoded({"train": [7, 8]}),
    key("couple"): Compound("tuple", (1.5, 2.5)),
    key("fold/best"): 0.5,
    key("fold-2[0]/best"): 0.1,
    key("fold-2[1]/best"): 0.2,
}


def plan_names() -> list[str]:
    return [node.name for node in PLAN.root.nodes]


def arguments(
    text: str, values: Mapping[NodeKey, Stored] | None = None, count: int = 2
) -> tuple[dict[str, Known], frozenset[str]]:
    second = plan_names()[2]
    known = VALUES if values is None else values
    renamed = {key(str(at).replace("fold-2", second)): value for at, value in known.items()}
    counts = {key(second): count, key("fold/fit"): 2}
    return Arguments(PLAN, INPUTS, renamed, counts).of(key(text.replace("fold-2", second)))


def test_inputs_and_constants() -> None:
    assert arguments("load") == ({"name": "digits"}, frozenset())


def test_an_item_of_a_map_inside_a_subgraph() -> None:
    made, own = arguments("fold/fit[1]")
    assert own == {"alpha"}
    assert made["data"] == encoded([7, 8])
    assert made["alpha"] == 0.5
    assert made["flags"] == encoded({"a": 1})


def test_an_item_of_a_map_of_graphs() -> None:
    made, own = arguments("fold-2[1]/fit[0]")
    assert own == {"alpha"}
    assert made["data"] == encoded([2])
    assert made["alpha"] == 0.1


def test_gathered_values_of_maps_subgraphs_and_projections() -> None:
    made, own = arguments("combine")
    assert own == frozenset()
    assert made["values"] == Compound("list", (0.1, 0.2))
    assert made["first"] == 7
    assert made["pair"] == Compound("tuple", (1.5, 2.5))
    assert made["far"] == 0.5


def test_what_cannot_be_known_is_unknown() -> None:
    array = Encoded("numpy", b"", None, 0)
    made, _ = arguments("combine", {key("load"): array}, count=1)
    assert {name for name, value in made.items() if isinstance(value, Unknown)} == made.keys()
    blob = Encoded("json", None, "ab" * 32, 99999)
    first = arguments("combine", {key("load"): blob})[0]["first"]
    assert isinstance(first, PartOf), "it can be worked out by whoever fetches the blob"
    assert (first.whole, [step.key for step in first.path]) == (blob, ["train", 0])
    assert first.task is not None
    live = {key("couple"): Live((1, 2))}
    assert arguments("combine", live)[0]["pair"] is UNKNOWN
    short: dict[NodeKey, Stored] = {
        key("load"): encoded({"train": []}),
        key("couple"): Compound("tuple", (1.5,)),
    }
    assert isinstance(arguments("combine", short)[0]["first"], PartOf)
    assert arguments("combine", short)[0]["pair"] is UNKNOWN
    assert repr(UNKNOWN) == "UNKNOWN"


def test_provided_objects_are_unknown_and_dicts_open() -> None:
    plan = compile_plan(talk.bound({}), backends={"thread": Capabilities(in_process=True)})
    given = Arguments(plan, {"text": 3.0, "alphas": encoded([1])}, {}, {})
    assert given.of(key("parts/ask")) == ({"prompt": 3.0, "pool": UNKNOWN}, frozenset())
    assert given.of(key("best"))[0]["models"] is UNKNOWN


@pytest.mark.parametrize("text", ["nope", "load/deeper", "fold/nope"])
def test_keys_that_the_plan_has_not(text: str) -> None:
    assert arguments(text) == ({}, frozenset())
