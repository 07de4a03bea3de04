"""Driving one run from the command line: signals, progress, the result or the error block.

Rule of this room: asks the engine for everything; asyncio only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onready.cli.board import Board
from onready.cli.common import engine_for
from onready.cli.console import Console
from onready.cli.exits import CANCELLED, FAILED, OK, Exit
from onready.cli.logging import name_nodes_in_logs
from onready.cli.progress import Progress
from onready.cli.signals import Interrupts, kill_children
from onready.cli.streams import captured
from onready.cli.telling import Teller
from onready.cli.words import took
from onready.config import Config
from onready.engine.errors import EnvironmentFault

if TYPE_CHECKING:
    from onready import Engine, Run
    from onready.engine.run import RunOutcome


@dataclass(frozen=True, slots=True)
class Request:
    """What to drive. `start` gives the run, new or gone on with, and how many of its events were
    there before. `memory`: nothing is kept; `as_json`: the result is said as JSON.
    """

    start: Callable[[Engine], Awaitable[tuple[Run[object], int]]]
    config: Config
    memory: bool = False
    as_json: bool = False


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
        self._known = 0
        self._progress: Progress | None = None
        self._cancels: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        """Open the engine, start the run, watch it, tell; the exit code."""
        request, console = self.request, self.console
        async with engine_for(request.config, memory=request.memory) as engine:
            self._starting = True
            run, self._known = await request.start(engine)
            self._run = run
            board = Board(run.plan)
            console.say(f"{console.err(run.plan.name, 'bold')}  run {run.name}")
            outcome = await self._watch(run, board)
            teller = Teller(console, run, board, json=request.as_json, kept=not request.memory)
            teller.result(outcome)
            if outcome.status == "succeeded":
                return OK
            if outcome.status == "cancelled":
                return self._cancelled_code()
            if outcome.error is not None:
                raise outcome.error
            await teller.failure(engine)
            return FAILED

    async def _watch(self, run: Run[object], board: Board) -> RunOutcome[object]:
        """Show the run until it has ended."""
        async with Progress(self.console, board) as progress:
            self._progress = progress
            if self.interrupts is not None and self.interrupts.happened:
                self.first_signal()
            # A store that fails ends the events; the outcome says so, too.
            with suppress(EnvironmentFault):
                async for event in run.events():
                    board.apply(event)
                    if event.seq > self._known:
                        progress.changed(event)
            outcome = await run.wait()
        for task in tuple(self._cancels):
            await task
        progress.finish()
        return outcome

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
