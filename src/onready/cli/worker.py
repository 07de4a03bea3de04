"""`onready execute-single-node`: one attempt, in a process of its own.

Rule of this room: hands over to the engine's worker and imports nothing else.
"""

from __future__ import annotations

from onready.engine.worker import main


def execute(arguments: list[str]) -> int:
    """Run the attempt whose envelope is named: 0 done, 1 it failed, 64 no envelope, 75 again."""
    return main(arguments)
