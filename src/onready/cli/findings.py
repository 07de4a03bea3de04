"""What a check of `onready doctor` found.

Rule of this room: data only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found: a level, what there is, and what to do about it."""

    check: str
    level: Level
    text: str
    cure: str = ""
