"""How many threads native libraries may use in a worker that shares the machine with others.

Rule of this room: names of variables and one division.
"""

from __future__ import annotations

import os
from typing import Final

THREADS: Final = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "BLIS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "NUMEXPR_MAX_THREADS",
    "RAYON_NUM_THREADS",
    "POLARS_MAX_THREADS",
)


def thread_limits(cpus: int, workers: int) -> dict[str, str]:
    """How many threads each native library may use, so that all workers together fit.

    What the user has set stays.
    """
    share = str(max(1, cpus // max(1, workers)))
    return {name: share for name in THREADS if name not in os.environ}
