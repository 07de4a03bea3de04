"""Options of a node that the user sets: retries, resources.

Rule of this room: plain data with checks; imports `names` and `errors` only.
"""

from __future__ import annotations

import re
from typing import Final, Literal

import msgspec

from onready.engine.errors import FailureKind

OnError = Literal["stop", "continue", "cancel"]
"""What a run does when a node failed for good (DESIGN.md, failure policy)."""

_MEMORY: Final = re.compile(r"(?P<number>[0-9]+(?:\.[0-9]+)?)(?P<unit>Ki|Mi|Gi|Ti|K|M|G|T|k)?\Z")
_UNITS: Final = {
    "": 1,
    "k": 1000,
    "K": 1000,
    "M": 1000**2,
    "G": 1000**3,
    "T": 1000**4,
    "Ki": 1024,
    "Mi": 1024**2,
    "Gi": 1024**3,
    "Ti": 1024**4,
}


def parse_memory(text: str) -> int:
    """Bytes for a quantity such as `512Mi` or `2G` (Kubernetes' notation); ValueError else."""
    match = _MEMORY.match(text.strip())
    if match is None:
        message = f"not an amount of memory: {text!r}; write for example '512Mi' or '2Gi'"
        raise ValueError(message)
    return int(float(match["number"]) * _UNITS[match["unit"] or ""])


class Resources(msgspec.Struct, frozen=True, kw_only=True):
    """What one attempt of a node needs.

    `cpu` in cores, `memory` as a quantity (`"512Mi"`), `gpu` in whole devices. Local backends
    run no more at once than fits; containers and pods ask for them.
    """

    cpu: float = 0.0
    memory: str = ""
    gpu: int = 0

    def __post_init__(self) -> None:
        if self.cpu < 0 or self.gpu < 0:
            message = "Resources: cpu and gpu cannot be negative"
            raise ValueError(message)
        if self.memory:
            parse_memory(self.memory)

    @property
    def memory_bytes(self) -> int:
        """`memory` in bytes; 0 where none is asked for."""
        return parse_memory(self.memory) if self.memory else 0


class RetryPolicy(msgspec.Struct, frozen=True):
    """How often and when a failed node is tried again: the form that is in the plan.

    `limit` is the number of retries after the first attempt. The wait before retry n (from 1) is
    `backoff * factor ** (n - 1)` seconds, at most `max_delay`; with `jitter` a random share of
    it (full jitter). `kinds` and `types` restrict what is retried: failure kinds, and names of
    exception classes as `module.qualname`; both empty means everything but `config`.
    """

    limit: int = 0
    backoff: float = 0.0
    factor: float = 2.0
    jitter: bool = False
    max_delay: float = 300.0
    kinds: tuple[FailureKind, ...] = ()
    types: tuple[str, ...] = ()


class Retry:
    """Retry policy of a node: `Retry(3, backoff=1.0, jitter=True, on=(OSError, "timeout"))`.

    `limit` is the number of retries after the first attempt. Before retry n the engine waits
    `backoff * factor ** (n - 1)` seconds, at most `max_delay`; `jitter=True` draws the wait
    evenly from 0 up to that (full jitter, after the AWS architecture blog's measure of it).
    `on` restricts retries to these exception classes and failure kinds. ValueError on bounds.
    """

    __slots__ = ("policy",)

    def __init__(
        self,
        limit: int,
        *,
        backoff: float = 0.0,
        factor: float = 2.0,
        jitter: bool = False,
        max_delay: float = 300.0,
        on: tuple[type[BaseException] | FailureKind, ...] = (),
    ) -> None:
        if limit < 0 or backoff < 0 or factor < 1 or max_delay < 0:
            message = "Retry: limit, backoff and max_delay cannot be negative, factor is at least 1"
            raise ValueError(message)
        kinds: list[FailureKind] = []
        types: list[str] = []
        for item in on:
            if isinstance(item, type):
                types.append(class_name(item))
            else:
                kinds.append(item)
        self.policy = RetryPolicy(
            limit, backoff, factor, jitter, max_delay, tuple(kinds), tuple(types)
        )

    def __repr__(self) -> str:
        return f"Retry({self.policy})"


def class_name(cls: type[BaseException]) -> str:
    """The name under which a failure lists an exception class: `module.qualname`."""
    return f"{cls.__module__}.{cls.__qualname__}"
