"""Plans as JSON, and back: what the catalog keeps under `plans/<fingerprint>.json`.

The tree is written as a flat table of fragments, bodies by number: nesting may be of any depth,
and a body that many nodes share is written once.

Rule of this room: data only. Live sides (functions, annotations) are not written; `link` brings
functions back.
"""

from __future__ import annotations

import math
import operator
import struct
from collections.abc import Callable, Sequence
from typing import Final

import msgspec
from msgspec.structs import replace

from onready.engine.errors import NoCodec, StoreError
from onready.engine.names import Location
from onready.engine.options import OnError
from onready.engine.plan.model import (
    Arg,
    Binding,
    Const,
    Fragment,
    Gather,
    Plan,
    PlanNode,
    TaskSpec,
)
from onready.engine.plan.shape import inner_first
from onready.engine.values.stored import Compound, Encoded, Live, Stored

PLAN_FORMAT: Final = 1
"""Version of the document. Fields may be added with a default; anything else raises it."""

_DOUBLE: Final = struct.Struct(">d")
_FLOAT: Final = "float"
"""Codec name, in documents only, of the floats that JSON lacks: nan, inf, -inf."""


_NOTHING: Final = Fragment(name="")
"""Where the body of an arm was, in documents."""


class _Head(msgspec.Struct):
    format: int


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    """`bodies[i]` gives, for fragment i, (position of the node, number of its body's fragment);
    a node with arms is there once for each, in their order.

    The root is the last fragment. `nonfinite`: some constants are in the `float` codec.
    """

    format: int
    name: str
    fingerprint: str
    on_error: OnError
    timeout: float | None
    location: Location | None
    tasks: tuple[TaskSpec, ...]
    fragments: tuple[Fragment, ...]
    bodies: tuple[tuple[tuple[int, int], ...], ...]
    nonfinite: bool = False


def dump_plan(plan: Plan) -> bytes:
    """The plan as JSON. NoCodec, naming the node, where a constant is a live object."""
    numbers: dict[int, int] = {}
    fragments: list[Fragment] = []
    bodies: list[tuple[tuple[int, int], ...]] = []
    nonfinite = False
    for fragment in inner_first(plan.root):
        numbers[id(fragment)] = len(fragments)
        inside = [(node.position, body) for node in fragment.nodes for body in node.bodies]
        bodies.append(tuple((position, numbers[id(body)]) for position, body in inside))
        flat = _with_bodies(fragment, [(position, None) for position, _ in inside])
        written = _change_constants(flat, _write_float)
        nonfinite = nonfinite or written is not flat
        fragments.append(written)
    document = _Document(
        format=PLAN_FORMAT,
        name=plan.name,
        fingerprint=plan.fingerprint,
        on_error=plan.on_error,
        timeout=plan.timeout,
        location=plan.location,
        tasks=plan.tasks,
        fragments=tuple(fragments),
        bodies=tuple(bodies),
        nonfinite=nonfinite,
    )
    return msgspec.json.encode(document)


def load_plan(data: bytes) -> Plan:
    """The plan that `dump_plan` wrote, without its live sides (see `link`).

    StoreError where the bytes are no plan, or one of a newer format.
    """
    try:
        head = msgspec.json.decode(data, type=_Head)
        if head.format > PLAN_FORMAT:
            message = (
                f"this plan has format {head.format}, written by a newer onready; this one "
                f"reads up to format {PLAN_FORMAT}: upgrade onready to read it"
            )
            raise StoreError(message)
        document = msgspec.json.decode(data, type=_Document)
        root = _rebuild(document)
    except (ValueError, LookupError) as error:
        message = f"these bytes are not a plan: {error}"
        raise StoreError(message) from error
    return Plan(
        name=document.name,
        root=root,
        tasks=document.tasks,
        fingerprint=document.fingerprint,
        on_error=document.on_error,
        timeout=document.timeout,
        location=document.location,
    )


def _rebuild(document: _Document) -> Fragment:
    built: list[Fragment] = []
    for flat, bodies in zip(document.fragments, document.bodies, strict=True):
        fragment = _with_bodies(flat, [(at, built[number]) for at, number in bodies])
        built.append(_change_constants(fragment, _read_float) if document.nonfinite else fragment)
    return built[-1]


def _with_bodies(fragment: Fragment, bodies: Sequence[tuple[int, Fragment | None]]) -> Fragment:
    """The fragment with the bodies of the nodes at these positions replaced; None takes one out."""
    if not bodies:
        return fragment
    nodes = list(fragment.nodes)
    arms: dict[int, list[Fragment | None]] = {}
    for position, body in bodies:
        if nodes[position].arms:
            arms.setdefault(position, []).append(body)
        else:
            nodes[position] = replace(nodes[position], body=body)
    for position, inside in arms.items():
        pairs = zip(nodes[position].arms, inside, strict=True)
        changed = tuple([replace(arm, body=body or _NOTHING) for arm, body in pairs])
        nodes[position] = replace(nodes[position], arms=changed)
    return replace(fragment, nodes=tuple(nodes))


# --- constants: JSON has no nan and no infinities -----------------------------------------------

_Change = Callable[[Stored], Stored]


def _change_constants(fragment: Fragment, change: _Change) -> Fragment:
    """The fragment with `change` applied to each constant; itself where nothing changed."""
    nodes = fragment.nodes
    changed = {
        node.position: new for node in nodes if (new := _change_node(node, change)) is not node
    }
    if changed:
        nodes = tuple(changed.get(position, node) for position, node in enumerate(nodes))
    params = tuple(
        param
        if (value := change(param.default)) is param.default
        else replace(param, default=value)
        for param in fragment.params
    )
    result = _change_binding(fragment.result, change)
    if not changed and result is fragment.result and _same(params, fragment.params):
        return fragment
    return replace(fragment, params=params, nodes=nodes, result=result)


def _change_node(node: PlanNode, change: _Change) -> PlanNode:
    try:
        args = _change_args(node.args, change)
        arms = tuple(
            arm
            if (given := _change_args(arm.args, change)) is arm.args
            else replace(arm, args=given)
            for arm in node.arms
        )
    except NoCodec as error:
        message = f"{node.where or 'constant'}: node {node.name}: {error}"
        raise NoCodec(message) from None
    if args is node.args and _same(arms, node.arms):
        return node
    return replace(node, args=args, arms=arms)


def _change_args(args: tuple[Arg, ...], change: _Change) -> tuple[Arg, ...]:
    if all(type(arg.value) not in _HOLDERS for arg in args):
        return args
    values = [_change_binding(arg.value, change) for arg in args]
    if all(new is arg.value for new, arg in zip(values, args, strict=True)):
        return args
    return tuple(replace(arg, value=new) for new, arg in zip(values, args, strict=True))


def _change_binding(binding: Binding, change: _Change) -> Binding:
    if isinstance(binding, Const):
        value = change(binding.value)
        return binding if value is binding.value else Const(value)
    if isinstance(binding, Gather):
        items = tuple(_change_binding(item, change) for item in binding.items)
        return binding if _same(items, binding.items) else replace(binding, items=items)
    return binding


def _write_float(value: Stored) -> Stored:
    if isinstance(value, float) and not math.isfinite(value):
        # Its eight bytes, not its text: a nan has a sign and more, and the fingerprint sees them.
        return Encoded(_FLOAT, _DOUBLE.pack(value), None, _DOUBLE.size)
    if isinstance(value, Live):
        kind = type(value.value)
        message = (
            f"a constant of type {kind.__qualname__} has no durable form: pass it as "
            "`Provided`, register a codec for it, or set codec='pickle'"
        )
        raise NoCodec(message)
    return _change_items(value, _write_float)


def _read_float(value: Stored) -> Stored:
    if isinstance(value, Encoded) and value.codec == _FLOAT and value.data is not None:
        return _read_double(value.data)
    return _change_items(value, _read_float)


def _read_double(data: bytes) -> float:
    if len(data) != _DOUBLE.size:
        message = f"a float has {_DOUBLE.size} bytes, not {len(data)}"
        raise ValueError(message)
    number: float = _DOUBLE.unpack(data)[0]
    return number


def _change_items(value: Stored, change: _Change) -> Stored:
    if not isinstance(value, Compound):
        return value
    items = tuple(change(item) for item in value.items)
    return value if _same(items, value.items) else replace(value, items=items)


def _same(new: tuple[object, ...], old: tuple[object, ...]) -> bool:
    """Whether these are the very same objects: `==` would take nan for changed, 1 for True."""
    return all(map(operator.is_, new, old))


_HOLDERS: Final = frozenset({Const, Gather})
