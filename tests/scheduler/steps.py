"""Short words for what happens to a scheduler, for tests that tell a story fact by fact."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

from onready.engine.errors import Failure
from onready.engine.events import (
    NodeFailed,
    NodeLost,
    NodeRetrying,
    NodeStarted,
    NodeSucceeded,
    RunCancelling,
    ScopeOpened,
)
from onready.engine.names import NodeKey
from onready.engine.options import OnError
from onready.engine.plan.model import Plan
from onready.engine.scheduler.commands import (
    Close,
    Command,
    Decide,
    Decided,
    Drop,
    End,
    Fact,
    GraceOver,
    Open,
    Skip,
    Start,
)
from onready.engine.scheduler.core import Scheduler
from onready.engine.scheduler.invariants import check
from onready.engine.scheduler.state import READY, Row, Scope
from tests.scheduler.playing import failure


class Steps:
    """A scheduler, and rows by their printed keys. `log` is what was commanded, in words."""

    def __init__(self, plan: Plan, on_error: OnError = "stop") -> None:
        self.scheduler = Scheduler(plan, on_error)
        self.log: list[str] = []
        self._say(self.scheduler.begin())

    @property
    def deepest(self) -> Scope:
        """The innermost open body, going down by the first rows."""
        scope = self.scheduler.root
        while scope.rows and scope.rows[0].body is not None:
            scope = scope.rows[0].body
        return scope

    @classmethod
    def opened(cls, plan: Plan, on_error: OnError = "stop") -> Self:
        """All first composites are opened, down to the innermost; invariants are not looked at."""
        steps = cls(plan, on_error)
        while (row := steps.deepest.rows[0]).kind != "task":
            steps.scheduler.handle([(row, ScopeOpened(0, 0.0, row.key))])
        return steps

    def __getitem__(self, key: str) -> Row:
        row = self.scheduler.find(NodeKey.parse(key))
        assert row is not None
        return row

    def handle(self, *facts: Fact) -> list[str]:
        """What is commanded, in words; the invariants hold."""
        said = self._say(self.scheduler.handle(facts))
        assert check(self.scheduler) == []
        return said

    def _say(self, commands: Iterable[Command]) -> list[str]:
        said = [_in_words(command) for command in commands]
        self.log += said
        return said

    def until_quiet(self) -> list[str]:
        said: list[str] = []
        while self.scheduler.busy:
            said += self.handle()
        return said

    # --- facts --------------------------------------------------------------------------------

    def start(self, key: str) -> Fact:
        row = self[key]
        return row, NodeStarted(0, 0.0, row.key, row.attempt + 1)

    def _number(self, row: Row) -> int:
        # Started in the same batch, or before.
        return row.attempt + (row.state is READY)

    def well(self, key: str) -> Fact:
        row = self[key]
        return row, NodeSucceeded(0, 0.0, row.key, self._number(row))

    def badly(self, key: str, why: Failure | None = None) -> Fact:
        row = self[key]
        return row, NodeFailed(0, 0.0, row.key, self._number(row), why or failure())

    def refuse(self, key: str, why: Failure | None = None) -> Fact:
        """It fails without an attempt."""
        row = self[key]
        return row, NodeFailed(0, 0.0, row.key, 0, why or failure())

    def again(self, key: str, why: Failure | None = None) -> Fact:
        row = self[key]
        return row, NodeRetrying(0, 0.0, row.key, self._number(row), 1.0, why or failure())

    def lose(self, key: str) -> Fact:
        row = self[key]
        return row, NodeLost(0, 0.0, row.key, self._number(row), failure("lost"))

    def open(self, key: str, count: int | None = None, arm: str | None = None) -> Fact:
        """A body is known; of a repeat, iteration `count`."""
        row = self[key]
        return row, ScopeOpened(0, 0.0, row.key, count, arm)

    def decide(self, key: str) -> Fact:
        """No iteration follows."""
        return self[key], Decided()

    def grace_over(self) -> Fact:
        return None, GraceOver()

    def cancel(self) -> Fact:
        return None, RunCancelling(0, 0.0, "enough", 1.0)

    def succeed(self, *keys: str) -> list[str]:
        """These start and end well, in one batch each."""
        said: list[str] = []
        for key in keys:
            said += self.handle(self.start(key), self.well(key))
        return said

    def fail(self, key: str) -> list[str]:
        return self.handle(self.start(key), self.badly(key))


def _in_words(command: Command) -> str:
    if isinstance(command, Start):
        return f"start {' '.join(str(row.key) for row in command.rows)}"
    if isinstance(command, End):
        failed = " ".join(str(row.key) for row in command.failed)
        return f"end {command.status}{f': {failed}' if failed else ''}"
    name = type(command).__name__.lower()
    said = f"{name} {command.row.key}"
    if isinstance(command, Close):
        return f"{said} {command.status}"
    if isinstance(command, Skip | Drop):
        return f"{said}: {command.reason}"
    assert isinstance(command, Open | Decide) or name == "cancel"
    return said
