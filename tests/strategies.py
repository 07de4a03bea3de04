"""Hypothesis strategies that several test folders share: plans and the values in them.

Rule of this room: strategies only; they build real structures of the plan's model.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Final, Literal, TypeVar, cast

import msgspec
from hypothesis import strategies as st

from onready.engine.names import Location
from onready.engine.options import Resources, RetryPolicy
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
from onready.engine.values.stored import Compound, Durable, Encoded
from tests.recipes import BODIES, PLAIN, Cook, Recipe

T = TypeVar("T")
Draw = Callable[[st.SearchStrategy[T]], T]

names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_.-]{0,8}", fullmatch=True)
seconds = st.none() | st.floats(0.001, 1e6)
texts = st.text(max_size=8)
integers = st.integers(-(2**63), 2**63 - 1)

scalars: st.SearchStrategy[Durable] = st.one_of(
    st.none(), st.booleans(), integers, st.floats(), texts
)


@st.composite
def encoded(draw: Draw[object]) -> Encoded:
    """A value in the bytes of a codec, inline or as a blob."""
    codec = str(draw(st.sampled_from(["json", "bytes", "numpy"])))
    data = draw(st.none() | st.binary(max_size=16))
    if not isinstance(data, bytes):
        return Encoded(codec, None, "ab" * 32, 70_000, "meta")
    return Encoded(codec, data, None, len(data))


def _compound(items: st.SearchStrategy[Durable]) -> st.SearchStrategy[Durable]:
    kinds: st.SearchStrategy[Literal["list", "tuple"]] = st.sampled_from(["list", "tuple"])
    sequences = st.builds(Compound, kinds, st.lists(items, max_size=3).map(tuple))
    dicts = st.dictionaries(texts, items, max_size=3).map(
        lambda pairs: Compound("dict", tuple(pairs.values()), tuple(pairs))
    )
    return sequences | dicts


durables: st.SearchStrategy[Durable] = st.recursive(scalars | encoded(), _compound, max_leaves=4)
"""Stored values that can be written down: scalars, encoded values, compounds of them."""

tasks = st.builds(
    TaskSpec,
    name=names,
    work=st.builds(Call, texts, st.sampled_from(["", "pickle"]))
    | st.builds(Shell, st.lists(texts, min_size=1, max_size=3).map(tuple)),
    backend=st.sampled_from(["inline", "thread", "process", "subprocess"]),
    is_async=st.booleans(),
    retry=st.builds(
        RetryPolicy, st.integers(0, 5), st.floats(0, 10), st.floats(1, 4), st.booleans()
    ),
    timeout=seconds,
    node_timeout=seconds,
    pool=st.sampled_from(["", "gpu"]),
    limit=st.integers(0, 4),
    resources=st.builds(
        Resources,
        cpu=st.floats(0, 8),
        memory=st.sampled_from(["", "512Mi"]),
        gpu=st.integers(0, 2),
    ),
    options=st.dictionaries(texts, texts | st.integers(0, 9) | st.booleans(), max_size=2),
    source=texts,
    params=st.lists(names, max_size=3).map(tuple),
)

steps = st.builds(Step, texts | st.integers(0, 5), st.booleans())
paths = st.lists(steps, max_size=2).map(tuple)


@cache
def bindings(earlier: int, params: tuple[str, ...]) -> st.SearchStrategy[Binding]:
    """Bindings that may take from `earlier` nodes before and from the fragment's parameters."""
    leaves: list[st.SearchStrategy[Binding]] = [
        st.builds(Const, durables),
        st.builds(FromProvided, names),
    ]
    if earlier:
        leaves.append(st.builds(FromNode, st.integers(0, earlier - 1), paths))
    if params:
        leaves.append(st.builds(FromParam, st.sampled_from(params), paths))

    def gather(inner: st.SearchStrategy[Binding]) -> st.SearchStrategy[Binding]:
        kinds: st.SearchStrategy[Literal["list", "tuple"]] = st.sampled_from(["list", "tuple"])
        return st.builds(Gather, kinds, st.lists(inner, max_size=2).map(tuple))

    return st.recursive(st.one_of(leaves), gather, max_leaves=3)


# Few names, so that the strategies which take from them are made once.
_param_lists = st.lists(
    st.builds(ParamSpec, st.sampled_from(["x", "body.x", "_-."]), st.booleans(), durables),
    max_size=2,
    unique_by=lambda param: param.name,
)
_CHOICES: Final = {
    "branch": ("then", "otherwise"),
    "switch": ("a", "case-2", "default"),
    "rescue": ("body", "handler"),
}
_KEYS: Final[dict[str, str | int | bool | None]] = {"a": "a", "case-2": 2, "default": None}
_FLAT: Final[list[NodeKind]] = ["task", "map"]
_DEEP: Final[list[NodeKind]] = [*_FLAT, "subgraph", "branch", "switch", "repeat", "rescue"]


@cache
def _values(earlier: int, params: tuple[str, ...], most: int) -> st.SearchStrategy[list[Binding]]:
    return st.lists(bindings(earlier, params), max_size=most)


@st.composite
def fragments(draw: Callable[..., object], task_count: int = 1, depth: int = 2) -> Fragment:
    """A body of up to five nodes with true `waits` and `feeds`; bodies inside up to `depth`.

    Composites of every kind are among the nodes, each in each other.
    """
    params = draw(_param_lists)
    assert isinstance(params, list)
    known = tuple(param.name for param in params)
    nodes = [
        _node(draw, position, known, task_count, depth)
        for position in range(_int(draw(st.integers(0, (1, 1, 4)[min(depth, 2)]))))
    ]
    return with_feeds(Fragment(name="body", params=tuple(params), nodes=tuple(nodes)))


def _node(
    draw: Callable[..., object], position: int, params: tuple[str, ...], task_count: int, depth: int
) -> PlanNode:
    kind = cast("NodeKind", draw(st.sampled_from(_DEEP if depth else _FLAT)))

    def args(most: int) -> tuple[Arg, ...]:
        values = draw(_values(position, params, most))
        assert isinstance(values, list)
        return tuple(Arg(f"a{at}", value, kind == "map") for at, value in enumerate(values))

    def inside(*, deep: bool = True) -> Fragment:
        made = draw(fragments(task_count, depth - 1 if deep else 0))
        assert isinstance(made, Fragment)
        return made

    own = () if kind == "rescue" else args(2)
    # One arm is as deep as may be, the others are shallow: drawing all in full takes its time.
    arms = tuple(
        Arm(name=name, body=inside(deep=at == position % 2), args=args(1), key=_KEYS.get(name))
        for at, name in enumerate(_CHOICES.get(kind, ()))
    )
    order = draw(st.sets(st.integers(0, position - 1), max_size=2)) if position else set()
    assert isinstance(order, set)
    needs = _needs((*own, *(arg for arm in arms for arg in arm.args)))
    always = bool(draw(st.booleans())) and bool(order)
    return PlanNode(
        position=position,
        name=f"n{position}",
        kind=kind,
        args=own,
        waits=tuple(sorted({*order, *needs})),
        task=_int(draw(st.integers(0, task_count - 1))) if kind in _FLAT else None,
        body=inside() if kind in {"subgraph", "repeat"} else None,
        limit=_int(draw(st.integers(0, 3))),
        always=always,
        where=f"file.py:{position}",
        arms=arms,
        most=_int(draw(st.integers(1, 9))) if kind == "repeat" else 0,
        on_limit="return" if draw(st.booleans()) else "fail",
        needs=tuple(sorted(needs)) if always else (),
        tolerant=kind == "map" and bool(draw(st.booleans())),
    )


def with_feeds(fragment: Fragment) -> Fragment:
    """The fragment with `feeds` and `cleans` filled from `waits`."""
    feeds: list[list[int]] = [[] for _ in fragment.nodes]
    for node in fragment.nodes:
        for need in node.waits:
            feeds[need].append(node.position)
    always = {node.position for node in fragment.nodes if node.always}
    nodes = tuple(
        msgspec.structs.replace(
            node,
            feeds=tuple(feeds[node.position]),
            cleans=tuple(at for at in feeds[node.position] if at in always),
        )
        for node in fragment.nodes
    )
    return msgspec.structs.replace(fragment, nodes=nodes)


@st.composite
def plans(draw: Callable[..., object]) -> Plan:
    """Compiled plans of any shape, without their live sides."""
    found = draw(st.lists(tasks, min_size=1, max_size=3))
    assert isinstance(found, list)
    root = draw(fragments(len(found)))
    assert isinstance(root, Fragment)
    timeout = draw(seconds)
    return Plan(
        name=str(draw(names)),
        root=root,
        tasks=tuple(found),
        fingerprint=fingerprint(root, tuple(found)),
        timeout=timeout if isinstance(timeout, float) else None,
        location=Location("file.py", 3) if draw(st.booleans()) else None,
    )


# --- graphs that can run ------------------------------------------------------------------------


def _recipes(inner: st.SearchStrategy[Recipe]) -> st.SearchStrategy[Recipe]:
    steps = st.one_of(
        *(
            st.tuples(st.just(kind), *[inner] * count).map(lambda made: Cook(made[0], made[1:]))
            for kind, count in BODIES.items()
        )
    )
    return st.lists(steps, min_size=1, max_size=3).map(tuple)


recipes: st.SearchStrategy[Recipe] = st.recursive(
    st.lists(st.sampled_from(PLAIN).map(Cook), min_size=1, max_size=3).map(tuple),
    _recipes,
    max_leaves=6,
)
"""Recipes of graphs with every composite in every other: see `tests/recipes.py`."""


def _needs(args: tuple[Arg, ...]) -> set[int]:
    found: set[int] = set()
    stack: list[Binding] = [arg.value for arg in args]
    while stack:
        binding = stack.pop()
        if isinstance(binding, Gather):
            stack.extend(binding.items)
        elif isinstance(binding, FromNode):
            found.add(binding.node)
    return found


def _int(value: object) -> int:
    assert isinstance(value, int)
    return value
