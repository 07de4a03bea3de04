"""The rows of a run: one per node of the graph, a map or a repeat being one row.

Rule of this room: data, and where it belongs; what events do to it is in `board`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from onready.engine.names import NodeKey
from onready.engine.plan.model import Fragment, Plan, PlanNode

Path = tuple[str, ...]
"""Names from the outside in, an arm with its branch: `("gate?high", "report")`."""


@dataclass(slots=True)
class Row:
    """One node of the graph; inside maps it stands for all of its instances.

    A repeat is one row, its iterations with all that is in them. `total` is None while a map, an
    arm or a repeat around it has not said how many there will be. Times are UTC seconds; `busy` is
    the sum of what all attempts took, `idle` the time between drivers, in seconds.
    """

    path: Path
    many: bool
    total: int | None
    repeats: bool = False
    counts: dict[str, int] = field(default_factory=dict)
    passed: int = 0
    """Instances among the skipped whose branch chose another arm: nothing is missing there."""
    rounds: int = 0
    """Iterations of a repeat, over all of its instances."""
    running: int = 0
    retries: int = 0
    again: int = 0
    """Attempts made again because their driver died, or because somebody asked for it."""
    attempts: int = 0
    began: float | None = None
    ended: float | None = None
    busy: float = 0.0
    idle: float = 0.0
    backend: str = ""
    message: str = ""
    fraction: float | None = None
    reason: str = ""
    kept: list[NodeKey] = field(default_factory=list)
    """The first few instances that succeeded, for the error block."""
    left_open: bool = False
    """Whether `total` was only set because the run ended before anybody said it."""

    @property
    def name(self) -> str:
        """The path as people read it: `train/fit`."""
        return "/".join(self.path)

    @property
    def done(self) -> int:
        """Instances that ended, in whatever way."""
        return sum(self.counts.values())

    @property
    def good(self) -> int:
        """Instances whose value there is."""
        return self.counts.get("succeeded", 0) + self.counts.get("cached", 0)

    @property
    def status(self) -> str:
        """The worst that happened, else what is going on."""
        for word in ("failed", "lost"):
            if self.counts.get(word):
                return word
        if self.running:
            return "running"
        if self.counts.get("cancelled"):
            return "cancelled"
        skipped = self.counts.get("skipped", 0)
        if skipped > self.passed or (skipped and skipped == self.done):
            return "skipped"
        if self.total is not None and self.done >= self.total:
            cached = self.counts.get("cached", 0)
            return "cached" if cached and cached == self.done else "succeeded"
        return "running" if self.done or self.began is not None else "waiting"

    @property
    def absent(self) -> bool:
        """Whether nothing of it ever was to run: the handler of a rescue that was not needed."""
        inside_arm = any("?" in name for name in self.path)
        return inside_arm and not self.total and not self.done and self.began is None

    @property
    def complete(self) -> bool:
        """Whether all of its instances have their value, but for those that were not chosen."""
        return self.good > 0 and self.good + self.passed == self.done == self.total

    @property
    def took(self) -> float | None:
        """Seconds from its first start to its last end, but for those between drivers."""
        if self.began is None or self.ended is None:
            return None
        return max(self.ended - self.began - self.idle, 0.0)


@dataclass(slots=True)
class Layout:
    """The rows of a plan, in the order of the graph, and which of them wait for what.

    `inside` are the rows whose number is only known when the map or the arm with that path opens.
    """

    rows: dict[Path, Row] = field(default_factory=dict)
    inside: dict[Path, list[Row]] = field(default_factory=dict)
    maps: set[Path] = field(default_factory=set)
    repeats: set[Path] = field(default_factory=set)
    composites: set[Path] = field(default_factory=set)

    def path(self, key: NodeKey) -> Path:
        """Where the row of this key is: at the outermost repeat around it, if there is one."""
        path = path_of(key)
        if self.repeats:
            for length in range(1, len(path)):
                if path[:length] in self.repeats:
                    return path[:length]
        return path

    def row(self, key: NodeKey) -> Row:
        """The row of this key, made where the plan is not known."""
        path = self.path(key)
        row = self.rows.get(path)
        if row is None:
            many = bool(indexes_of(key))
            row = self.rows[path] = Row(path, many, None if many else 1)
        return row

    def below(self, key: NodeKey) -> list[Row]:
        """The rows in a composite that has none of its own; none for a node that has."""
        path = self.path(key)
        if path not in self.composites or path in self.rows:
            return []
        return [row for place, row in self.rows.items() if place[: len(path)] == path]

    def arm(self, key: NodeKey, arm: str) -> Path:
        """The path of an arm of the composite at `key`."""
        path = path_of(key)
        return (*path[:-1], f"{path[-1]}?{arm}")


@dataclass(frozen=True, slots=True)
class _Place:
    """Where `lay_out` is: the next node of a fragment, below `prefix`, numbered by `owner`."""

    fragment: Fragment
    prefix: Path
    owner: Path | None
    many: bool
    position: int = 0


def lay_out(plan: Plan) -> Layout:
    """One row per task node and per repeat, in the order of the graph."""
    layout = Layout()
    stack = [_Place(plan.root, (), None, many=False)]
    while stack:
        place = stack.pop()
        if place.position == len(place.fragment.nodes):
            continue
        following = place.position + 1
        stack.append(_Place(place.fragment, place.prefix, place.owner, place.many, following))
        node = place.fragment.nodes[place.position]
        path = (*place.prefix, node.name)
        if node.kind == "repeat":
            layout.repeats.add(path)
            _add(layout, Row(path, place.many, None, repeats=True), None)
            continue
        owner, many = place.owner, place.many
        if node.kind == "map":
            layout.maps.add(path)
            owner, many = path, True
        if node.bodies:
            layout.composites.add(path)
            stack += reversed(list(_bodies(node, path, owner, many=many)))
        elif node.task is not None:
            row = Row(path, many, 1 if owner is None else None)
            row.backend = plan.tasks[node.task].backend
            _add(layout, row, owner)
    return layout


def _bodies(node: PlanNode, path: Path, owner: Path | None, *, many: bool) -> Iterator[_Place]:
    if node.body is not None:
        yield _Place(node.body, path, owner, many)
    for arm in node.arms:
        inner = (*path[:-1], f"{path[-1]}?{arm.name}")
        # A handler that is not needed never comes up; all other arms run, or are skipped.
        late = node.kind == "rescue" and arm is not node.arms[0]
        yield _Place(arm.body, inner, inner if late else owner, many)


def _add(layout: Layout, row: Row, owner: Path | None) -> None:
    layout.rows[row.path] = row
    if owner is not None:
        layout.inside.setdefault(owner, []).append(row)


# --- keys -----------------------------------------------------------------------------------------


def path_of(key: NodeKey) -> Path:
    """The names of a key without its indexes: which node of the graph it is an instance of."""
    if key.parent is None and key.arm is None:
        return (key.name,)
    names: list[str] = []
    here: NodeKey | None = key
    while here is not None:
        names.append(here.name if here.arm is None else f"{here.name}?{here.arm}")
        here = here.parent
    names.reverse()
    return tuple(names)


def indexes_of(key: NodeKey) -> tuple[int, ...]:
    """The indexes of a key, outermost first: to put the items of a map in order."""
    found: list[int] = []
    here: NodeKey | None = key
    while here is not None:
        if here.index is not None:
            found.append(here.index)
        here = here.parent
    return tuple(reversed(found))


def needing(plan: Plan, keys: Iterable[NodeKey]) -> Callable[[NodeKey], bool]:
    """Whether a node is one of `keys`, is inside of one, or needs one: by values or by order."""
    places = set(keys)
    later: dict[NodeKey, int] = {}
    for key in tuple(places):
        fragment: Fragment | None = plan.root
        for part in _segments(key):
            if fragment is None:
                break
            node = next((node for node in fragment.nodes if node.name == part.name), None)
            if node is None:
                break
            places |= {NodeKey(name, part.parent) for name in _followers(fragment, node)}
            if node.kind == "repeat" and part.index is not None:
                later[NodeKey(part.name, part.parent)] = part.index
            fragment = node.body or next(
                (arm.body for arm in node.arms if arm.name == part.arm), None
            )

    def needs(key: NodeKey) -> bool:
        return any(
            place in places
            or (
                place.index is not None
                and place.index > later.get(NodeKey(place.name, place.parent), sys.maxsize)
            )
            for place in around(key)
        )

    return needs


def _segments(key: NodeKey) -> list[NodeKey]:
    """The key and those that it is below, outermost first."""
    found: list[NodeKey] = []
    here: NodeKey | None = key
    while here is not None:
        found.append(here)
        here = here.parent
    return found[::-1]


def _followers(fragment: Fragment, node: PlanNode) -> set[str]:
    """The nodes of the fragment that wait for this one, or for one that does."""
    reached: set[int] = set()
    todo = list(node.feeds)
    while todo:
        position = todo.pop()
        if position not in reached:
            reached.add(position)
            todo += fragment.nodes[position].feeds
    return {fragment.nodes[position].name for position in reached}


def around(key: NodeKey) -> Iterator[NodeKey]:
    """Every composite that the key is inside of, itself first; items and arms as such, too."""
    here: NodeKey | None = key
    while here is not None:
        yield here
        if here.index is not None or here.arm is not None:
            yield NodeKey(here.name, here.parent)
        here = here.parent
