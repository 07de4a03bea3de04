"""The shape of a fragment: its order, its layers, its edges, its bindings in words.

Shared by everything that shows or writes a plan.

Rule of this room: pure functions of a fragment.
"""

from __future__ import annotations

from collections.abc import Iterator

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
    PlanNode,
    Step,
)
from onready.engine.values.stored import Compound, Encoded, Live, Stored


def inner_first(root: Fragment) -> Iterator[Fragment]:
    """Every fragment once, bodies before the fragments that use them; any depth of nesting."""
    done: set[int] = set()
    stack: list[tuple[Fragment, bool]] = [(root, False)]
    while stack:
        fragment, opened = stack.pop()
        if id(fragment) in done:
            continue
        if opened:
            done.add(id(fragment))
            yield fragment
            continue
        stack.append((fragment, True))
        stack.extend((body, False) for node in fragment.nodes for body in node.bodies)


def depths(fragment: Fragment) -> list[int]:
    """For each node, the number of nodes on the longest way to it (0: it waits for none)."""
    nodes = fragment.nodes
    depth = [0] * len(nodes)
    missing = [len(node.waits) for node in nodes]
    ready = [node.position for node in nodes if not node.waits]
    for position in ready:  # grows while it is read
        after = depth[position] + 1
        for follower in nodes[position].feeds:
            depth[follower] = max(depth[follower], after)
            missing[follower] -= 1
            if not missing[follower]:
                ready.append(follower)
    return depth


def layers(fragment: Fragment) -> list[list[PlanNode]]:
    """The nodes by depth: those of one layer do not wait for each other."""
    depth = depths(fragment)
    result: list[list[PlanNode]] = [[] for _ in range(max(depth, default=-1) + 1)]
    for node in fragment.nodes:
        result[depth[node.position]].append(node)
    return result


def sources(binding: Binding) -> Iterator[Binding]:
    """The bindings inside: itself, or the leaves of what it gathers."""
    stack = [binding]
    while stack:
        top = stack.pop()
        if isinstance(top, Gather):
            stack.extend(reversed(top.items))
        else:
            yield top


def takes(node: PlanNode) -> Iterator[Binding]:
    """The bindings of all that a node takes: its own arguments, then those of its arms."""
    for arg in node.args:
        yield arg.value
    for arm in node.arms:
        for arg in arm.args:
            yield arg.value


def data_needs(node: PlanNode) -> frozenset[int]:
    """Positions of the nodes whose values this node takes; its other waits are order-only."""
    return frozenset(
        leaf.node for value in takes(node) for leaf in sources(value) if isinstance(leaf, FromNode)
    )


def count_nodes(fragment: Fragment) -> int:
    """Nodes of the fragment and of all bodies in it, as written (a map's body counts once)."""
    totals: dict[int, int] = {}
    for inner in inner_first(fragment):
        bodies = (totals[id(body)] for node in inner.nodes for body in node.bodies)
        totals[id(inner)] = len(inner.nodes) + sum(bodies)
    return totals[id(fragment)]


# --- in words ---------------------------------------------------------------------------------


def title(node: PlanNode) -> str:
    """The node's name, with `[*]` where it stands for one node per item or per iteration."""
    return f"{node.name}[*]" if node.kind in {"map", "repeat"} else node.name


def called(node: PlanNode) -> str:
    """What the node's value is called: that of a map is one per item, `[*]`."""
    return title(node) if node.kind == "map" else node.name


def marks(node: PlanNode) -> list[str]:
    """What sets a node apart, in words: bounds of a repeat, clean-up, failures as items."""
    found: list[str] = []
    if node.kind == "repeat":
        end = "" if node.on_limit == "fail" else ", then as it is"
        found.append(f"at most {node.most}{end}")
    if node.always:
        found.append("always")
    if node.tolerant:
        found.append("failures as items")
    return found


def arm_title(node: PlanNode, arm: Arm) -> str:
    """An arm as keys show it, `?high`, with the key that chooses it where that says more."""
    plain = arm.key is None or arm.name in {arm.key, str(arm.key).lower()}
    return f"?{arm.name}" if plain or node.kind != "switch" else f"?{arm.name} {arm.key!r}"


def each_of(fragment: Fragment, node: PlanNode) -> list[str]:
    """What a map goes over, in words."""
    return [words(fragment, arg.value) for arg in node.args if arg.each]


def words(fragment: Fragment, binding: Binding) -> str:
    """The binding as it would be written: `clean["rows"]`, `alphas`, `[a, b]`, `0.1`."""
    if isinstance(binding, Const):
        return literal(binding.value)
    if isinstance(binding, FromNode):
        return called(fragment.nodes[binding.node]) + _path(binding.path)
    if isinstance(binding, FromParam):
        return binding.name + _path(binding.path)
    if isinstance(binding, FromProvided):
        return f"<provided {binding.name}>"
    items = [words(fragment, item) for item in binding.items]
    return _compound(binding.kind, items, binding.keys)


def call_words(fragment: Fragment, args: tuple[Arg, ...]) -> dict[str, str]:
    """Each argument by name, in words; `each(...)` around those that are iterated over."""
    texts = {arg.name: words(fragment, arg.value) for arg in args}
    return {arg.name: f"each({texts[arg.name]})" if arg.each else texts[arg.name] for arg in args}


def literal(value: Stored) -> str:
    """A stored value as people read it, at most about 60 characters."""
    if isinstance(value, Encoded):
        if value.codec == "json" and value.data is not None:
            return _short(value.data.decode(errors="replace"))
        return f"<{value.codec}, {value.size} bytes>"
    if isinstance(value, Compound):
        return _short(_compound(value.kind, [literal(item) for item in value.items], value.keys))
    if isinstance(value, Live):
        return f"<{type(value.value).__qualname__}>"
    return _short(repr(value))


def _path(path: tuple[Step, ...]) -> str:
    return "".join(f".{step.key}" if step.attribute else f"[{step.key!r}]" for step in path)


def _compound(kind: str, items: list[str], keys: tuple[str, ...]) -> str:
    if kind == "dict":
        pairs = zip(keys, items, strict=True)
        return "{" + ", ".join(f"{key!r}: {item}" for key, item in pairs) + "}"
    if kind == "list":
        return "[" + ", ".join(items) + "]"
    return "(" + ", ".join(items) + ("," if len(items) == 1 else "") + ")"


def _short(text: str, width: int = 60) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."
