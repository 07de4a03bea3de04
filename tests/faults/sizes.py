"""How much the fault suite tries: a little in the ordinary test run, much behind `make faults`.

Rule of this room: numbers only. The figures are those of the fault table in the docs.
"""

from __future__ import annotations

import os
from typing import Final

NIGHTLY: Final = os.environ.get("ONREADY_FAULTS") == "nightly"
"""Set by `make faults`."""


def size(ordinary: int, nightly: int) -> int:
    """The number of rounds, seeds or kills: `ordinary` in `make test`, `nightly` in `make faults`."""
    return nightly if NIGHTLY else ordinary
