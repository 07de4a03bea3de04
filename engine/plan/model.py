"""The plan: the checked, immutable form of a graph, as a tree of fragments.

A fragment is the body of the graph or of one composite. Fragments are closed: values enter only
through `params` and leave only through `result`. Inside a fragment, nodes name each other by
position, so that the scheduler's joins are array look-ups.

Rule of this room: data only. Everything but `Plan.functions` goes to JSON and back unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from onready.engine.names import Location
from onready.engine.options import OnError, Resources, RetryPolicy
from onready.engine.spi import Work
from onready.engine.values.stored import Stored

NodeKind = Literal["task", "subgraph", "map", "branch", "switch", "repeat", "rescue"]

# --- bindings: where an argument's value comes from -------------------------------------------


class Step(msgspec.Struct, frozen=True, array_like=True):
    """One projection: `["key"]`, `[0]` or `.attribute`."""

    key: str | int
    attribute: bool = False


class Const(msgspec.Struct, frozen=True, tag="const"):
    """A value written in the graph."""

    value: Stored = None


class FromNode(msgspec.Struct, frozen=True, tag="node"):
    """The value of node `node` (its position in this fragment), or a part of it."""

    node: int
    path: tuple[Step, ...] = ()


class FromParam(msgspec.Struct, frozen=True, tag="param"):
    """The value of the fragment's parameter `name`, or a part of it."""

    name: str
    path: tuple[Step, ...] = ()


class Gather(msgspec.Struct, frozen=True, tag="gather"):
    """A list, tuple or dict built of other bindings."""

    kind: Literal["list", "tuple", "dict"]
    items: tuple[Binding, ...]
    keys: tuple[str, ...] = ()


class FromProvided(msgspec.Struct, frozen=True, tag="provided"):
    """A live object, by name: `Engine(provided={name: ...})`, or `NodeContext`, or `Failure`."""

    name: str


Binding = Const | FromNode | FromParam | Gather | FromProvided


class Arg(msgspec.Struct, frozen=True):
    """One argument of a node. `each`: the node is a map and this is iterated over."""

    name: str
    value: Binding
    each: bool = False


# --- tasks and nodes --------------------------------------------------------------------------


class TaskSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to run and how: shared by all nodes that call the same task with the same options.

    `backend` is never empty in a compiled plan. Times are in seconds. `limit` bounds how many
    items of one map run at once (0: no bound of its own). `pool` names an engine-wide pool.
    `source` is a hash of the function's source.
    """

    name: str
    work: Work
    backend: str
    is_async: bool = False
    retry: RetryPolicy = RetryPolicy()
    timeout: float | None = None
    node_timeout: float | None = None
    pool: str = ""
    limit: int = 0
    resources: Resources = Resources()
    options: dict[str, str | int | float | bool | list[str] | dict[str, str]] = msgspec.field(
        default_factory=dict
    )
    codec: str = ""
    source: str = ""
    params: tuple[str, ...] = ()
    """Parameter names in the order of the signature; positional-only ones among them."""
    cache: str = ""
    """Version of a cached task: it counts into the key of its values. "" for one that is not."""


class Arm(msgspec.Struct, frozen=True, kw_only=True):
    """One of the bodies among which a branch, a switch or a rescue chooses.

    `name` is what keys show (`gate?high`): `then` and `otherwise` of a branch; of a switch the
    text of the key where that is a name, `case-<n>` else, and `default`; `body` and `handler` of
    a rescue. `key` is the value that chooses the arm of a switch; None for `default` and
    elsewhere. `args` bind the parameters of `body`, in the fragment that holds the node.
    """

    name: str
    body: Fragment
    args: tuple[Arg, ...] = ()
    key: str | int | bool | None = None


OnLimit = Literal["fail", "return"]
"""What a repeat does that reached its limit: fail, or give the state that it has."""


class PlanNode(msgspec.Struct, frozen=True, kw_only=True):
    """One node of a fragment.

    `task` is a position in `Plan.tasks`, for kind `task` and for a map over a task. `body` is the
    fragment of a sub-graph, of a map over a graph, or of one iteration of a repeat. `waits` are
    the positions of all nodes that must end well before this one starts: data edges and
    order-only edges, each once. `feeds` are the positions of the nodes that wait for this one.

    A **branch** or **switch** has one argument, the value that decides, and `arms`. A **rescue**
    has two arms and no arguments. What their arms take is among `waits`.

    A **repeat** has `body`: node 0 is the call that makes the next state, node 1 the test that
    says whether to stop, its value is node 0's. The parameter `state` of the body gets, in the
    first iteration, the argument `state`, later the value of the iteration before; all other
    parameters get the same in each. `most` bounds the iterations.

    `always`: it runs whatever became of its waits, also in a scope that failed or is cancelled;
    only those waits in `needs`, whose values it takes, must have ended well. `cleans` are the
    positions of the `always` nodes among `feeds`.

    `tolerant`: of a map whose consumers take `list[T | Failure]`: under `continue` an item that
    failed does not fail the map; its place in the value holds the failure.
    """

    position: int
    name: str
    kind: NodeKind
    args: tuple[Arg, ...] = ()
    waits: tuple[int, ...] = ()
    feeds: tuple[int, ...] = ()
    task: int | None = None
    body: Fragment | None = None
    limit: int = 0
    always: bool = False
    where: str = ""
    """`file:line` of the call, for messages."""
    arms: tuple[Arm, ...] = ()
    most: int = 0
    on_limit: OnLimit = "fail"
    needs: tuple[int, ...] = ()
    cleans: tuple[int, ...] = ()
    tolerant: bool = False

    @property
    def bodies(self) -> tuple[Fragment, ...]:
        """Every fragment inside: its own body, or those of its arms in order."""
        if self.body is not None:
            return (self.body,)
        return tuple([arm.body for arm in self.arms])


class ParamSpec(msgspec.Struct, frozen=True):
    """A parameter of a fragment. `required` is False where the graph's own default serves.

    `type` is the annotation as people read it, "" where there is none.
    """

    name: str
    required: bool = True
    default: Stored = None
    type: str = ""


class Fragment(msgspec.Struct, frozen=True, kw_only=True):
    """The nodes of one body. `result` is the binding that makes the body's value."""

    name: str
    params: tuple[ParamSpec, ...] = ()
    nodes: tuple[PlanNode, ...] = ()
    result: Binding = Const(None)


@dataclass(slots=True, eq=False)
class TaskRuntime:
    """The live side of a task: what a plan cannot write down.

    `function` is the plain function; `accepts` maps parameters to their annotations (absent =
    any value), `returns` is the return annotation (None-able: `inspect.Signature.empty` = any).
    """

    function: Callable[..., object] | None
    accepts: Mapping[str, object] = field(default_factory=dict)
    returns: object = None
    typed_return: bool = False


@dataclass(slots=True, eq=False)
class Plan:
    """A compiled graph. `fingerprint` covers structure, options, references and source hashes.

    `runtimes[i]` is the live side of `tasks[i]`; a plan loaded from JSON fills it by importing
    the tasks' references (`onready.engine.plan.link`).
    """

    name: str
    root: Fragment
    tasks: tuple[TaskSpec, ...]
    fingerprint: str
    runtimes: tuple[TaskRuntime, ...] = ()
    on_error: OnError = "stop"
    timeout: float | None = None
    param_types: Mapping[str, object] = field(default_factory=dict)
    """Annotations of the root's parameters, for reading inputs and flags; absent = any."""
    result_type: object = None
    """Annotation of the root's result, or None."""
    location: Location | None = None
