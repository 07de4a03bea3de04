"""Who waits for whom in a fragment, and the circles that a builder can make.

Rule of this room: positions and names; no values, no backends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from onready.engine.graph.body import Argument, Body, Gathered, Node, Value
from onready.engine.graph.codes import Code, did_you_mean
from onready.engine.graph.composites import Choice, inputs_of
from onready.engine.graph.refs import Ref, source_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def waits_of(body: Body) -> list[tuple[int, ...]]:
    """For each node the positions of those that must end well before it, each once.

    Raises GraphError for a name in `after=` that no node has, and for a circle.
    """
    names: dict[str, Node] | None = None
    forward = False
    waits: list[tuple[int, ...]] = []
    for node in body.nodes:
        found: dict[int, None] = {}
        # Most nodes have no arms, and this runs once per node of a big graph.
        plain = type(node.callee) is not Choice
        for argument in node.arguments if plain else inputs_of(node):
            value = argument.value
            if type(value) is Ref:
                source = source_of(value)
                if type(source) is Node:
                    found[source.index] = None
            elif type(value) is Gathered:
                found.update(dict.fromkeys(_sources(value)))
        for item in node.after:
            if isinstance(item, str):
                if names is None:
                    names = {other.name: other for other in body.nodes}
                before = _named(item, names, node)
            else:
                before = item
            forward = forward or before.index >= node.index
            found[before.index] = None
        waits.append(tuple(found))
    if forward:
        _refuse_circle(body, waits)
    return waits


def sources_of(arguments: Iterable[Argument]) -> frozenset[int]:
    """Positions of the nodes whose values are among these arguments."""
    return frozenset(at for argument in arguments for at in _sources(argument.value))


def _sources(value: Value) -> Iterator[int]:
    """Positions of the nodes whose values are inside a literal."""
    if type(value) is Ref:
        source = source_of(value)
        if isinstance(source, Node):
            yield source.index
    elif type(value) is Gathered:
        for item in value.items:
            yield from _sources(item)


def _named(name: str, names: dict[str, Node], node: Node) -> Node:
    found = names.get(name)
    if found is None:
        message = f"after= of {node.name} names {name!r}, and no node has that name"
        raise Code.G022.error(message, node.location, did_you_mean(name, names))
    return found


def feeds_of(waits: list[tuple[int, ...]]) -> list[list[int]]:
    """For each node the positions of those that wait for it."""
    feeds: list[list[int]] = [[] for _ in waits]
    for position, before in enumerate(waits):
        for other in before:
            feeds[other].append(position)
    return feeds


def _refuse_circle(body: Body, waits: list[tuple[int, ...]]) -> None:
    """Raise GraphError with one circle, if there is one. No recursion: graphs can be long."""
    missing = [len(before) for before in waits]
    feeds = feeds_of(waits)
    ready = [position for position, count in enumerate(missing) if not count]
    for position in ready:  # grows while it is read
        for follower in feeds[position]:
            missing[follower] -= 1
            if not missing[follower]:
                ready.append(follower)
    if len(ready) == len(waits):
        return
    left = {position for position, count in enumerate(missing) if count}
    way = [min(left)]
    seen = {way[0]: 0}
    while True:
        # Every node that is left waits for another that is left, so this walk must close.
        step = next(other for other in waits[way[-1]] if other in left)
        if step in seen:
            circle = way[seen[step] :]
            break
        seen[step] = len(way)
        way.append(step)
    circle.reverse()
    start = circle.index(min(circle))
    names = [body.nodes[position].name for position in circle[start:] + circle[: start + 1]]
    message = f"nodes wait for each other in a circle: {' -> '.join(names)}"
    raise Code.G023.error(message, body.nodes[min(circle)].location)
