"""A program that drives a run of containers, to be killed: `python -m` this module.

Rule of this room: what a driver does between its faults. The faults are the tests'.
"""

from __future__ import annotations

import sys
from pathlib import Path

import anyio

from onready import Engine, GraphBuilder
from onready.engine.errors import OnreadyError, RunConflict, RunLeaseHeld, RunNotFound
from onready.engine.graph import Bound
from onready.engine.options import Retry
from tests.docker.engines import SHELL

SCRIPT = """
echo "$ONREADY_INPUT_N $(cat /proc/sys/kernel/hostname)" >> "$LEDGER/lines"
sleep "$ONREADY_INPUT_PAUSE"
while [ "$ONREADY_INPUT_LAST" = 1 ] && [ ! -e "$LEDGER/gate" ]; do sleep 0.1; done
echo "square of $ONREADY_INPUT_N"
echo "loud $ONREADY_INPUT_N" >&2
echo $((ONREADY_INPUT_N * ONREADY_INPUT_N)) > answer.txt
"""


def squares(folder: Path, count: int, pause: float) -> Bound[list[object]]:
    """So many containers, each of which leaves a line in a ledger and a file behind.

    The last one waits for the file `gate` in the ledger: so the run does not end before its test
    wants it to.
    """
    ledger = folder / "ledger"
    ledger.mkdir(exist_ok=True)
    g = GraphBuilder("squares")
    answers = [
        g.container(
            SHELL,
            ["sh", "-c", SCRIPT],
            name=f"n{number}",
            inputs={"n": number, "pause": pause, "last": int(number == count - 1)},
            outputs=["answer.txt"],
            environment={"LEDGER": "/ledger"},
            options={"mounts": [f"{ledger}:/ledger"]},
            retry=Retry(30, on=("evicted", "lost")),
        )
        for number in range(count)
    ]
    return g.build(answers)


async def drive(folder: Path, host: str, count: int, pause: float) -> str:
    """Start the run, or go on with it: what became of it."""
    settings = {"type": "docker", "host": host, "limit": 8, "patience": 60.0, "deadline": 10.0}
    bound = squares(folder, count, pause)
    async with Engine(folder=folder, lease=1.0, grace=0.5, backends={"docker": settings}) as engine:
        while True:
            try:
                run = await engine.resume("r", bound)
            except RunNotFound:
                run = await engine.start(bound, id="r")
            except RunConflict:  # it had ended when its driver was killed
                run = await engine.start(bound, id="r")
            except RunLeaseHeld:
                await anyio.sleep(0.1)
                continue
            print("drives", flush=True)
            outcome = await run.wait()
            if outcome.status != "succeeded":
                return f"{outcome.status} {outcome.failures!r} {outcome.error!r}"
            values = [part["answer.txt"].path.read_text().strip() for part in outcome.value or []]  # type: ignore[index] # files by path
            return f"succeeded {' '.join(values)}"


def main(words: list[str]) -> None:
    """The program: FOLDER HOST COUNT PAUSE."""
    try:
        said = anyio.run(drive, Path(words[0]), words[1], int(words[2]), float(words[3]))
    except OnreadyError as error:
        said = f"error {error}"
    print(said.replace("\n", " "), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
