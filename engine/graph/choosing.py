"""Choices: `branch`, `switch` and `rescue`, traced or built.

Rule of this room: what is given becomes arms and one node; which arm runs is the scheduler's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar, cast, overload

from onready.engine.graph.codes import Code
from onready.engine.graph.composites import ArmCall, Choice, add_choice, arm_of, union_of
from onready.engine.graph.definition import Bound
from onready.engine.graph.functions import MISSING
from onready.engine.graph.locate import here
from onready.engine.graph.recorder import Recorder, recording
from onready.engine.graph.refs import Ref, entries_of
from onready.engine.graph.settings import truth

A = TypeVar("A")
B = TypeVar("B")
K = TypeVar("K", str, int, bool)

_ARM: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}\Z")
_DEFAULT: Final = "default"


def branch(
    test: bool,
    then: Bound[A],
    otherwise: Bound[B],
    *,
    name: str = "",
    after: Sequence[object] = (),
    always: bool = False,
) -> A | B:
    """Run `then` if `test` is true, else `otherwise`; the value is that of the one that ran.

    Both are calls that are bound and not made: `inc.bind(ref)`. Only the nodes of the chosen one
    run. `name` names the node, `after` are results of calls that must end well first, `always`
    makes it run whatever became of those. GraphError outside a graph, and for what is no arm.
    """
    made = record_branch(recording("branch"), test, then, otherwise, name, after, always)
    return cast("A | B", made)


def record_branch(
    recorder: Recorder,
    test: object,
    then: object,
    otherwise: object,
    name: str,
    after: Sequence[object],
    always: object,
) -> Ref:
    """Add a branch to `recorder`; the ref of its value."""
    arms = (
        arm_of(recorder, "branch", "then", then),
        arm_of(recorder, "branch", "otherwise", otherwise),
    )
    choice = Choice("branch", arms, bool)
    given = {"test": test}
    return add_choice(
        recorder, choice, "branch", given, name, entries_of(after), truth("always", always)
    )


@overload
def switch(
    value: K,
    arms: Mapping[K, Bound[A]],
    default: None = None,
    *,
    name: str = "",
    after: Sequence[object] = (),
    always: bool = False,
) -> A: ...
@overload
def switch(
    value: K,
    arms: Mapping[K, Bound[A]],
    default: Bound[B],
    *,
    name: str = "",
    after: Sequence[object] = (),
    always: bool = False,
) -> A | B: ...
def switch(
    value: object,
    arms: Mapping[K, Bound[A]],
    default: Bound[B] | None = None,
    *,
    name: str = "",
    after: Sequence[object] = (),
    always: bool = False,
) -> object:
    """Run the arm whose key is equal to `value`; its value goes on.

    Keys are texts, whole numbers or truth values, and match by type too: `1` is not `True`.
    Without a match `default` runs; without a default the node fails and names the value and the
    keys. The other arguments are those of `branch`. GraphError.
    """
    return record_switch(recording("switch"), value, arms, default, name, after, always)


def record_switch(
    recorder: Recorder,
    value: object,
    arms: object,
    default: object,
    name: str,
    after: Sequence[object],
    always: object,
) -> Ref:
    """Add a switch to `recorder`; the ref of its value."""
    found = _arms(recorder, arms, taken={_DEFAULT} if default is not None else set())
    kinds = union_of({type(arm.key): None for arm in found})
    if default is not None:
        found.append(arm_of(recorder, "switch", _DEFAULT, default))
    choice = Choice("switch", tuple(found), kinds)
    given = {"value": value}
    return add_choice(
        recorder, choice, "switch", given, name, entries_of(after), truth("always", always)
    )


def _arms(recorder: Recorder, arms: object, taken: set[str]) -> list[ArmCall]:
    if not isinstance(arms, Mapping) or not arms:
        message = f"the arms of switch are {arms!r:.60}"
        raise Code.G034.error(message, here())
    found: list[ArmCall] = []
    for number, (key, bound) in enumerate(cast("Mapping[object, object]", arms).items(), 1):
        _check_key(key)
        known = cast("str | int | bool", key)
        text = _arm_name(known)
        if text in taken or not _ARM.match(text):
            text = f"case-{number}"
            while text in taken:
                text += "-2"
        taken.add(text)
        found.append(arm_of(recorder, "switch", text, bound, known))
    return found


def _arm_name(key: str | int | bool) -> str:
    return str(key).lower() if isinstance(key, bool) else str(key)


def _check_key(key: object) -> None:
    from onready.engine.values.scalars import is_scalar

    if type(key) not in {str, int, bool} or not is_scalar(key):
        message = f"the key {key!r:.60} of switch is a {type(key).__name__} that cannot be one"
        raise Code.G034.error(message, here())


def rescue(
    body: Bound[A],
    handler: Bound[B],
    *,
    name: str = "",
    after: Sequence[object] = (),
    always: bool = False,
) -> A | B:
    """Run `body`; if it fails for good run `handler`, whose value then goes on.

    Tasks of the handler, at any depth, receive what failed in a parameter
    `failure: Failure = Provided(Failure)`. The other arguments are those of `branch`. GraphError.
    """
    made = record_rescue(recording("rescue"), body, handler, name, after, always)
    return cast("A | B", made)


def record_rescue(
    recorder: Recorder,
    body: object,
    handler: object,
    name: str,
    after: Sequence[object],
    always: object,
) -> Ref:
    """Add a rescue to `recorder`; the ref of its value."""
    arms = (
        arm_of(recorder, "rescue", "body", body),
        arm_of(recorder, "rescue", "handler", handler),
    )
    choice = Choice("rescue", arms, MISSING)
    return add_choice(
        recorder, choice, "rescue", {}, name, entries_of(after), truth("always", always)
    )
