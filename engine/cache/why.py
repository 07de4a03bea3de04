"""Why a node was, or was not, taken from the cache: worked out of a run's events.

On a miss the dispatcher records what the value would be made of (`node.emitted`, name `cache`).
Held against the values that were in the cache by then, that says what changed.

Rule of this room: reads events and records; words for people, decisions for nobody.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from onready.engine.cache.key import Ingredients
from onready.engine.cache.store import Cache, CacheEntry
from onready.engine.events import (
    AnyEvent,
    BackendWarning,
    NodeCached,
    NodeCancelled,
    NodeEmitted,
    NodeFailed,
    NodeSkipped,
)
from onready.engine.names import NodeKey
from onready.engine.values.stored import Encoded

SEEN: Final = "cache"
"""Name of the event that says what was looked up, and code of the cache's warnings."""

_PARTS: Final = {
    "code": "the code of the function changed",
    "codec": "the codec of the result changed",
    "command": "the command or its environment changed",
    "image": "the image changed",
    "format": "an older onready wrote it, with keys of another form",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of the look-up of one node in one run.

    `status`: `cached` (its value is of the run `origin`), `missed`, `unasked` (no look-up was
    made), `unknown` (the run's log has nothing of such a node). `reasons` are lines for people.
    `nearest` is the value of the same task that differs least, of those that were there by then.
    """

    status: Literal["cached", "missed", "unasked", "unknown"]
    reasons: tuple[str, ...] = ()
    origin: str = ""
    key: str = ""
    nearest: CacheEntry | None = None
    nodes: tuple[str, ...] = ()
    """Nodes that the log does know, where it has nothing of this one."""


class _Told:
    """What the log says of one node's look-up; the last one counts."""

    def __init__(self) -> None:
        self.seen: tuple[float, Ingredients] | None = None
        self.cached: NodeCached | None = None
        self.never: str = ""
        self.warnings: list[str] = []
        self.any = False

    def take(self, event: AnyEvent) -> None:
        self.any = True
        if isinstance(event, NodeCached):
            self.cached = event
        elif isinstance(event, NodeEmitted) and event.name == SEEN:
            found = _read(event)
            self.seen = (event.at, found) if found is not None else self.seen
            self.cached = None
        elif isinstance(event, BackendWarning) and event.code == SEEN:
            self.warnings.append(event.message)
        elif isinstance(event, NodeSkipped | NodeCancelled) and not event.attempt:
            self.never = event.reason or "it was not started"
        elif isinstance(event, NodeFailed) and not event.attempt:
            self.never = event.failure.message


def seen_event(at: float, node: NodeKey, attempt: int, ingredients: Ingredients) -> NodeEmitted:
    """The event of a look-up that found nothing."""
    data = msgspec.json.encode(ingredients)
    return NodeEmitted(0, at, node, attempt, SEEN, Encoded("json", data, None, len(data)))


def _read(event: NodeEmitted) -> Ingredients | None:
    value = event.value
    if not isinstance(value, Encoded) or value.data is None:
        return None
    try:
        return msgspec.json.decode(value.data, type=Ingredients)
    except ValueError:  # the node's own, by the same name
        return None


async def explain(cache: Cache, events: AsyncIterator[AnyEvent], run: str, node: NodeKey) -> Answer:
    """Why `node` was or was not taken from the cache in `run`, whose events these are."""
    told = _Told()
    nodes: dict[str, None] = {}
    async for event in events:
        key: NodeKey | None = getattr(event, "node", None)
        if key == node:
            told.take(event)
        elif key is not None and not told.any:
            nodes[str(key)] = None
    if not told.any:
        return Answer("unknown", nodes=tuple(nodes))
    if told.cached is not None:
        return Answer("cached", tuple(told.warnings), origin=told.cached.origin)
    if told.seen is None:
        return Answer("unasked", tuple(_unasked(told)))
    at, ingredients = told.seen
    nearest = await _nearest(cache, ingredients, at, run, str(node))
    if nearest is None:
        reasons = ["no value of this task was in the cache"]
    else:
        reasons = list(differences(ingredients, nearest.ingredients))
        reasons = reasons or ["the value was there, and could not be used"]
    return Answer("missed", (*reasons, *told.warnings), key=ingredients.key, nearest=nearest)


def _unasked(told: _Told) -> Iterator[str]:
    yield from told.warnings
    if told.never:
        yield told.never
    elif not told.warnings:
        yield "its task has no cache=, or the run was started without the cache (--no-cache)"


async def _nearest(
    cache: Cache, ingredients: Ingredients, at: float, run: str, node: str
) -> CacheEntry | None:
    """The entry with the fewest differences, the newest of several; not the node's own."""
    best: CacheEntry | None = None
    least = 0
    for listed in await cache.entries(place=ingredients.place):
        entry = listed.entry
        if entry is None or entry.created > at or (entry.run, entry.node) == (run, node):
            continue
        count = sum(1 for _ in differences(ingredients, entry.ingredients))
        if best is None or count <= least:  # they come oldest first
            best, least = entry, count
    return best


def differences(now: Ingredients, then: Ingredients) -> Iterator[str]:
    """What changed from `then` to `now`, a line each."""
    if now.version != then.version:
        yield f"the version changed: cache={now.version!r}, and there {then.version!r}"
    for part, text in _PARTS.items():
        if getattr(now, part) != getattr(then, part):
            yield text
    for name, digest in now.inputs.items():
        if name not in then.inputs:
            yield f"input {name} is new"
        elif then.inputs[name] != digest:
            yield f"input {name} changed"
    for name in then.inputs:
        if name not in now.inputs:
            yield f"input {name} is gone"
