"""Rows and scopes: the scheduler's whole memory.

Rule of this room: data only. `value` and `values` belong to the dispatcher; the scheduler carries
them and never looks inside.
"""

from __future__ import annotations

import enum

import msgspec

from onready.engine.errors import Failure
from onready.engine.names import NodeKey
from onready.engine.plan.model import Fragment, PlanNode


class State(enum.Enum):
    """Where a row is. The ways between are in `transitions.py`."""

    # Members are singletons: identity is faster than Enum's own, which is a call into Python.
    __hash__ = object.__hash__

    WAITING = "waiting"
    READY = "ready"
    PLANNED = "planned"
    RUNNING = "running"
    BACKING_OFF = "backing_off"
    CANCELLING = "cancelling"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    LOST = "lost"
    CANCELLED = "cancelled"
    SKIPPED = "skipped"


# Module-level names: an attribute of an Enum class costs a descriptor call on the hot path.
WAITING = State.WAITING
READY = State.READY
PLANNED = State.PLANNED
RUNNING = State.RUNNING
BACKING_OFF = State.BACKING_OFF
CANCELLING = State.CANCELLING
SUCCEEDED = State.SUCCEEDED
FAILED = State.FAILED
LOST = State.LOST
CANCELLED = State.CANCELLED
SKIPPED = State.SKIPPED

TERMINAL = frozenset({SUCCEEDED, FAILED, LOST, CANCELLED, SKIPPED})


class Row(msgspec.Struct, eq=False, gc=False):
    """One node instance.

    Unknown to the garbage collector, which would look at each of a wide map's rows again and
    again and stall the loop for it. So whoever is done with a scope empties its `rows`: see
    `Scheduler.forget`.

    `kind` says what to do when it becomes ready: run a `task`, or open the body of a composite.
    `pending` counts the waits that have not ended. `attempt` is the number of the last attempt.
    `past` of those were made before the run was continued by a retry: they used up nothing.
    `item` is the position in a map or a repeat, -1 elsewhere. `body` is the open scope of a
    composite. `failure` is the last attempt's; of a rescue, what its handler is to receive.
    A Struct, because building one costs a fifth of building an object with `__init__`.
    """

    node: PlanNode
    scope: Scope
    key: NodeKey
    kind: str
    pending: int = 0
    state: State = WAITING
    item: int = -1
    attempt: int = 0
    retries: int = 0
    infrastructure_retries: int = 0
    value: object = None
    body: Scope | None = None
    failure: Failure | None = None
    past: int = 0


class Scope(msgspec.Struct, eq=False):
    """One live composite instance, or the whole run (`owner` None).

    The rows are the nodes of `fragment`, or the items of a map or the iterations of a repeat
    (`fragment` None). `total` is how many there will be (of a repeat: so far), `left` how many
    have not ended, opened or not. `doomed`: a node in it failed for good and nothing new starts
    but its clean-up nodes. `cancelling`: likewise, and what runs is cancelled. `forced`: the
    grace is over, clean-up nodes are cancelled too. `decided`: no iteration follows.
    `unopened` rows were never made for that reason: `total` is without them, and they are counted
    in `cancelled` or `skipped`.
    """

    key: NodeKey | None
    owner: Row | None
    fragment: Fragment | None
    total: int
    left: int
    rows: list[Row] = msgspec.field(default_factory=list)
    doomed: bool = False
    cancelling: bool = False
    closed: bool = False
    failed: int = 0
    cancelled: int = 0
    skipped: int = 0
    unopened: int = 0
    culprit: NodeKey | None = None
    values: object = None
    forced: bool = False
    decided: bool = False
