"""The scheduler against a naive model: any plan, any order of facts, old news among them.

`ONREADY_EXAMPLES=50000` looks at more than the ordinary run does.
"""

from __future__ import annotations

import os
import random
from typing import Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from onready.engine.options import OnError
from onready.engine.plan.model import Plan
from onready.engine.scheduler import ends
from tests.scheduler.plans import plans
from tests.scheduler.playing import MOODS, Playing

EXAMPLES: Final = int(os.environ.get("ONREADY_EXAMPLES", "1000"))
POLICIES: Final[tuple[OnError, ...]] = ("stop", "continue", "cancel")

choices = st.integers(0, 2**20)


class AgainstModel(RuleBasedStateMachine):
    """One example is one run. The comparisons are in `Playing.flush`."""

    playing: Playing

    @initialize(
        plan=plans,
        on_error=st.sampled_from(POLICIES),
        budget=st.sampled_from((1, 2, 3, 7, 1000)),
        cancel_after=st.none() | st.integers(0, 60),
        forget=st.booleans(),
        mood=st.integers(0, MOODS - 1),
    )
    def begin(
        self,
        plan: Plan,
        on_error: OnError,
        budget: int,
        cancel_after: int | None,
        mood: int,
        *,
        forget: bool,
    ) -> None:
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(ends, "BUDGET", budget)
        self.playing = Playing(plan, on_error, forget=forget, mood=mood)
        self.moves_to_cancel = cancel_after

    @rule(seed=st.integers(0, 2**32 - 1), count=st.integers(1, 12), batch=st.integers(1, 4))
    def go_on(self, seed: int, count: int, batch: int) -> None:
        """Some moves out of a seed, handed over in batches."""
        source = random.Random(seed)
        self._move([source.randrange(2**20) for _ in range(count)], batch)

    @rule(moves=st.lists(choices, min_size=1, max_size=6), batch=st.integers(1, 4))
    def choose(self, moves: list[int], batch: int) -> None:
        """The same, move by move: what a found example shrinks to."""
        self._move(moves, batch)

    def _move(self, moves: list[int], batch: int) -> None:
        for choice in moves:
            if self.moves_to_cancel is not None:
                self.moves_to_cancel -= 1
                if not self.moves_to_cancel:
                    self.playing.cancel()
            self.playing.move(choice)
            if len(self.playing.inbox) >= batch:
                self.playing.flush()

    @rule()
    def flush(self) -> None:
        self.playing.flush()

    @rule(choice=choices)
    def say_again(self, choice: int) -> None:
        self.playing.say_again(choice)

    @precondition(lambda self: self.playing.live)
    @rule(choice=choices)
    def say(self, choice: int) -> None:
        self.playing.say(choice)

    def teardown(self) -> None:
        if hasattr(self, "patch"):
            try:
                self.playing.finish()
            finally:
                self.patch.undo()


TestAgainstModel = AgainstModel.TestCase
TestAgainstModel.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=12,
    deadline=None,
    # The ordinary run is the same everywhere; a longer one looks elsewhere each time.
    derandomize=EXAMPLES <= 1000,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestAgainstModel = pytest.mark.timeout(60 + EXAMPLES)(TestAgainstModel)
