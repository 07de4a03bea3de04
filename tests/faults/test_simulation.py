"""F24, F3, F22: runs in a simulated world, each out of a seed; a seed that fails says how to see it.

Every run is judged by the history checker and by what no history shows: how often the platform
began what, how many attempts were live, whether the run ends, and whether its value is right.
"""

from __future__ import annotations

import dataclasses

import pytest

from onready.engine.dispatcher.composites import Composites
from onready.engine.dispatcher.lanes import Lane
from onready.engine.dispatcher.outcomes import Outcomes
from onready.engine.dispatcher.replay import Replay
from onready.engine.events import AnyEvent, NodeSucceeded, RunSucceeded
from onready.engine.testing.simulation import Simulated
from onready.engine.testing.simulation_world import Faults
from tests.faults import simulate
from tests.faults.simulate import run_seed
from tests.faults.sizes import size

PIECE = 50
"""Seeds per test."""

MIXED = size(300, 20_000)
AMBIGUOUS = size(200, 1_000)
CLOCKS = size(50, 1_000)
TWICE = size(3, 1)
"""Every which seed of F24 is run a second time."""
FOUND = (
    8189,  # a composite that was cancelled before its opening had its turn
    11815,  # an iteration that was given up, resumed after its scope had been closed
    11887,  # a scope that a sweep from above had come to, resumed before it was closed
)
"""Seeds beyond the ordinary ones that showed a fault, and which."""


def judged(seed: int, kind: str) -> Simulated:
    result = run_seed(seed, kind)
    again = f"see it: python -m tests.faults.simulate {seed} {kind}"
    assert result.wrong == [], again
    assert result.end is not None, again
    return result


def pieces(most: int) -> list[int]:
    return list(range(0, most, PIECE))


@pytest.mark.parametrize("first", pieces(MIXED))
def test_faults_of_every_kind(first: int) -> None:
    for seed in range(first, min(first + PIECE, MIXED)):
        result = judged(seed, "mixed")
        if seed % TWICE == 0:
            again = run_seed(seed, "mixed")
            assert again.written == result.written, f"seed {seed} is not the same twice"


@pytest.mark.parametrize("seed", FOUND)
def test_what_was_found_once_stays_mended(seed: int) -> None:
    judged(seed, "mixed")


@pytest.mark.parametrize("first", pieces(AMBIGUOUS))
def test_what_was_done_and_reported_as_failed(first: int) -> None:
    struck = 0
    for seed in range(first, min(first + PIECE, AMBIGUOUS)):
        result = judged(seed, "ambiguous")
        struck += result.world.happened.total()
    assert struck > PIECE / 2


@pytest.mark.parametrize("first", pieces(CLOCKS))
def test_clocks_that_jump(first: int) -> None:
    for seed in range(first, min(first + PIECE, CLOCKS)):
        judged(seed, "clocks")


# --- the simulation itself ------------------------------------------------------------------------

ALONE = {
    "store refuses": Faults(store_refuses=0.1),
    "store hides": Faults(store_hides=0.1),
    "store waits": Faults(store_waits=0.5),
    "submit fails": Faults(submit_fails=0.3),
    "submit hides": Faults(submit_hides=0.3),
    "backend gives up": Faults(backend_gives_up=0.3),
    "evicted": Faults(evicted=0.3),
    "lost": Faults(lost=0.3),
    "failed": Faults(failed=0.3),
    "repeats": Faults(repeats=0.8),
    "stubborn": Faults(stubborn=1.0, cancelled=1.0),
    "slow": Faults(slow=0.3),
    "cancelled": Faults(cancelled=1.0),
    "crash": Faults(crashes=3),
}


@pytest.mark.parametrize("what", ALONE)
def test_each_fault_strikes_and_does_no_harm(what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(simulate.KINDS, "alone", ALONE[what])
    results = [judged(seed, "alone") for seed in range(12)]
    assert sum(result.world.happened[what] for result in results) > 0


def test_every_chance_is_tried_alone() -> None:
    tried = {name for faults in ALONE.values() for name in _set(faults)}
    assert tried | {"jumps"} == {field.name for field in dataclasses.fields(Faults)}


def _set(faults: Faults) -> set[str]:
    return {name for name, value in dataclasses.asdict(faults).items() if value}


def test_without_any_fault_the_first_driver_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(simulate.KINDS, "none", Faults())
    results = [judged(seed, "none") for seed in range(20)]
    assert {result.drivers for result in results} == {1}
    assert any(isinstance(result.end, RunSucceeded) for result in results)


def test_other_seeds_are_other_runs() -> None:
    assert len({run_seed(seed).written for seed in range(10)}) == 10


# --- and that it sees what is broken: a fault of ours, planted, is found ----------------------------


def found(kind: str, seeds: int = 30) -> str:
    """What is wrong in the first run in which anything is."""
    for seed in range(seeds):
        try:
            wrong = run_seed(seed, kind).wrong
        except Exception as error:  # noqa: BLE001 - it broke altogether: that is seen as well
            return repr(error)
        if wrong:
            return "\n".join(wrong)
    return ""


def test_a_limit_that_is_not_kept_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def take(lane: Lane) -> bool:
        lane.take_anyway()
        return True

    monkeypatch.setattr(Lane, "take", take)
    assert "are live, the limit is" in found("mixed")


def test_a_success_that_is_forgotten_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Replay._apply

    async def apply(replay: Replay, event: AnyEvent) -> None:
        if not isinstance(event, NodeSucceeded):
            await real(replay, event)

    monkeypatch.setattr(Replay, "_apply", apply)
    assert "[rerun]" in found("mixed")


def test_a_scope_that_is_forgotten_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Replay, "_closed", lambda _, event: None)
    assert "[scope]" in found("mixed")


def test_a_clock_that_is_believed_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Replay, "_left_of", lambda replay, row: 86_400.0)
    assert "has not ended" in found("clocks")


def test_a_driver_that_says_nothing_of_the_dead_one_is_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Outcomes, "driver_lost", lambda *_: None)
    assert "has not ended" in found("mixed")


def test_the_wrong_arm_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Composites._choose

    def choose(composites: Composites, row: object, value: object) -> None:
        real(composites, row, not value)  # type: ignore[arg-type] # a row, passed on

    monkeypatch.setattr(Composites, "_choose", choose)
    assert "should" in found("mixed")
