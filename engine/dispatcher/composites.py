"""Composites: what opens, which arm, how many items, whether another iteration; and their values.

The scheduler asks (`Open`, `Decide`, `Close`), the answers are facts in the inbox. What needs no
waiting is answered at once; values that must be fetched or decoded are waited for in a coroutine.

What may not live here: when a composite opens, and what its end means to others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TYPE_CHECKING, Final

from onready.engine.dispatcher.flow import ANY, Folder, Rounds
from onready.engine.dispatcher.tasks import SCALARS
from onready.engine.errors import Failure
from onready.engine.events import NodeSkipped, ScopeOpened, ScopeStatus
from onready.engine.plan.model import Arm
from onready.engine.scheduler.commands import Decided
from onready.engine.scheduler.finding import forget
from onready.engine.scheduler.state import READY, RUNNING, Row, Scope, State

if TYPE_CHECKING:
    from onready.engine.dispatcher.core import Dispatcher
    from onready.engine.dispatcher.flow import Value

THEN: Final = "then"
OTHERWISE: Final = "otherwise"
BODY: Final = "body"
HANDLER: Final = "handler"
DEFAULT: Final = "default"


class Composites:
    """The composites of one run."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    # --- opening ------------------------------------------------------------------------------

    def open(self, row: Row) -> None:
        """Find out what the body of `row` is, and report it."""
        kind = row.kind
        flow = self._dispatcher.flow
        if kind == "subgraph":
            row.value = flow.parameters(row, row.node.body, row.node.args)
            self._opened(row)
        elif kind == "map":
            self._later(row, self._open_map)
        elif kind == "repeat":
            row.value = Rounds({arg.name: flow.argument(row, arg) for arg in row.node.args})
            self._opened(row, count=1)
        elif kind == "rescue":
            self._enter(row, row.node.arms[0] if row.failure is None else row.node.arms[1])
        else:
            value = flow.argument(row, row.node.args[0])
            if type(value) in SCALARS:
                self._choose(row, value)
            else:
                self._later(row, partial(self._load_and_choose, value=value))

    def _opened(self, row: Row, count: int | None = None, arm: str | None = None) -> None:
        dispatcher = self._dispatcher
        event = ScopeOpened(0, dispatcher.now(), row.key, count, arm)
        dispatcher.inbox.append((row, event))

    def _later(self, row: Row, work: Callable[[Row], Awaitable[None]]) -> None:
        self._dispatcher.loop.spawn(partial(self._guarded, row, row.state, work))

    async def _guarded(
        self, row: Row, state: State, work: Callable[[Row], Awaitable[None]]
    ) -> None:
        """Do it as long as the row is in the state that it was in when this was asked for."""
        dispatcher = self._dispatcher
        if row.state is not state:
            return  # skipped or cancelled before this task had its turn
        try:
            await work(row)
        except Exception as error:  # noqa: BLE001 - what keeps a composite from opening fails it
            if row.state is state:
                dispatcher.outcomes.failed(row, 0, dispatcher.outcomes.failure_of(row, 0, error))
        dispatcher.turn_and_wake()

    async def _open_map(self, row: Row) -> None:
        dispatcher = self._dispatcher
        found = await dispatcher.flow.items(row, dispatcher.reporters.folder(row.key, 0))
        if row.state is not READY:
            return  # skipped or cancelled meanwhile
        if isinstance(found, Failure):
            dispatcher.outcomes.failed(row, 0, found)
        else:
            row.value, count = found
            self._opened(row, count=count)

    async def prepare(self, row: Row, arm: str | None) -> int | Failure | None:
        """In a replay: make what the body of `row` needs, as it was opened before.

        How many items or iterations it has at first, 0 where it has none of either; None where
        the plan has no such body; a Failure where its items cannot be had any more.
        """
        flow = self._dispatcher.flow
        kind = row.kind
        if kind == "map":
            found = await flow.items(row, self._dispatcher.reporters.folder(row.key, 0))
            if isinstance(found, Failure):
                return found
            row.value, count = found
            return count
        if kind == "repeat":
            row.value = Rounds({arg.name: flow.argument(row, arg) for arg in row.node.args})
            return 1
        if kind == "subgraph":
            row.value = flow.parameters(row, row.node.body, row.node.args)
            return 0
        chosen = next((each for each in row.node.arms if each.name == arm), None)
        if chosen is None:
            return None
        row.value = flow.parameters(row, chosen.body, chosen.args)
        return 0

    # --- arms ---------------------------------------------------------------------------------

    async def _load_and_choose(self, row: Row, value: Value) -> None:
        folder = Folder(self._dispatcher.reporters.folder(row.key, 0))
        loaded = await self._dispatcher.flow.load(value, ANY, folder)
        if row.state is READY:
            self._choose(row, loaded)

    def _choose(self, row: Row, value: object) -> None:
        chosen = _arm_of(row, value)
        if chosen is None:
            keys = ", ".join(repr(arm.key) for arm in row.node.arms)
            message = f"{value!r:.200} is none of the keys ({keys}), and there is no default"
            self._dispatcher.outcomes.failed(row, 0, Failure("error", message, "SwitchError"))
            return
        self._enter(row, chosen)
        now = self._dispatcher.now()
        for arm in row.node.arms:
            if arm is not chosen:
                scope = row.key.choose(arm.name)
                reason = f"{row.key} chose {chosen.name}"
                for node in arm.body.nodes:
                    # No row: these were never opened, and nothing follows from it.
                    event = NodeSkipped(0, now, scope.child(node.name), reason=reason)
                    self._dispatcher.inbox.append((None, event))

    def _enter(self, row: Row, arm: Arm) -> None:
        row.value = self._dispatcher.flow.parameters(row, arm.body, arm.args)
        self._opened(row, arm=arm.name)

    # --- repeats ------------------------------------------------------------------------------

    def decide(self, row: Row) -> None:
        """An iteration ended well: report the next one, or the end."""
        rounds = _rounds(row)
        if type(rounds.test) in SCALARS:
            self._decide(row, done=bool(rounds.test))
        else:
            self._later(row, self._load_and_decide)

    async def _load_and_decide(self, row: Row) -> None:
        folder = Folder(self._dispatcher.reporters.folder(row.key, 0))
        loaded = await self._dispatcher.flow.load(_rounds(row).test, ANY, folder)
        if row.state is RUNNING:
            self._decide(row, done=bool(loaded))

    def _decide(self, row: Row, *, done: bool) -> None:
        node = row.node
        body = row.body
        assert body is not None
        if done or (body.total >= node.most and node.on_limit == "return"):
            self._dispatcher.inbox.append((row, Decided()))
        elif body.total < node.most:
            self._opened(row, count=body.total + 1)
        else:
            message = f"not done after {node.most} iterations, its limit"
            self._dispatcher.outcomes.failed(row, 0, Failure("error", message, "LimitReached"))

    # --- ends ---------------------------------------------------------------------------------

    def close(self, row: Row, status: ScopeStatus) -> None:
        """The composite ended: make its value, let go of its rows."""
        body = row.body
        if status == "succeeded":
            row.value = self._dispatcher.flow.gather(row)
            if row.item >= 0 and row.node.kind == "repeat" and body is not None:
                rounds: Rounds = row.scope.values  # type: ignore[assignment] # opaque there
                rounds.state, rounds.test = row.value, body.rows[1].value  # type: ignore[assignment] # as above
        self._dispatcher.admission.forget_map(row)
        # Nobody inside is heard any more; a wide map's rows go.
        if body is not None:  # pragma: no branch - what closes was open
            forget(body)
            row.body = None


def _rounds(row: Row) -> Rounds:
    body: Scope | None = row.body
    assert body is not None
    assert isinstance(body.values, Rounds)
    return body.values


def _arm_of(row: Row, value: object) -> Arm | None:
    """The arm that `value` chooses, None where there is none."""
    if row.kind == "branch":
        wanted = THEN if value else OTHERWISE
        return next(arm for arm in row.node.arms if arm.name == wanted)
    for arm in row.node.arms:
        # By type too: True is no 1.
        if arm.key is not None and type(arm.key) is type(value) and arm.key == value:
            return arm
    return next((arm for arm in row.node.arms if arm.key is None), None)
