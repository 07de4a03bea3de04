"""Driving one run from the command line: signals, progress, the result or the error block.

Rule of this room: asks the engine for everything; asyncio only.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onready.cli.board import Board
from onready.cli.common import engine_for
from onready.cli.console import Console
from onready.cli.exits import CANCELLED, FAILED, OK, Exit
from onready.cli.lines import summary
from onready.cli.logging import name_nodes_in_logs
from onready.cli.progress import Progress
from onready.cli.signals import Interrupts, kill_children
from onready.cli.streams import captured
from onready.cli.words import counted, took
from onready.config import Config

if TYPE_CHECKING:
    from onready import Engine, Run
    from onready.cli.run import Options
    from onready.engine.graph import Bound
    from onready.engine.run import RunOutcome


@dataclass(frozen=True, slots=True)
class Request:
    """What to run, and how."""

    bound: Bound[object]
    address: str
    options: Options
    config: Config


async def drive(request: Request, console: Console) -> int:
    """Run it to its end; the exit code."""
    driver = Driver(request, console)
    with Interrupts(driver.first_signal, driver.second_signal) as interrupts, captured():
        driver.interrupts = interrupts
        name_nodes_in_logs()
        try:
            return await driver.run()
        except asyncio.CancelledError:
            # A signal before the run had begun: there is nothing to cancel but ourselves.
            if not interrupts.happened:
                raise
            raise Exit(interrupts.code, "cancelled before the run began") from None


class Driver:
    """One run, from its start to the last line about it."""

    def __init__(self, request: Request, console: Console) -> None:
        self.request = request
        self.console = console
        self.interrupts: Interrupts | None = None
        self._task = asyncio.current_task()
        self._run: Run[object] | None = None
        self._starting = False
        self._progress: Progress | None = None
        self._cancels: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Open the engine, start the run, watch it, tell."""
        options = self.request.options
        async with engine_for(self.request.config, memory=options.memory) as engine:
            self._starting = True
            run = await engine.start(
                self.request.bound,
                id=options.run_id,
                name=options.run_name,
                on_error=options.on_error,
                timeout=options.timeout,
                backend=options.backend,
                select=options.select,
                target=self.request.address,
            )
            self._run = run
            board = Board(run.plan)
            self.console.say(f"{self.console.err(run.plan.name, 'bold')}  run {run.name}")
            async with Progress(self.console, board) as self._progress:
                if self.interrupts is not None and self.interrupts.happened:
                    self.first_signal()
                async for event in run.events():
                    board.apply(event)
                    self._progress.changed()
                outcome = await run.wait()
            for task in tuple(self._cancels):
                await task
            self._progress.finish()
            if options.format == "json":
                self._tell_json(run, board, outcome)
            if outcome.status == "succeeded":
                self._tell_success(run, board, outcome.value)
                return OK
            if outcome.status == "cancelled":
                self._tell_cancelled(run, board)
                return self._cancelled_code()
            if outcome.error is not None:
                raise outcome.error
            await self._tell_failure(engine, run)
            return FAILED

    # --- signals ------------------------------------------------------------------------------

    def first_signal(self) -> None:
        """Cancel the run and give its nodes time to end."""
        if self._run is None:
            # While the run is being recorded its first nodes may run already: it is cancelled
            # in order once we hold it.
            if not self._starting:
                self._give_up()
            return
        grace = self.request.config.grace
        self._announce(
            f"cancelling: what runs has {took(grace)} to end; Ctrl-C again kills it at once"
        )
        self._cancel(grace)

    def second_signal(self) -> None:
        """Kill what still runs: the nodes' processes at once, then the run is given up."""
        self._announce("killing what still runs")
        kill_children()
        if self._run is None:
            self._give_up()
        self._cancel(0.0)

    def _give_up(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _cancelled_code(self) -> int:
        if self.interrupts is None:
            return CANCELLED
        if self.interrupts.killing:
            # The end is recorded; threads that still run would keep the engine from closing.
            self.interrupts.leave()
        return self.interrupts.code

    def _cancel(self, grace: float) -> None:
        run = self._run
        if run is None:
            return

        async def cancel() -> None:
            await run.cancel(reason="interrupted", grace=grace)

        task = asyncio.create_task(cancel(), name="onready cancel")
        self._cancels.add(task)
        task.add_done_callback(self._cancels.discard)

    def _announce(self, text: str) -> None:
        if self._progress is not None:
            self._progress.note = text
        if not self.console.live:
            self.console.complain(text)

    # --- telling ------------------------------------------------------------------------------

    def _tell_success(self, run: Run[object], board: Board, value: object) -> None:
        console = self.console
        if self.request.options.format == "text" and value is not None:
            console.out(result_text(value))
        console.say(
            f"{console.err(console.tick(), 'green')} {console.err(run.name, 'bold')} succeeded: "
            f"{summary(board)}"
        )
        self._tell_output(board)

    def _tell_output(self, board: Board) -> None:
        """Where to read what nodes printed: it is kept with them, and not shown here."""
        nodes = {key for key, _ in board.logged}
        if nodes and not self.request.options.memory:
            first = f" {min(map(str, nodes))}" if len(nodes) == 1 else ""
            self.console.say(f"  output of {counted(len(nodes), 'node')}: onready logs last{first}")

    def _tell_cancelled(self, run: Run[object], board: Board) -> None:
        console = self.console
        mark, name = console.err("-", "yellow"), console.err(run.name, "bold")
        done = f"{board.count('succeeded'):,} of {counted(board.done, 'node')} had succeeded"
        elapsed = took((board.ended or board.last) - board.began)
        console.complain(f"{mark} {name} cancelled after {elapsed}: {done}")

    async def _tell_failure(self, engine: Engine, run: Run[object]) -> None:
        from onready.cli.failure import error_block
        from onready.cli.history import read_story

        story = await read_story(engine, run.id, run.plan)
        kept = not self.request.options.memory
        for line in error_block(story, run.name, self.console, kept=kept):
            self.console.complain(line)

    def _tell_json(self, run: Run[object], board: Board, outcome: RunOutcome[object]) -> None:
        data: dict[str, object] = {
            "run": run.id,
            "name": run.name,
            "graph": run.plan.name,
            "status": outcome.status,
            "took": round(outcome.ended - outcome.started, 6),
            "nodes": {
                word: board.count(word)
                for word in ("succeeded", "failed", "lost", "cancelled", "skipped", "cached")
            },
        }
        if outcome.status == "succeeded":
            data["value"] = jsonable(outcome.value)
        if board.failures:
            from onready.cli.failure import failure_json

            data["failures"] = [failure_json(failure) for _, failure, _ in board.failures]
        self.console.out(json.dumps(data))


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
