"""A daemon that is killed while containers run (F8): each verdict is what truly happened.

What truly happened the containers write down themselves, as the last thing that they do.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from onready.backends.docker.backend import DockerBackend, DockerConfig
from onready.engine.errors import BackendError
from onready.engine.spi import Attempt, Failed, Lost, Outcome, Shell, Succeeded
from onready.engine.testing.fakes import RecordingReporter
from tests.backends.kit import Bench, directory
from tests.docker import engines
from tests.docker.engines import SHELL
from tests.faults.sizes import NIGHTLY, size

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(1800 if NIGHTLY else 120)]

LACK = engines.lack()
if LACK and not engines.REQUIRED:
    pytestmark.append(pytest.mark.skip(reason=f"NO DOCKER ENGINE, its faults do not run: {LACK}"))

ROUNDS = size(1, 20)
CONTAINERS = 4
CODES = (0, 0, 3, 7)
UNKNOWN = 255
"""What the daemon says where it has lost a container's code."""
SCRIPT = """
echo begun; echo begun >> {ledger}
sleep {pause}
echo ended; echo ended >> {ledger}; exit {code}
"""


@pytest.fixture
def anyio_backend() -> str:
    """Asyncio alone: as aiodocker is."""
    return "asyncio"


class Round:
    """Some containers, each with its ledger, and what became of them."""

    def __init__(self, bench: Bench, folder: Path, chance: random.Random) -> None:
        folder.mkdir()
        self.codes: dict[Path, int] = {}
        self.attempts: dict[Path, Attempt] = {}
        self.outcomes: dict[Path, Outcome | BackendError] = {}
        self.output: dict[Path, bytes] = {}
        for number, code in enumerate(CODES):
            ledger = folder / f"{number}"
            text = SCRIPT.format(ledger=ledger, pause=chance.uniform(0.2, 3.0), code=code)
            attempt = bench.attempt(Shell(("sh", "-c", text), image=SHELL))
            attempt.options = {"mounts": [f"{folder}:{folder}"]}
            self.codes[ledger], self.attempts[ledger] = code, attempt

    async def run(self, backend: DockerBackend, ledger: Path) -> None:
        report = RecordingReporter()
        try:
            self.outcomes[ledger] = await backend.execute(self.attempts[ledger], report)
        except BackendError as error:
            self.outcomes[ledger] = error
        self.output[ledger] = report.output("stdout")

    def judge(self) -> list[str]:
        """Compare verdicts with the truth; the kinds of verdicts there were."""
        return [self._verdict(ledger, outcome) for ledger, outcome in self.outcomes.items()]

    def _verdict(self, ledger: Path, outcome: Outcome | BackendError) -> str:
        said = ledger.read_bytes() if ledger.exists() else b""
        code = self.codes[ledger]
        if isinstance(outcome, BackendError):
            assert outcome.retryable, outcome
            assert not said, f"{outcome}, and it did begin"
            return "not started"
        if isinstance(outcome, Lost):  # it died while it started it: nobody can know
            assert "may have run" in outcome.failure.message
            return "lost, and had begun" if said else "lost, and had not begun"
        # What a container writes before it ends while its daemon is away Docker itself loses.
        assert said.startswith(self.output[ledger])
        if isinstance(outcome, Succeeded):
            assert (code, said) == (0, b"begun\nended\n")
            return "succeeded"
        assert isinstance(outcome, Failed), outcome
        failure = outcome.failure
        if failure.kind == "exit":
            assert (failure.exit_code, said) == (code, b"begun\nended\n"), failure
            return "failed"
        assert failure.kind == "evicted", failure
        if failure.exit_code == UNKNOWN:  # Docker itself does not know
            assert "it does not know how" in failure.message
            return "unknown"
        assert said in {b"", b"begun\n"}, "it ended by itself, and is said to have been stopped"
        return "evicted"


@pytest.mark.parametrize("live", [True, False][: size(1, 2)])
async def test_a_daemon_that_is_killed_hides_no_truth(
    tmp_path: Path, live: bool, record_property: Callable[[str, object], None]
) -> None:
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    arguments = ("--live-restore",) if live else ()
    verdicts: list[str] = []
    with engines.daemon(*arguments) as daemon:
        config = DockerConfig(host=daemon.host, image=SHELL, limit=CONTAINERS, patience=60)
        async with directory(tmp_path) as catalog, config.open() as backend:
            bench = Bench(catalog, tmp_path)
            for number in range(ROUNDS):
                here = Round(bench, tmp_path / f"{number}", chance)
                async with anyio.create_task_group() as tasks:
                    for ledger in here.attempts:
                        tasks.start_soon(here.run, backend, ledger)
                    await anyio.sleep(chance.uniform(0.1, 2.0))
                    await anyio.to_thread.run_sync(daemon.kill)
                    await anyio.sleep(chance.uniform(0.0, 1.0))
                    await anyio.to_thread.run_sync(daemon.serve, *arguments)
                assert len(here.outcomes) == CONTAINERS
                try:
                    verdicts += here.judge()
                except AssertionError as error:
                    error.add_note(f"seed {seed}, round {number}")
                    raise
        left = await anyio.to_thread.run_sync(daemon.docker, "ps", "-aq")
    assert not left
    counts = {verdict: verdicts.count(verdict) for verdict in sorted(set(verdicts))}
    record_property("verdicts", counts)
    print(f"\nlive-restore {live}: {ROUNDS} kills, {counts}")
