"""Ids and names of runs: how new ones are made, and whether a known one is meant.

Rule of this room: no store is asked.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Mapping
from importlib import import_module

import anyio.to_thread

from onready.engine.errors import RunConflict
from onready.engine.plan.model import Plan
from onready.engine.values.stored import Stored


def check_same(
    run_id: str,
    fingerprint: str,
    values: Mapping[str, Stored],
    plan: Plan,
    inputs: Mapping[str, Stored],
) -> None:
    """RunConflict unless the run with that id has this plan and these inputs."""
    what = "plan" if fingerprint != plan.fingerprint else ""
    what = what or ("inputs" if dict(values) != dict(inputs) else "")
    if what:
        message = f"run {run_id} exists with another {what}; give this one another id"
        raise RunConflict(message)


def new_id() -> str:
    """A run id that sorts by time: seconds in UTC, and 40 random bits."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(5)}"


async def friendly_name() -> str:
    """A name for people: two words and a number. May be taken."""
    if "coolname" not in sys.modules:
        # In a thread: its import reads word lists.
        await anyio.to_thread.run_sync(import_module, "coolname")
    from coolname import generate_slug

    return f"{generate_slug(2)}-{secrets.randbelow(100)}"
