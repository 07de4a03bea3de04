"""How a run went, in words or as JSON: the last lines of `onready run`.

Rule of this room: what happened comes in, lines go out; the result alone goes to stdout.
"""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING

from onready.cli.board import Board
from onready.cli.console import Console
from onready.cli.lines import summary
from onready.cli.words import counted, took

if TYPE_CHECKING:
    from onready import Engine, Run
    from onready.engine.run import RunOutcome


class Teller:
    """Tells how one run went. `kept`: it can be looked at later."""

    def __init__(
        self, console: Console, run: Run[object], board: Board, *, json: bool, kept: bool
    ) -> None:
        self._console = console
        self._run = run
        self._board = board
        self._json = json
        self._kept = kept

    def result(self, outcome: RunOutcome[object]) -> None:
        """The result, and the last line but for failures: those have a block of their own."""
        if self._json:
            self._tell_json(outcome)
        if outcome.status == "succeeded":
            self._succeeded(outcome.value)
        elif outcome.status == "cancelled":
            self._cancelled()
        elif outcome.status == "interrupted":
            console = self._console
            mark, name = console.err("x", "red"), self._run.name
            console.complain(f"{mark} {name} was interrupted; go on: onready resume {name}")

    def _succeeded(self, value: object) -> None:
        console = self._console
        if not self._json and value is not None:
            console.out(result_text(value))
        mark, name = console.err(console.tick(), "green"), console.err(self._run.name, "bold")
        console.say(f"{mark} {name} succeeded: {summary(self._board)}")
        nodes = {key for key, _ in self._board.logged}
        if nodes and self._kept:
            # What nodes print is kept with them, and not shown here: say where it is.
            one = f" {min(map(str, nodes))}" if len(nodes) == 1 else ""
            console.say(f"  output of {counted(len(nodes), 'node')}: onready logs last{one}")

    def _cancelled(self) -> None:
        console, board = self._console, self._board
        mark, name = console.err("-", "yellow"), console.err(self._run.name, "bold")
        done = f"{board.count('succeeded'):,} of {counted(board.done, 'node')} had succeeded"
        elapsed = took(board.elapsed)
        console.complain(f"{mark} {name} cancelled after {elapsed}: {done}")

    async def failure(self, engine: Engine) -> None:
        """The error block."""
        from onready.cli.failure import error_block
        from onready.cli.history import read_story

        story = await read_story(engine, self._run.id, self._run.plan)
        for line in error_block(story, self._run.name, self._console, kept=self._kept):
            self._console.complain(line)

    def _tell_json(self, outcome: RunOutcome[object]) -> None:
        board = self._board
        words = ("succeeded", "failed", "lost", "cancelled", "skipped", "cached")
        data: dict[str, object] = {
            "run": self._run.id,
            "name": self._run.name,
            "graph": self._run.plan.name,
            "status": outcome.status,
            "took": round(outcome.ended - outcome.started, 6),
            "nodes": {word: board.count(word) for word in words},
        }
        if outcome.status == "succeeded":
            data["value"] = jsonable(outcome.value)
        if board.failures:
            from onready.cli.failure import failure_json

            data["failures"] = [failure_json(failure) for _, failure, _ in board.failures]
        self._console.out(json.dumps(data))


def result_text(value: object) -> str:
    """A result as it is printed: texts as they are, everything else as JSON or by its repr."""
    if isinstance(value, str):
        return value
    made = jsonable(value)
    if isinstance(made, dict | list):
        line = json.dumps(made, ensure_ascii=False)
        return line if len(line) <= 100 else json.dumps(made, ensure_ascii=False, indent=2)
    return str(value)


def jsonable(value: object) -> object:
    """`value` in JSON types, by way of msgspec and pydantic; its repr where it has no JSON form."""
    import msgspec

    with suppress(Exception):
        return json.loads(msgspec.json.encode(value))
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        with suppress(Exception):
            return json.loads(json.dumps(dump(mode="json")))
    return repr(value)
