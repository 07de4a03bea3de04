"""The simulated world: what outlives a driver, what goes wrong in it, and when.

Chances are drawn from the seed and from what they are about, never from the order of events, so
that a change elsewhere leaves them as they are.

Rule of this room: virtual time only; no thread, no file, no process.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from onready.engine.spi import Labels, Outcome

START = 1_700_000_000.0
"""The wall clock's time at the beginning, before any jump."""


@dataclass(frozen=True, slots=True)
class Faults:
    """Chances from 0 to 1, per call or per attempt; `crashes` and `jumps` are numbers per run.

    `store_refuses`: an append fails and nothing is stored. `store_hides`: it is stored, and an
    error is reported. `store_waits`: it takes up to a second. `submit_fails`: the platform does
    not take the attempt. `submit_hides`: it takes it, and says that it has not. `backend_gives_up`:
    the backend stops what it has begun and raises an error. `evicted`, `lost`, `failed`: how
    attempts end. `repeats`: news come twice, and late. `stubborn`: an attempt takes long to stop.
    `slow`: it takes longer than most limits. `cancelled`: the user cancels the run.
    """

    store_refuses: float = 0.0
    store_hides: float = 0.0
    store_waits: float = 0.0
    submit_fails: float = 0.0
    submit_hides: float = 0.0
    backend_gives_up: float = 0.0
    evicted: float = 0.0
    lost: float = 0.0
    failed: float = 0.0
    repeats: float = 0.0
    stubborn: float = 0.0
    slow: float = 0.0
    cancelled: float = 0.0
    crashes: int = 0
    jumps: int = 0


@dataclass(slots=True)
class Work:
    """One attempt on the platform: when it ends, and with what; `stopped` before that, maybe."""

    labels: Labels
    ends: float
    outcome: Outcome
    stopped: bool = False


@dataclass(slots=True)
class World:
    """The platform, the clocks and the luck of one simulated run.

    `works` is the truth about attempts by dispatch name, `begun` how often each really began.
    `wrong` collects what no history shows. `dead` is the epoch of the newest driver that died.
    """

    seed: int
    faults: Faults
    limit: int
    works: dict[str, Work] = field(default_factory=dict)
    begun: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    happened: Counter[str] = field(default_factory=Counter)
    """Which faults struck, and how often: a simulation without any proves nothing."""
    live: set[str] = field(default_factory=set)
    dead: int = 0
    kill: Callable[[], None] | None = None
    """Ends the driver that is at work."""
    _steps: int = 0
    _crashes: set[int] = field(default_factory=set)
    _jumps: list[tuple[float, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        draw = self.luck("plan of the run")
        self._crashes = {draw.randint(1, 60) for _ in range(self.faults.crashes)}
        sizes = (3600.0, -3600.0, 86_400.0, -86_400.0)
        self._jumps = [
            (draw.uniform(0.0, 30.0), draw.choice(sizes)) for _ in range(self.faults.jumps)
        ]

    def luck(self, *about: object) -> random.Random:
        """What is drawn for this; the same for the same seed."""
        text = "/".join(map(str, (self.seed, *about)))
        return random.Random(text)  # noqa: S311 - a simulation's luck

    def strikes(self, chance: float, what: str, *about: object) -> bool:
        """Whether the fault `what` happens here; each asking about the same is another chance."""
        if not chance:
            return False
        place = "/".join(map(str, (what, *about)))
        self.calls[place] += 1
        struck = self.luck(place, self.calls[place]).random() < chance
        if struck:
            self.happened[what] += 1
        return struck

    # --- clocks -------------------------------------------------------------------------------

    def monotonic(self) -> float:
        """Seconds that only rise."""
        return trio.current_time()

    def wall(self) -> float:
        """UTC seconds, as the machine's clock has them: it jumps."""
        now = trio.current_time()
        return START + now + sum(size for at, size in self._jumps if at <= now)

    # --- crashes ------------------------------------------------------------------------------

    def is_dead(self, epoch: int) -> bool:
        """Whether the driver of that epoch has died: nothing that it does has an effect."""
        return epoch <= self.dead

    async def step(self, epoch: int) -> None:
        """A moment between two effects, at which a driver may die. A dead one does not return."""
        if not self.is_dead(epoch):
            self._steps += 1
            if self._steps in self._crashes:
                self.happened["crash"] += 1
                self.dead = epoch
                if self.kill is not None:
                    self.kill()
        if self.is_dead(epoch):
            await trio.sleep_forever()
