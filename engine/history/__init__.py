"""The history checker: is what a run log holds of a run a story that can have happened?

`check_history` takes the events of one run, and its plan where it is at hand, and gives what is
wrong with them. Simulations and crash tests judge with it, and users do (`onready verify RUN`).

Rule of this room: pure functions over recorded facts. It shares no code with the scheduler, so
that a mistake there is not repeated here.
"""

from __future__ import annotations

from onready.engine.history.checker import check_history
from onready.engine.history.rules import RULES, Violation

__all__ = ["RULES", "Violation", "check_history"]
