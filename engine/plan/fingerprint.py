"""The fingerprint of a plan: one hash over everything that decides what a run does.

Each fragment is hashed by itself and enters its parent by its digest, so that a body which many
nodes share is read once. The encoding is msgpack of the plan's own structures with sorted keys:
the same in every process, and different for 1, 1.0, True and "1".

Rule of this room: reads the plan, changes nothing, runs nothing. Where a call was written
(`where`) is not part of the hash; every other field of a node is, also those added later.
"""

from __future__ import annotations

from operator import attrgetter
from typing import Final

import msgspec
from blake3 import blake3

from onready.engine.plan.model import Fragment, PlanNode, TaskSpec
from onready.engine.plan.shape import inner_first
from onready.engine.values.stored import Live

FINGERPRINT_VERSION: Final = 1
"""Raised when the encoding changes its meaning, so that old hashes cannot match by accident."""

_LEFT_OUT: Final = frozenset({"where", "body", "arms"})
_fields = attrgetter(*(name for name in PlanNode.__struct_fields__ if name not in _LEFT_OUT))


def fingerprint(root: Fragment, tasks: tuple[TaskSpec, ...]) -> str:
    """The BLAKE3 hash, in hex (64 characters), of a plan's structure, options and sources.

    A live object among the constants counts by its class alone: it has no bytes.
    """
    encoder = msgspec.msgpack.Encoder(enc_hook=_class_of, order="deterministic")
    digests: dict[int, bytes] = {}
    for fragment in inner_first(root):
        nodes = [
            (
                _fields(node),
                None if node.body is None else digests[id(node.body)],
                [(arm.name, arm.key, arm.args, digests[id(arm.body)]) for arm in node.arms],
            )
            for node in fragment.nodes
        ]
        record = (fragment.name, fragment.params, nodes, fragment.result)
        digests[id(fragment)] = blake3(encoder.encode(record)).digest()
    whole = (FINGERPRINT_VERSION, digests[id(root)], tasks)
    return blake3(encoder.encode(whole)).hexdigest()


def _class_of(value: object) -> object:
    if isinstance(value, Live):
        kind = type(value.value)
        return ["live", f"{kind.__module__}.{kind.__qualname__}"]
    message = f"plans hold no {type(value).__name__}"
    raise TypeError(message)
